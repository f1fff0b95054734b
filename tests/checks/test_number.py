"""Numbers: right within the tolerance, known mistakes, percent, and words for all others."""

import numpy as np
import pytest
import torch

from tests.checks.samples_of_exercises import SHARE


@pytest.mark.parametrize("answer", [0.25, 0.2401, 0.2599, np.float32(0.25), torch.tensor(0.25), np.array([0.25])])
def test_right_in_any_form(answer):
    assert SHARE.judge(answer).passed


@pytest.mark.parametrize(
    ("answer", "mistake"),
    [
        (0.5, "half"), (0, "none"), (25, "in percent"), (None, "not started"), (..., "not started"),
        ("0.25", "no number"), (True, "no number"), (float("nan"), "no number"), ([0.25], "no number"),
        (torch.zeros(2), "no number"), (0.3, None), (-4, None),
    ],
)  # fmt: skip
def test_other_answers(answer, mistake):
    verdict = SHARE.judge(answer)
    assert not verdict.passed and verdict.mistake == mistake


def test_an_unknown_number_is_told_its_side():
    assert "too large. Look again." in SHARE.judge(0.3).message
    assert "too small. Look again." in SHARE.judge(0.2).message
