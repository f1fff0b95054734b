"""Gradients and optimizers: parts broken on purpose, and sound ones that look odd."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from llm_lab.config import BERT_SHAPE
from llm_lab.train.doctor.parameters import examine_parameters, listed
from llm_lab.ward import TrainingRun
from tests.train.doctor.runs import SMALL, names, small


def test_a_part_that_is_cut_off():
    subject = small()
    inner = subject.model.encoder.blocks[0].feed_forward.forward
    subject.model.encoder.blocks[0].feed_forward.forward = lambda x: inner(x).detach()
    (finding,) = examine_parameters(subject)
    assert finding.name == "parameters without gradient" and "feed_forward" in finding.sentence
    assert "attention" not in finding.sentence


def test_matrices_that_start_at_zero_hold_gradients_back_for_one_step_only():
    run = TrainingRun(**SMALL)
    for block in run.model.encoder.blocks:
        torch.nn.init.zeros_(block.attention.output.weight)
    batch = run.stream.batch(0)
    run.backward(batch)
    assert not run.model.encoder.blocks[0].attention.value.weight.grad.any()
    assert examine_parameters(run.subject()) == []


@pytest.mark.parametrize(
    "options", [{}, BERT_SHAPE, {"architecture": "bilstm"}, {"architecture": "lstm"}, {"batch_rows": 1}], ids=str
)
def test_sound_gradients(options):
    assert examine_parameters(small(**options)) == []


def test_gradients_that_are_no_numbers():
    subject = small()
    subject.model.head.bias.register_hook(lambda gradient: gradient * float("nan"))
    assert names(examine_parameters(subject)) == ["gradient not a number"]


def test_a_forgotten_optimizer_and_frozen_parameters():
    subject = small()
    assert names(examine_parameters(replace(subject, optimizers=subject.optimizers[:1]))) == [
        "parameters without optimizer"
    ]
    subject.model.head.bias.requires_grad_(False)
    assert names(examine_parameters(subject)) == ["frozen parameters"]


def test_listed():
    assert listed(["a", "b", "c"]) == "a, b, c" and listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


def test_part_of_a_gradient_is_cut_off_and_no_parameter_is_without():
    """The embedding is tied to the head, which still brings it a gradient."""
    subject = small()
    subject.model.encoder.embedding.register_forward_hook(lambda module, ids, vectors: vectors.detach())
    (finding,) = examine_parameters(subject)
    assert finding.name == "gradient cut off" and "encoder.embedding.weight" in finding.sentence
    subject = small()
    subject.model.head.bias.register_hook(lambda gradient: -gradient)
    (finding,) = examine_parameters(subject)
    assert finding.name == "gradient cut off" and "head.bias" in finding.sentence


def test_a_parameter_in_two_optimizers():
    subject = small()
    second = torch.optim.SGD([subject.model.head.bias], lr=0.1)
    (finding,) = examine_parameters(replace(subject, optimizers=[*subject.optimizers, second]))
    assert finding.name == "parameters in two optimizers" and finding.sentence.startswith("head.bias belong")


def test_a_copy_is_not_tied():
    subject = small()
    subject.model.copied = nn.Parameter(subject.model.encoder.embedding.weight.detach().clone())
    assert "copied, not tied" in names(examine_parameters(subject))


def adam(subject, **options):
    return replace(subject, optimizers=[torch.optim.AdamW(subject.model.parameters(), **{"lr": 1e-3, **options})])


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"betas": (0.999, 0.9)}, "betas swapped"),
        ({"eps": 1e-2}, "epsilon too large"),
        ({"maximize": True}, "optimizer climbs"),
        ({"weight_decay": 60.0}, "weight decay too large"),
        ({"lr": 0.0}, "learning rate zero"),
    ],
)
def test_settings_that_are_never_meant(options, name):
    assert names(examine_parameters(adam(small(), **options))) == [name]
    assert examine_parameters(adam(small(), betas=(0.9, 0.999), eps=1e-6, weight_decay=0.1)) == []


def test_what_is_kept_is_not_what_is_dropped():
    assert names(examine_parameters(small(dropout=0.9))) == ["dropout too high"]


def test_weights_in_half_precision():
    subject = small()
    subject.model.to(torch.bfloat16)
    assert "weights in half precision" in names(examine_parameters(adam(subject)))
