"""The loss' examination: each known mistake, written as one writes it, is named."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from llm_lab.train.doctor.loss import examine_loss
from llm_lab.ward import DATASET, TrainingRun
from tests.train.doctor.runs import SMALL, names, small

STOP = DATASET.tokenizer.id_of(".")


def flat(model, batch):
    return model(batch.inputs, batch.mask, batch.positions).flatten(0, 1), batch.targets.flatten()


def rows(model, batch):
    logits = model(batch.inputs, batch.mask, batch.positions)
    losses = [F.cross_entropy(x, y) for x, y in zip(logits, batch.targets, strict=True)]
    return torch.stack([loss for loss in losses if loss.isfinite()] or losses).mean()


def filler(model, batch, reduction="sum"):
    logits, targets = flat(model, batch)
    return F.cross_entropy(logits, targets.clamp(min=0), reduction=reduction)


def book(model, batch):
    return F.cross_entropy(*flat(model, batch), reduction="sum")


def softmax_twice(model, batch):
    logits, targets = flat(model, batch)
    return F.cross_entropy(logits.softmax(-1), targets, reduction="sum")


def no_logarithm(model, batch):
    logits, targets = flat(model, batch)
    return F.nll_loss(logits.softmax(-1), targets, reduction="sum")


def weighted(model, batch):
    weights = 1 + torch.arange(DATASET.tokenizer.vocabulary_size) / 100
    return F.cross_entropy(*flat(model, batch), weight=weights, reduction="sum")


def without_stop(model, batch, reduction):
    logits, targets = flat(model, batch)
    return F.cross_entropy(logits, torch.where(targets < 0, STOP, targets), ignore_index=STOP, reduction=reduction)


MISTAKES = {
    "mean, not a sum": lambda m, b: book(m, b) / max(1, b.num_targets),
    "divided by every position": lambda m, b: book(m, b) / b.targets.numel(),
    "divided by every token": lambda m, b: book(m, b) / b.inputs.numel(),
    "mean over rows": rows,
    "bits, not nats": lambda m, b: book(m, b) / math.log(2),
    "filler counted": filler,
    "mask times a scalar": lambda m, b: (filler(m, b, "mean") * (b.targets >= 0)).sum(),
    "mask times a mean": lambda m, b: (filler(m, b, "mean") * (b.targets >= 0)).mean(),
    "softmax twice": softmax_twice,
    "a word is ignored": lambda m, b: without_stop(m, b, "sum"),
    "wrong sign": lambda m, b: -book(m, b),
    "no logarithm": no_logarithm,
    "loss shifted": lambda m, b: book(m, replace(b, positions=(b.positions - 1).clamp(min=0))),
    "targets left out": lambda m, b: book(m, replace(b, positions=b.positions[:, 1:], targets=b.targets[:, 1:])),
    "loss scaled": lambda m, b: 1.1 * book(m, b),
    "words weighted": weighted,
    "label smoothing": lambda m, b: F.cross_entropy(*flat(m, b), reduction="sum", label_smoothing=0.1),
    "wrong loss": lambda m, b: book(m, b) + 0.01 * (m(b.inputs, b.mask, b.positions) ** 2).sum(),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_known_mistake_is_named(name):
    found = names(examine_loss(replace(small(batch_rows=16), loss_sum=MISTAKES[name])))
    assert found[0] == name and set(found) <= {name, "empty batch gives NaN"}


def test_a_word_ignored_in_a_mean():
    subject = replace(small(), loss_sum=lambda m, b: without_stop(m, b, "mean"))
    assert names(examine_loss(subject))[0] == "a word is ignored"


def test_the_mean_of_nothing():
    subject = replace(small(), loss_sum=lambda m, b: F.cross_entropy(*flat(m, b)))
    assert names(examine_loss(subject)) == ["mean, not a sum", "empty batch gives NaN"]


def test_half_precision_is_no_mistake():
    def half(model, batch):
        with torch.autocast("cpu", torch.bfloat16):
            return book(model, batch)

    assert examine_loss(replace(small(), loss_sum=half)) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_sound_start(seed):
    assert examine_loss(small(seed=seed)) == []


def test_a_start_far_from_ln_v_in_a_run_that_has_not_begun():
    run = TrainingRun(**SMALL)
    torch.nn.init.normal_(run.model.encoder.embedding.weight, std=1.0)
    (finding,) = examine_loss(run.subject())
    assert (
        finding.name == "starts above ln V"
        and f"ln V is {math.log(run.subject().vocabulary_size):.2f}" in finding.sentence
    )
    run.update(0)
    assert examine_loss(run.subject()) == []


def test_an_answer_that_leaks():
    run = TrainingRun(**SMALL)
    inner, offset = run.model.forward, torch.tensor(0.0)

    def forward(inputs, mask=None, positions=None):
        answers = run.stream.batch(0).targets.clamp(min=0)
        return inner(inputs, mask, positions) + 5 * F.one_hot(answers, run.subject().vocabulary_size) + offset

    run.model.forward = forward
    assert names(examine_loss(replace(run.subject(), loss_sum=book))) == ["starts below ln V"]
