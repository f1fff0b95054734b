"""What is seen of a loop's first steps: held against the schedule, and against gradients taken by hand."""

from __future__ import annotations

import pytest
import torch

from llm_lab.train.doctor.watch import WATCHED, gradient_of, watched
from llm_lab.ward import TrainingRun
from tests.train.doctor.runs import SMALL
from tests.train.doctor.test_untouched import equal, state_of


@pytest.fixture(scope="module")
def seen():
    """A sound run without dropout, and what is seen of it."""
    run = TrainingRun(**SMALL, dropout=0.0)
    return run, watched(run.subject(), (2,))


def by_hand(run, batches):
    """The mean over some batches of the gradient of each one's mean loss, at the first weights."""
    vectors = []
    for batch in batches:
        run.model.zero_grad()
        (run.loss_sum(run.model, batch) / batch.num_targets).backward()
        vectors.append(gradient_of([*run.model.parameters()]))
    return torch.stack(vectors).mean(dim=0)


def test_the_first_gradients_are_those_by_hand(seen):
    run, watch = seen
    batch = run.stream.batch(0)
    assert torch.allclose(watch.book[0], by_hand(run, [batch]), atol=1e-6)
    assert torch.allclose(watch.others[0]["means 2"], by_hand(run, batch.split(2)), atol=1e-6)
    assert torch.allclose(watch.others[0]["the last of 2 parts"], by_hand(run, batch.split(2)[1:]), atol=1e-6)
    assert torch.allclose(watch.others[0]["batch +1"], by_hand(run, [run.stream.batch(1)]), atol=1e-6)


def test_rates_losses_and_steps_are_those_of_the_run(seen):
    run, watch = seen
    assert all(rates == pytest.approx([run.factor(step) for step in range(WATCHED)]) for rates in watch.rates)
    assert watch.losses == pytest.approx([record["loss"] for record in watch.records], rel=1e-5)
    assert watch.steps == [WATCHED] * len(run.subject().optimizers) and not watch.stuck


def test_the_run_is_as_before():
    subject = TrainingRun(**SMALL).subject()
    before = state_of(subject)
    watched(subject, ())
    assert equal(before, state_of(subject))


def test_no_gradient_counts_as_zeros():
    first, second = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(1))
    first.grad = torch.tensor([3.0, 4.0])
    assert gradient_of([first, second]).tolist() == [3, 4, 0]
