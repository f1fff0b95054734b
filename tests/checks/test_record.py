"""What is kept of a reader: written as a whole, never lost, and a damaged file begun anew."""

import json

import pytest

from llm_lab.checks import record


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("LLM_LAB_HOME", str(tmp_path))


def test_tries_are_counted_and_a_pass_stays():
    record.add_try("04.a", False, "adds", 0.3)
    record.add_try("04.a", False, "adds", 0.4)
    record.add_try("04.a", True, None)
    record.add_try("04.a", False, None)
    kept = record.of_exercise("04.a")
    assert kept == {"tries": 4, "passed": True, "hints": 0, "mistakes": ["adds"], "first": 0.3}
    assert record.of_exercise("04.b")["tries"] == 0 and json.loads((record.folder() / "progress.json").read_text())


@pytest.mark.parametrize("damage", [b"{", b"[1]", b'{"04.a": 3}', b"\xff\xfe", b""])
def test_a_damaged_file_is_put_aside_and_said(damage, capsys):
    record.folder().mkdir()
    path = record.folder() / "progress.json"
    for number in (1, 2):
        path.write_bytes(damage)
        assert record.of_exercise("04.a")["tries"] == 0
        assert capsys.readouterr().out == (
            f"progress.json is damaged: it is kept as progress.damaged-{number}.json, and a new one is begun.\n"
        )
        assert (record.folder() / f"progress.damaged-{number}.json").read_bytes() == damage
    record.add_try("04.a", True, None)
    assert record.of_exercise("04.a")["passed"]


def test_strange_entries_of_an_older_version_do_no_harm():
    record.write("progress.json", {"04.a": {"passed": True, "unknown": 1}})
    assert record.of_exercise("04.a")["passed"] and record.of_exercise("04.a")["hints"] == 0


def test_the_leaderboard_is_sorted_and_kept():
    for score in (3.5, 3.2, 3.9):
        runs = record.add_run("04.a", score, "source")
    assert [(run["score"], run["number"]) for run in runs] == [(3.2, 2), (3.5, 1), (3.9, 3)]
    assert record.read("leaderboard.json")["04.a"][0]["source"] == "source"
