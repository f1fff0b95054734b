"""18 sick runs and 7 odd healthy ones that were written without a look at the doctor; it was improved on them since."""

from __future__ import annotations

import pytest

from llm_lab.train.doctor import examine
from tests.train.doctor.runs import SMALL, names
from tests.train.odd_runs import HEALTHY
from tests.train.unseen_patients import SICK

NAMED = {
    "FirstBatchAgain": "one batch for ever",
    "ForeignVocabulary": "many unknown words",
    "LabelsAfterMasking": "targets are [MASK]",
    "KeepsInsteadOfHides": "too many targets",
    "EveryWordCounts": "answer visible",
    "LeftOnly": "reads one side",
    "AcrossRows": "rows influence each other",
    "BagOfWords": "order unseen",
    "SoftmaxTwice": "no logits",
    "ShiftedLabels": "loss shifted",
    "SteppedTwice": "parameters in two optimizers",
    "FineTuningRate": "learning rate too small",
    "EndlessWarmup": "schedule below its peak",
    "SchedulePerEpoch": "schedule not followed",
    "StaysInEvaluation": "training in evaluation mode",
    "ClearedEachPart": "gradient of one part",
    "BitsInEvaluation": "evaluation in another unit",
    "StaleCopy": "evaluation of another model",
}


@pytest.mark.parametrize("kind", [unseen.run for unseen in SICK], ids=lambda kind: kind.__name__)
def test_it_is_named(kind):
    found = names(examine(kind(**SMALL).subject()))
    also = {"too many targets"} if kind.__name__ == "EveryWordCounts" else set()
    assert {NAMED[kind.__name__]} <= set(found) <= {NAMED[kind.__name__], *also}


@pytest.mark.parametrize("kind", HEALTHY, ids=lambda kind: kind.__name__)
def test_no_alarm_and_no_remark_on_an_odd_run(kind):
    found = examine(kind(**SMALL).subject())
    assert found == []
