"""The evaluation's examination: noise of two kinds, and a sound one."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace

import pytest
import torch

from llm_lab.train.doctor.evaluation import examine_evaluation
from llm_lab.ward import TrainingRun
from llm_lab.ward.run import mean_loss
from tests.train.doctor.runs import SMALL, names, small


def test_a_sound_evaluation_and_none():
    assert examine_evaluation(small()) == []
    assert examine_evaluation(replace(small(), evaluate=None)) == []


def test_dropout_in_evaluation_even_when_the_mode_was_set_once():
    subject = small(dropout=0.3)
    batch = subject.stream.batch(0)
    subject.model.eval()
    (finding,) = examine_evaluation(replace(subject, evaluate=lambda: mean_loss(subject.model, [batch])))
    assert finding.name == "dropout in evaluation" and "call model.eval()" in finding.sentence


def test_other_numbers_each_time_are_said():
    losses = itertools.count(5.0)
    (finding,) = examine_evaluation(replace(small(), evaluate=lambda: next(losses)))
    assert finding.name == "evaluation not repeatable" and "5.000, then 6.000" in finding.sentence


def test_rounding_is_no_noise():
    losses = itertools.cycle([torch.tensor(5.0), torch.tensor(5.00001)])
    assert examine_evaluation(replace(small(), evaluate=lambda: next(losses))) == []
    losses = iter([5.0, 5.001])
    assert names(examine_evaluation(replace(small(), evaluate=lambda: next(losses)))) == ["evaluation not repeatable"]


def test_the_hooks_are_gone_after_an_error():
    subject = small()
    with pytest.raises(ZeroDivisionError):
        examine_evaluation(replace(subject, evaluate=lambda: 1 / 0))
    assert not any(module._forward_pre_hooks for module in subject.model.modules())


def test_an_evaluation_that_takes_steps():
    run = TrainingRun(**SMALL, dropout=0.0)
    subject = replace(run.subject(), evaluate=lambda: run.update(5)["loss"])
    assert names(examine_evaluation(subject)) == ["evaluation trains"]


def test_the_evaluation_of_an_old_copy_and_of_an_average():
    run = TrainingRun(**SMALL)
    average = copy.deepcopy(run.model).eval()
    stale = replace(run.subject(), evaluate=lambda: mean_loss(average, run.held_out))
    assert names(examine_evaluation(stale)) == ["evaluation of another model"]

    def update(step):
        run.update(step)
        with torch.no_grad():
            for mine, its in zip(average.parameters(), run.model.parameters(), strict=True):
                mine.lerp_(its, 0.1)

    assert examine_evaluation(replace(stale, update=update)) == []


def test_an_evaluation_without_the_mask():
    run = TrainingRun(**SMALL)
    bare = [replace(batch, mask=None) for batch in run.held_out]

    def evaluate():
        run.model.eval()
        return mean_loss(run.model, bare)

    assert names(examine_evaluation(replace(run.subject(), evaluate=evaluate))) == ["padding is read in evaluation"]
