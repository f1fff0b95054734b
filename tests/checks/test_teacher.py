"""What a reader calls: the words that are printed, and what is kept."""

import pytest
import torch

from llm_lab.checks import check, evidence, hint, progress, record, show_me, teacher
from llm_lab.checks.solutions import find as solution


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("LLM_LAB_HOME", str(tmp_path))
    monkeypatch.setenv("LLM_LAB_FAST", "1")


def test_a_right_answer(capsys):
    assert check("04.may_be_hidden", solution("04", "may_be_hidden")).passed
    printed = capsys.readouterr().out
    assert printed.startswith("04.may_be_hidden: right. 24 inputs agree") and "Your code is kept" in printed
    assert record.of_exercise("04.may_be_hidden")["passed"]


def test_a_wrong_answer_and_then_the_hints(capsys):
    for number in (1, 2):
        verdict = check("04.may_be_hidden", lambda ids, special_ids: ids >= len(special_ids))
        assert verdict.mistake == "the first ids"
        assert ("hint('04.may_be_hidden') says more (3 of 3 left)" in capsys.readouterr().out) == (number == 2)
    for _ in range(3):
        hint("04.may_be_hidden")
    check("04.may_be_hidden", lambda ids, special_ids: ids > 0)
    assert "show_me('04.may_be_hidden') explains" in capsys.readouterr().out
    assert record.of_exercise("04.may_be_hidden")["tries"] == 3


def test_a_stub_is_no_try(capsys):
    def stub(ids, special_ids):
        raise NotImplementedError

    check("04.may_be_hidden", stub)
    check("04.share_of_masks", None)
    assert "not started yet. Do this first: make ids by hand" in capsys.readouterr().out
    assert not record.read("progress.json")


def test_hints_come_one_by_one_and_can_be_read_again(capsys):
    for _ in range(4):
        hint("04.labels")
    lines = capsys.readouterr().out
    assert [lines.count(f"hint {n} of 3") for n in (1, 2, 3)] == [2, 2, 2]
    show_me("04.labels")
    assert "def labels(ids, targets, mask_id)" in capsys.readouterr().out


def test_show_me_waits_for_the_hints_unless_it_is_passed(capsys):
    hint("04.share_of_masks")
    hint("04.share_of_masks")
    show_me("04.share_of_masks")
    assert "there is a hint left" in capsys.readouterr().out
    check("04.share_of_masks", 0.216)
    show_me("04.share_of_masks")
    assert "share_of_masks = 0.216" in capsys.readouterr().out


def test_evidence_is_shown(capsys):
    evidence("04.two_draws")
    assert capsys.readouterr().out == "[MASK]         0.800\na random word  0.020\nits own word   0.180\n"
    with pytest.raises(ValueError, match="has no evidence"):
        evidence("04.labels")


def test_progress_lists_lessons_and_predictions(capsys):
    progress()
    fresh = capsys.readouterr().out
    assert "lesson 04   ........     0 of 8" in fresh and "next " in fresh and "Predictions: none yet" in fresh
    check("04.share_of_masks", 0.3)
    check("04.share_of_masks", 0.216)
    capsys.readouterr()
    progress()
    printed = capsys.readouterr().out
    assert "lesson 04   #.......     1 of 8" in printed and "Predictions: 1 made" in printed


def test_runs_of_a_design_enter_the_leaderboard(capsys, monkeypatch):
    scores = iter([3.9, 3.5, 3.7])
    exercise = teacher.find("04.mask_rate")
    monkeypatch.setitem(vars(exercise), "measure", lambda answer: next(scores))
    for _ in range(3):
        check("04.mask_rate", lambda step, steps: 0.3)
    printed = capsys.readouterr().out
    assert "  1. 3.500   your run 2\n  2. 3.700   your run 3  <- this one\n  3. 3.900   your run 1\n" in printed


def test_long_texts_are_wrapped_and_indented_lines_stay(capsys):
    teacher.say("word " * 60 + "\n  x = [[1, 2]]\n\nLast\nline.")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= teacher.WIDTH and lines[-2:] == ["  x = [[1, 2]]", "Last line."]


def test_a_difference_is_drawn_in_a_notebook(monkeypatch):
    drawn = []
    monkeypatch.setattr(teacher, "show_difference", drawn.append)
    check("04.may_be_hidden", lambda ids, special_ids: torch.zeros_like(ids, dtype=torch.bool))
    assert drawn[0].kind == "values"
