"""The whole examination: no alarm on sound runs of many kinds, nothing touched, and the report's words."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from llm_lab.config import BERT_SHAPE, MaskingConfig
from llm_lab.train.doctor import Finding, Remark, alarms, examination, examine, report
from llm_lab.train.doctor.evaluation import examine_evaluation
from llm_lab.train.doctor.loss import examine_loss
from llm_lab.train.doctor.steps import examine_steps
from llm_lab.ward import PATIENTS, TrainingRun
from llm_lab.ward.data_bugs import OwnMasking
from tests.train.doctor.runs import SMALL, names, small
from tests.train.doctor.test_untouched import begun, equal, state_of


class Mixed(TrainingRun):
    masking = MaskingConfig(rate=0.3, scheme="80/10/10", selection="bernoulli")


class AdamW(TrainingRun):
    optimizer, learning_rate = "adamw", 3e-3


class Accumulated(TrainingRun):
    accumulate = 4


class Cosine(TrainingRun):
    def factor(self, step):
        return 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))


HEALTHY = {
    "the ward's": (TrainingRun, {}),
    "another seed": (TrainingRun, {"seed": 5}),
    "BERT's shape": (TrainingRun, BERT_SHAPE),
    "BERT's shape, AdamW": (AdamW, BERT_SHAPE),
    "BiLSTM": (TrainingRun, {"architecture": "bilstm"}),
    "LSTM": (TrainingRun, {"architecture": "lstm"}),
    "RNN": (TrainingRun, {"architecture": "rnn"}),
    "no positions": (TrainingRun, {"positions": "none"}),
    "two rows": (TrainingRun, {"batch_rows": 2}),
    "AdamW": (AdamW, {}),
    "80/10/10": (Mixed, {}),
    "accumulation": (Accumulated, {}),
    "cosine": (Cosine, {}),
    "high dropout": (TrainingRun, {"dropout": 0.4}),
    "masks of its own": (OwnMasking, {"batch_rows": 4}),
}


REMARKS = {"LSTM": ["reads one side"], "RNN": ["reads one side"], "no positions": ["order unseen"]}


@pytest.mark.parametrize("name", HEALTHY)
def test_no_alarm_on_a_sound_run_and_nothing_is_touched(name):
    kind, options = HEALTHY[name]
    subject = kind(**{**SMALL, **options}).subject()
    before = state_of(subject)
    found = examine(subject)
    assert alarms(found) == []
    assert names(found) == REMARKS.get(name, [])
    assert equal(before, state_of(subject))


@pytest.mark.parametrize("name", ["NeverCleared", "LayerInForward", "DropoutInEvaluation"])
def test_a_finding_leaves_the_run_untouched_too(name):
    subject = PATIENTS[name].run(**SMALL).subject()
    before = state_of(subject)
    assert names(examine(subject)) == [PATIENTS[name].diagnosis]
    assert equal(before, state_of(subject))


@pytest.mark.parametrize("part", ["loss_sum", "update", "evaluate"])
def test_an_error_inside_leaves_the_run_untouched_too(part, monkeypatch):
    monkeypatch.setattr(examination, "ORGANS", (examine_loss, examine_steps, examine_evaluation))
    _, subject = begun()

    def fails(*arguments):
        for p in subject.model.parameters():
            p.data.add_(1)
        raise RuntimeError("broken")

    before = state_of(subject)
    with pytest.raises(RuntimeError, match="broken"):
        examine(replace(subject, **{part: fails}))
    assert equal(before, state_of(subject))


def organs(monkeypatch, *lists):
    """Replace the examinations by ones that give these findings, and note which were done."""
    done = []

    def organ(number, found):
        return lambda subject: done.append(number) or [Finding(name, "") for name in found]

    monkeypatch.setattr(examination, "ORGANS", tuple(organ(i, found) for i, found in enumerate(lists)))
    return done


def test_after_a_fatal_finding_nothing_more_is_examined(monkeypatch):
    for fatal in ("model not repeatable", "logits not numbers"):
        done = organs(monkeypatch, ["mixture"], [fatal], ["wrong loss"])
        assert names(examine(small())) == ["mixture", fatal] and done == [0, 1]


def test_a_symptom_is_left_out_beside_a_cause_and_said_alone(monkeypatch):
    organs(monkeypatch, ["wrong loss"], ["mixture"], ["wrong gradient"])
    assert names(examine(small())) == ["mixture"]
    organs(monkeypatch, ["wrong loss"], ["wrong gradient"])
    assert names(examine(small())) == ["wrong loss", "wrong gradient"]


def test_a_remark_is_no_alarm_and_comes_last(monkeypatch):
    done = []
    remark = Remark("reads one side", "fine if meant")
    monkeypatch.setattr(
        examination, "ORGANS", (lambda s: [remark], lambda s: done.append(1) or [Finding("mixture", "")])
    )
    monkeypatch.setattr(examination, "WAITING", examination.ORGANS[1:])
    found = examine(small())
    assert done and names(found) == ["mixture", "reads one side"] and names(alarms(found)) == ["mixture"]


def test_what_follows_from_a_mask_upside_down_is_left_out(monkeypatch):
    organs(monkeypatch, ["mask upside down"], ["padding changes guesses"])
    assert names(examine(small())) == ["mask upside down"]
    organs(monkeypatch, [], ["padding changes guesses"])
    assert names(examine(small())) == ["padding changes guesses"]


def test_learning_waits_until_nothing_stands_in_its_way(monkeypatch):
    for before, expected in ((["mixture"], [0]), ([], [0, 1])):
        done = organs(monkeypatch, before, [])
        monkeypatch.setattr(examination, "WAITING", examination.ORGANS[1:])
        examine(small())
        assert done == expected


def test_the_report():
    assert report([]) == (
        "No complaint: the batches, model, loss, gradients, optimizer, schedule and loop pass the first checks."
    )
    remark = Remark("reads one side", "fine if meant.")
    assert report([remark]) == f"{report([])}\n1. remark, reads one side: fine if meant."
    two = [Finding("mixture", "targets show this."), Finding("wrong loss", "write it out.")]
    assert report(two) == "1. mixture: targets show this.\n2. wrong loss: write it out."
