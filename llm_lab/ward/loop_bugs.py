"""Patients whose loop is wrong: gradients, learning rate, schedule and evaluation."""

from __future__ import annotations

from typing import Any

from llm_lab.text.batches import fixed_batches
from llm_lab.ward.run import DATASET, TrainingRun, mean_loss


class RateTooHigh(TrainingRun):
    """The learning rate is 30 times too large; the loss stops at that of word frequencies and stays there."""

    learning_rate = 0.3


class NeverCleared(TrainingRun):
    """`zero_grad` is missing: every step moves along the sum of all gradients since the start."""

    def clear(self) -> None:
        """Forgotten."""


class SchedulePerPart(TrainingRun):
    """The scheduler steps once a part of a batch, four times as often as the optimizer."""

    accumulate = 4

    def factor(self, step: int) -> float:
        """The schedule, read at the wrong place."""
        return super().factor(step * self.accumulate)


class PastTheEnd(TrainingRun):
    """The schedule is a straight line, and the run goes on past its end: the learning rate turns negative."""

    def factor(self, step: int) -> float:
        """A line down to zero at 70% of the run, and on below it."""
        return min((step + 1) / 30, 1 - step / (0.7 * self.steps))


class DropoutInEvaluation(TrainingRun):
    """Nobody calls `model.eval()` before the held-out loss."""

    def __init__(self, **options: Any):
        super().__init__(**{**options, "dropout": 0.3})

    def evaluate(self) -> float:
        """The loss of a model that still drops a third of its activations."""
        return mean_loss(self.model, self.held_out)


class FreshEvaluationMasks(TrainingRun):
    """Each evaluation hides other words of few sentences: the curve jumps, and no two models can be compared."""

    evaluations = 0

    def evaluate(self) -> float:
        """The loss at masks that no other evaluation has."""
        self.evaluations += 1
        rows, masking = DATASET.held_out[:20], DATASET.evaluation_masking
        batches = fixed_batches(rows, DATASET.tokenizer, masking, 20, seed=self.evaluations)
        self.model.eval()
        return mean_loss(self.model, batches)
