"""Designs: facts before the run, the score against the goal, and what goes wrong on the way."""

import time
from dataclasses import replace

import pytest

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.design import Design
from tests.checks.samples_of_exercises import CARD

SPEED = Design(
    id="04.speed",
    stub="def speed():\n    raise NotImplementedError\n",
    right=("tests.checks.samples_of_exercises.scale",),
    facts=lambda answer: {"speed": answer()},
    measure=lambda answer: 10 / answer(),
    goal=2.0,
    unit="seconds",
    about="running ...",
    when={
        "stands": lambda facts: facts["speed"] <= 0,
        "slow": lambda facts: facts.get("score", 0) > 50,
    },
    wrong=catalogue(
        "# stands\nIt must move.\ndef wrong():\n    return 0\n\n# slow\nToo slow.\ndef wrong():\n    return 0.1\n"
    ),
    **CARD,
)


def test_the_score_decides(capsys):
    verdict = SPEED.judge(lambda: 5)
    assert verdict.passed and verdict.score == 2.0 and "2.000 seconds, and the goal is 2" in verdict.message
    verdict = SPEED.judge(lambda: 4)
    assert not verdict.passed and verdict.score == 2.5 and verdict.mistake is None and "One." in verdict.message
    assert capsys.readouterr().out == "04.speed: running ...\n" * 2


def test_mistakes_are_named_before_the_run_or_by_its_score(capsys):
    assert SPEED.judge(lambda: 0).mistake == "stands" and not capsys.readouterr().out
    verdict = SPEED.judge(lambda: 0.1)
    assert verdict.mistake == "slow" and verdict.score == 100 and "Too slow." in verdict.message


def test_a_short_run_has_no_goal(monkeypatch):
    monkeypatch.setenv("LLM_LAB_FAST", "1")
    assert SPEED.judge(lambda: 1).passed


def test_what_goes_wrong():
    def stub():
        raise NotImplementedError

    def fails(answer):
        raise ValueError("no room")

    assert SPEED.judge(stub).mistake == "not started" and SPEED.judge(3).mistake == "no function"
    assert SPEED.judge(lambda: 1 / 0).mistake == "raises"
    run_fails = replace(SPEED, measure=fails).judge(lambda: 5)
    assert run_fails.mistake == "raises" and "the run raises ValueError: no room" in run_fails.message
    assert replace(SPEED, measure=lambda answer: time.sleep(9), limit=0.1).judge(lambda: 5).mistake == "no end"


@pytest.mark.parametrize("seconds", [0.2])
def test_a_design_that_does_not_end(seconds, monkeypatch):
    monkeypatch.setattr("llm_lab.checks.design.SECONDS", seconds)
    assert SPEED.judge(lambda: time.sleep(9)).mistake == "no end"
