"""Choices: letters in any form, misconceptions by name."""

import pytest

from tests.checks.samples_of_exercises import CAUSE


@pytest.mark.parametrize("answer", ["b", "B", " b) ", "(b)"])
def test_right_in_any_form(answer):
    assert CAUSE.judge(answer).passed


@pytest.mark.parametrize(
    ("answer", "mistake"),
    [("a", "not this"), ("c", "not both"), (None, "not started"), ("d", "no such choice"), (2, "no such choice")],
)
def test_other_answers(answer, mistake):
    verdict = CAUSE.judge(answer)
    assert not verdict.passed and verdict.mistake == mistake
    assert CAUSE.shown() == "b) That."
