"""Predictions: kept as the lessons keep them, and their calibration."""

import pytest

from llm_lab import lessons
from llm_lab.checks import record
from llm_lab.checks.predictions import FILE, Calibration, calibration, predict


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("LLM_LAB_HOME", str(tmp_path))


def test_lessons_and_checks_keep_the_same_file(capsys):
    predict("06.1", 0.3)
    lessons.reveal("06.1", 0.5)
    assert "you predicted 0.3, measured 0.5" in capsys.readouterr().out
    assert record.read(FILE) == {"06.1": {"predicted": 0.3, "measured": 0.5}}


def test_a_truth_is_shown_and_kept_with_its_tolerance(capsys):
    predict("06.1", 0.3, truth=0.33, tolerance=0.05)
    predict("06.2", None, truth=0.5)
    assert record.read(FILE) == {"06.1": {"predicted": 0.3, "measured": 0.33, "tolerance": 0.05}}
    assert "measured 0.33" in capsys.readouterr().out


def test_calibration_counts_near_far_and_sides():
    for number, (value, truth, tolerance) in enumerate(
        [(0.3, 0.31, None), (0.3, 0.33, 0.05), (0.2, 0.5, None), (9, 4, None), (1, None, None)]
    ):
        predict(f"06.{number}", value, truth, tolerance)
    assert calibration() == Calibration(made=5, known=4, near=2, far=2, low=3, high=1)
    assert str(calibration()).startswith("Predictions: 5 made, the truth is known for 4. 2 near it, 2 off by more")


def test_the_first_number_given_to_an_exercise_is_a_prediction():
    record.add_try("04.share_of_masks", False, None, 0.3)
    assert calibration().made == 0  # the truth must not show before it passes
    record.add_try("04.share_of_masks", True, None, 0.216)
    assert calibration() == Calibration(made=1, known=1, near=0, far=0, low=0, high=1)


def test_in_words():
    assert "none yet" in str(Calibration(0, 0, 0, 0, 0, 0))
    assert str(Calibration(2, 0, 0, 0, 0, 0)) == "Predictions: 2 made, the truth is known for 0."
    assert "You tend to guess too low." in str(Calibration(9, 9, 1, 2, 8, 1))
    assert "You tend to guess too high." in str(Calibration(9, 9, 1, 2, 0, 5))
    assert "tend" not in str(Calibration(9, 9, 1, 2, 5, 4))


def test_a_damaged_file_is_put_aside(capsys):
    record.folder().mkdir()
    (record.folder() / FILE).write_text("{")
    predict("06.1", 0.3)
    assert "predictions.json is damaged" in capsys.readouterr().out and record.read(FILE) == {
        "06.1": {"predicted": 0.3}
    }
