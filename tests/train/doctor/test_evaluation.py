"""The evaluation's examination: noise of two kinds, and a sound one."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch

from llm_lab.train.doctor.evaluation import examine_evaluation
from llm_lab.ward.run import mean_loss
from tests.train.doctor.runs import names, small


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
    losses = iter([torch.tensor(5.0), torch.tensor(5.00001)])
    assert examine_evaluation(replace(small(), evaluate=lambda: next(losses))) == []
    losses = iter([5.0, 5.001])
    assert names(examine_evaluation(replace(small(), evaluate=lambda: next(losses)))) == ["evaluation not repeatable"]


def test_the_hooks_are_gone_after_an_error():
    subject = small()
    with pytest.raises(ZeroDivisionError):
        examine_evaluation(replace(subject, evaluate=lambda: 1 / 0))
    assert not any(module._forward_pre_hooks for module in subject.model.modules())
