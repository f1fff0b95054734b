"""Which mistake gives a gradient: loops that take another one, and the geometry behind the answer by hand."""

from __future__ import annotations

import pytest
import torch

from llm_lab.train.doctor.blame import cosine, gradient_findings, least_cosine, spanned
from llm_lab.train.doctor.watch import watched
from llm_lab.ward import TrainingRun
from tests.train.doctor.runs import SMALL, names


class Climbs(TrainingRun):
    """Each step goes up."""

    def backward(self, batch):
        loss = super().backward(batch)
        for p in self.model.parameters():
            p.grad.neg_()
        return loss


class LooksAhead(TrainingRun):
    """Step s learns from batch s + 1."""

    def batch(self, step):
        return self.stream.batch(step + 1)


class CutsEntries(TrainingRun):
    """Each entry of the gradient is cut at a small value."""

    def backward(self, batch):
        loss = super().backward(batch)
        torch.nn.utils.clip_grad_value_(self.model.parameters(), 1e-4)
        return loss


BLAMED = {
    TrainingRun: [],
    Climbs: ["gradient has the wrong sign"],
    LooksAhead: ["another batch"],
    CutsEntries: ["gradient clipped by value"],
}


@pytest.mark.parametrize("kind", BLAMED, ids=lambda kind: kind.__name__)
def test_what_is_blamed(kind):
    subject = kind(**SMALL).subject()
    assert names(gradient_findings(subject, watched(subject, ()))) == BLAMED[kind]


def test_angles_by_hand():
    x, y = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0])
    assert cosine(x, y) == pytest.approx(0.5**0.5) and cosine(x, -x) == pytest.approx(-1)
    assert cosine(0 * x, 0 * y) == 1.0
    assert least_cosine([x, x], [x, y]) == pytest.approx(0.5**0.5)


def test_a_mixture_lies_in_the_plane_of_its_parts():
    a, b, outside = torch.eye(3)
    assert spanned(2 * a - 3 * b, [a, b]) and not spanned(a + outside, [a, b])
