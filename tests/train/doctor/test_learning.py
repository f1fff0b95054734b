"""Gradients, schedules and learning by heart: parts broken on purpose, and sound ones that look odd."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from llm_lab.config import BERT_SHAPE
from llm_lab.train.doctor.learning import (
    easy_loss,
    examine_gradients,
    examine_learning,
    examine_schedule,
    listed,
    overfit,
)
from llm_lab.ward import TrainingRun
from tests.train.doctor.runs import SMALL, batch_of, names, small
from tests.train.doctor.test_untouched import equal, state_of

# -- gradients


def test_a_part_that_is_cut_off():
    subject = small()
    inner = subject.model.encoder.blocks[0].feed_forward.forward
    subject.model.encoder.blocks[0].feed_forward.forward = lambda x: inner(x).detach()
    (finding,) = examine_gradients(subject)
    assert finding.name == "parameters without gradient" and "feed_forward" in finding.sentence
    assert "attention" not in finding.sentence


def test_matrices_that_start_at_zero_hold_gradients_back_for_one_step_only():
    run = TrainingRun(**SMALL)
    for block in run.model.encoder.blocks:
        torch.nn.init.zeros_(block.attention.output.weight)
    batch = run.stream.batch(0)
    run.backward(batch)
    assert not run.model.encoder.blocks[0].attention.value.weight.grad.any()
    assert examine_gradients(run.subject()) == []


@pytest.mark.parametrize("options", [BERT_SHAPE, {"architecture": "bilstm"}, {"batch_rows": 1}], ids=str)
def test_sound_gradients(options):
    assert examine_gradients(small(**options)) == []


def test_gradients_that_are_no_numbers():
    subject = small()
    subject.model.head.bias.register_hook(lambda gradient: gradient * float("nan"))
    assert names(examine_gradients(subject)) == ["gradient not a number"]


def test_a_forgotten_optimizer_and_frozen_parameters():
    subject = small()
    assert names(examine_gradients(replace(subject, optimizers=subject.optimizers[:1]))) == [
        "parameters without optimizer"
    ]
    subject.model.head.bias.requires_grad_(False)
    assert names(examine_gradients(subject)) == ["frozen parameters"]


def test_listed():
    assert listed(["a", "b", "c"]) == "a, b, c" and listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


# -- schedule


def schedule_of(function, steps=100):
    return names(examine_schedule(replace(small(), schedule=function, steps=steps)))


def cosine(step):
    return 0.5 * (1 + math.cos(math.pi * min(1.0, step / 100)))


@pytest.mark.parametrize(
    "schedule",
    [cosine, lambda s: 1.0, lambda s: max(0.0, 1 - s / 99), lambda s: max(0.0, min(s / 10, 1 - s / 100))],
)
def test_sound_schedules(schedule):
    assert schedule_of(schedule) == []


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        ("negative learning rate", lambda s: 1 - s / 100),
        ("negative learning rate", lambda s: 1 - s / 140),
        ("negative learning rate", lambda s: 1 - s / 50),
        ("schedule not a number", lambda s: math.nan if s == 60 else 1.0),
        ("learning rate zero", lambda s: 0.0),
        ("schedule ends early", lambda s: max(0.0, 1 - s / 90)),
        ("schedule above its peak", lambda s: 1.1 if s == 50 else 0.5),
    ],
)
def test_sick_schedules(name, schedule):
    assert schedule_of(schedule) == [name]


def test_past_the_end_is_said_to_be_so():
    for end, words in ((100, "goes on past its end"), (50, "keep it at 0 or above")):
        (finding,) = examine_schedule(replace(small(), schedule=lambda s, end=end: 1 - s / end, steps=100))
        assert words in finding.sentence
    (finding,) = examine_schedule(replace(small(), schedule=lambda s: max(0.0, 1 - s / 90), steps=100))
    assert "for the last 10 of 100 steps" in finding.sentence


# -- learning


def test_the_easy_loss_is_a_quarter_of_the_words_entropy():
    batch = batch_of([[2, 4, 4, 3]], [[1, 2, 1, 2, 0]], [[5, 6, 7, 8, -100]])
    assert easy_loss(batch) == pytest.approx(0.25 * math.log(4))
    assert easy_loss(batch_of([[2, 4, 3]], [[1, 0]], [[5, -100]])) == 0.1
    # Rows of 2 and 1 targets: 2/3 ln 2 within the rows, ln 3 - 2/3 ln 2 between them.
    rows = batch_of([[2, 4, 4, 3], [2, 4, 3, 0]], [[1, 2], [1, 0]], [[5, 6], [7, -100]])
    within = 2 / 3 * math.log(2)
    assert easy_loss(rows, by_row=True) == pytest.approx(within + 0.25 * (math.log(3) - within))


def with_rate(rate, optimizer="adamw", **options):
    kind = type("Rated", (TrainingRun,), {"learning_rate": rate, "optimizer": optimizer})
    return kind(**{**SMALL, **options}).subject()


def test_a_sound_run_learns_its_batch_and_stops_when_it_has():
    subject = small()
    batch = subject.stream.batch(0)
    assert examine_learning(subject) == []
    bound = easy_loss(batch)
    assert 0.5 * bound < overfit(subject, batch, 1.0, 500, bound) < bound
    assert overfit(subject, batch, 1.0, 180) < 0.5 * bound


@pytest.mark.parametrize(("rate", "name"), [(0.3, "learning rate too large"), (3e-5, "learning rate too small")])
def test_a_rate_on_either_side(rate, name):
    (finding,) = examine_learning(with_rate(rate, "muon"))
    assert finding.name == name and finding.sentence.startswith("180 steps on one batch")


def test_a_low_rate_for_a_long_run_is_on_its_way():
    assert examine_learning(with_rate(3e-4)) == []


def test_what_cannot_be_learnt_at_any_rate():
    subject = small()
    subject.model.encoder.embedding.weight.register_hook(lambda gradient: -gradient)
    for p in subject.model.parameters():
        p.register_hook(lambda gradient: -gradient)
    assert names(examine_learning(subject)) == ["one batch can't be learnt"]


def test_learning_by_heart_changes_nothing():
    subject = small()
    before = state_of(subject)
    overfit(subject, subject.stream.batch(0), 1.0, 12)
    assert equal(before, state_of(subject))


def test_the_rate_climbs_to_its_peak_in_20_steps():
    subject, rates = small(), []
    subject.optimizers[0].register_step_pre_hook(lambda o, *_: rates.append(o.param_groups[0]["lr"]))
    overfit(subject, subject.stream.batch(0), 0.5, 22)
    peak = subject.optimizers[0].param_groups[0]["lr"]
    assert rates == pytest.approx([0.5 * peak * min(1, (step + 1) / 20) for step in range(22)])
