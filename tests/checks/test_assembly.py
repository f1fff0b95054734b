"""Assemblies: sound parts for the look, the reader's own for the run, and a sentence for a part that is not there."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from llm_lab.checks import answers
from llm_lab.checks.assembly import Assembly
from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.lessons import lesson_12_look, lesson_12_runs, lesson_12_trainer
from llm_lab.checks.registry import find
from llm_lab.checks.solutions import swapped
from tests.checks.samples_of_exercises import CARD

TWICE = Assembly(
    id="04.twice",
    stub="def twice(parts):\n    raise NotImplementedError\n",
    right=("tests.checks.samples_of_exercises.scale",),
    needs={"labels": "04.labels", "allowed": "04.may_be_hidden"},
    facts=lambda answer: {"fault": "" if answer(TWICE.sound_parts()) > 0 else "stands"},
    measure=lambda answer, parts, tell: answer(parts),
    rival=lambda tell: 2.0,
    goal=0.5,
    unit="nats",
    about="running ...",
    wrong=catalogue("# stands\nIt must move.\ndef wrong(parts):\n    return 0\n"),
    **CARD,
)


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("LLM_LAB_HOME", str(tmp_path))


def keep(*ids):
    for id in ids:
        assert answers.keep(id, find(id).right_answers()[0][1]) == ""


def spoil(id, *pairs):
    path = answers.path_of(id)
    path.write_text(swapped(path.read_text(), pairs))


def test_a_stub_and_a_fault_come_before_missing_parts():
    def stub(parts):
        raise NotImplementedError

    assert TWICE.judge(stub).mistake == "not started" and TWICE.judge(lambda parts: 0).mistake == "stands"


def test_a_missing_part_is_named():
    verdict = TWICE.judge(lambda parts: 1)
    assert verdict.mistake == "a part is missing" and "do exercise 04.labels first" in verdict.message
    keep("04.labels")
    verdict = TWICE.judge(lambda parts: 1)
    assert "do exercise 04.may_be_hidden first" in verdict.message and verdict.score is None


def test_both_losses_are_told_and_the_difference_decides(capsys):
    keep("04.labels", "04.may_be_hidden")
    verdict = TWICE.judge(lambda parts: 2.4)
    assert verdict.passed and verdict.score == pytest.approx(0.4) and "04.twice: running" in capsys.readouterr().out
    assert "your loss is 2.400 nats, the package's 2.000: 0.400 behind it" in verdict.message
    assert "0.500 ahead of it" in TWICE.judge(lambda parts: 1.5).message
    verdict = TWICE.judge(lambda parts: 2.6)
    assert not verdict.passed and verdict.mistake is None and "Every part passes its own check" in verdict.message
    assert TWICE.judge(lambda parts: float("inf")).mistake == "raises"


def test_a_part_that_broke_is_named(monkeypatch):
    keep("04.labels", "04.may_be_hidden")
    spoil("04.labels", ("masked_fill(~targets, -100)", "masked_fill(~targets, 0)"))
    sound = TWICE.sound_parts().labels
    for answer in (lambda parts: 2.6, lambda parts: 1 / (parts.labels is sound)):  # behind, and an error in the run
        verdict = TWICE.judge(answer)
        assert verdict.mistake == "a part is broken" and "04.labels is not what it was" in verdict.message
        assert '"0 for not asked"' in verdict.message  # what its own check says
    answers.path_of("04.may_be_hidden").write_text("answer = nobody\n")
    verdict = TWICE.judge(lambda parts: 1)
    assert verdict.mistake == "a part is broken" and "04_may_be_hidden.py does not run" in verdict.message


# -- the trainer of lesson 12 -----------------------------------------------------------------------------------------


def test_every_fault_that_is_looked_for_is_in_the_catalogue():
    source = Path(lesson_12_look.__file__).read_text(encoding="utf-8")
    looked_for = set(re.findall(r'(?:yield|return) "([a-z][a-z, ]+)"', source))
    assert looked_for == {wrong.name for wrong in lesson_12_trainer.TRAINER.wrong}


def test_parts_of_the_reader_are_listed(capsys):
    keep("04.labels")
    lesson_12_trainer.your_parts()
    shown = capsys.readouterr().out
    assert "parts.labels        kept" in shown and "parts.train         missing: do exercise 09.loop first" in shown


def test_a_short_run_on_both_sides(monkeypatch):
    """The same steps on the same text: in forty steps both have learnt the word frequencies, and little else."""
    monkeypatch.setenv("LLM_LAB_FAST", "1")
    plan = replace(lesson_12_runs.plan_of(lesson_12_runs.text()), steps=40, warmup=4)
    monkeypatch.setattr(lesson_12_runs, "plan_of", lambda text: plan)
    lesson_12_runs.package_run.cache_clear()
    exercise, told = lesson_12_trainer.TRAINER, []
    own = exercise.measure(exercise.right_answers()[0][1], exercise.sound_parts(), told.append)
    theirs = exercise.rival(told.append)
    lesson_12_runs.package_run.cache_clear()
    assert abs(own - theirs) < 0.3 and 4.5 < own < 5.9, (own, theirs)
    assert sum("step" in line for line in told) >= 8 and "parameters" in told[-1]
