"""Eight sick runs and four odd healthy ones written for a last measurement, blind both ways.

Their author had not seen the doctor's checks. At its first sight of them the doctor named 7 of 8, and it was not tuned on
them; 1 of 4 healthy ones alarmed. Some checks changed a little afterwards. Whoever improves it on them needs new ones.
"""

from __future__ import annotations

import pytest

from llm_lab.train.doctor import examine
from tests.train.blind_healthy import HEALTHY
from tests.train.blind_patients import SICK
from tests.train.doctor.runs import names

NAMED = {
    "SortedCorpus": ["rows not shuffled"],
    "HardCodedMask": ["another mask token"],
    "PaddingRead": ["padding is read"],
    "LogForgotten": ["no logarithm"],
    "DecayInGradient": [],  # missed: L2 in Adam's gradient looks like a gradient
    "CosineOfEpochs": ["schedule zigzags"],
    "LastPartReported": ["reported loss"],
    "NothingHiddenInEvaluation": ["exam hides nothing"],
}
# PyTorch's own encoder gives NaN on a row of padding alone; its stream never has one, so the alarm is a false one.
ALARMED = {"PyTorchParts": ["empty row gives NaN"]}


@pytest.mark.parametrize("kind", [unseen.run for unseen in SICK], ids=lambda kind: kind.__name__)
def test_what_it_says_of_a_run_that_it_had_not_seen(kind):
    assert names(examine(kind(steps=300).subject())) == NAMED[kind.__name__]


@pytest.mark.parametrize("kind", HEALTHY, ids=lambda kind: kind.__name__)
def test_what_it_says_of_an_odd_healthy_run(kind):
    assert names(examine(kind(steps=300).subject())) == ALARMED.get(kind.__name__, [])
