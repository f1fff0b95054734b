"""Learning by heart: learning rates, optimizers and models broken on purpose, and sound ones that look odd."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from llm_lab.train.doctor import learning
from llm_lab.train.doctor.learning import easy_loss, examine_learning, overfit
from llm_lab.ward import TrainingRun
from tests.train.doctor.runs import SMALL, batch_of, small
from tests.train.doctor.test_untouched import equal, state_of


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
    """Scores between -1 and 1: among 193 words no probability gets above 1 / (1 + 192 / e**2), so 3.3 nats stay."""
    subject = small()
    head = subject.model.head
    forward = head.forward
    head.forward = lambda x, embedding: forward(x, embedding).tanh()

    def loss_sum(model, batch):
        scores = model(batch.inputs, batch.mask, batch.positions)
        return torch.nn.functional.cross_entropy(scores.flatten(0, 1), batch.targets.flatten(), reduction="sum")

    (finding,) = examine_learning(replace(subject, loss_sum=loss_sum))
    assert finding.name == "one batch can't be learnt"
    assert finding.sentence.endswith("is something bounding them?")


def test_a_rate_that_ends_in_nan_has_not_learnt_the_batch(monkeypatch):
    def overfit(subject, batch, factor, steps, bound=0.0):
        return math.nan if factor > 1 else 5.0

    monkeypatch.setattr(learning, "overfit", overfit)
    (finding,) = examine_learning(small())
    assert finding.name == "one batch can't be learnt"


@pytest.mark.parametrize(("share", "names"), [(0.96, []), (0.94, ["one batch can't be learnt"])])
def test_a_batch_is_learnt_when_nearly_all_of_the_way_is_gone(share, names, monkeypatch):
    bound, start = easy_loss(small().stream.batch(0)), 5.3

    def overfit(subject, batch, factor, steps, bound_=0.0):
        return start if steps == 0 else start - share * (start - bound)

    monkeypatch.setattr(learning, "overfit", overfit)
    assert [finding.name for finding in examine_learning(small())] == names


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


def test_an_optimizer_that_a_plain_one_beats():
    class Shy(torch.optim.SGD):
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    p.grad = None if p.grad is None else p.grad.sign() * 1e-9 / group["lr"]
            super().step()

    subject = small()
    shy = Shy(subject.model.parameters(), lr=1e-3)
    (finding,) = examine_learning(replace(subject, optimizers=[shy]))
    assert finding.name == "optimizer doesn't learn" and "a plain AdamW at 0.01 brings it" in finding.sentence
