"""Exercises whose answer is a number: a prediction before the run, or a diagnosis."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from llm_lab.checks.compare import as_number, kind_of, show
from llm_lab.checks.exercise import Exercise, Verdict, Wrong


@dataclass(frozen=True, kw_only=True, eq=False)
class Number(Exercise):
    """An exercise whose answer is a number. `truth` is right up to `tolerance`, which the card states.

    The `answer` of a wrong one is a number, too. `look` is what to say to a number that is neither.
    """

    kind: str = "predict"
    truth: float
    tolerance: float
    look: str

    @property
    def stub_cell(self) -> str:
        """The code of the cell that the reader fills."""
        return f"{self.name} = None  # your number in place of None"

    @property
    def solution_cell(self) -> str:
        """The same cell with the right number."""
        return f"{self.name} = {self.truth!r}"

    def right_answers(self) -> list[tuple[str, Any]]:
        """The number, and two others that the tolerance still takes."""
        near = 0.9 * self.tolerance
        return [("exact", self.truth), ("a little less", self.truth - near), ("a little more", self.truth + near)]

    def wrong_answers(self) -> list[tuple[Wrong, Any]]:
        """The catalogue with its numbers."""
        return [(wrong, wrong.answer) for wrong in self.wrong]

    def shown(self) -> str:
        """The number."""
        return f"{self.name} = {show(self.truth)}"

    def judge(self, answer: Any) -> Verdict:
        """Right within the tolerance, a mistake by its name, or what to look at."""
        if answer is None or answer is ...:
            return self.not_started()
        number = as_number(answer)
        if number is None or not math.isfinite(number):
            return Verdict(False, f"expected a number, got {kind_of(answer)}.", "no number")
        if abs(number - self.truth) <= self.tolerance:
            return Verdict(True, f"right: {show(self.truth)}.")
        nearest = min(self.wrong, key=lambda wrong: abs(number - wrong.answer))
        if abs(number - nearest.answer) <= self.tolerance:
            return self.named(nearest)
        if 0 < self.truth < 1 and abs(number - 100 * self.truth) <= 100 * self.tolerance:
            return Verdict(False, "nearly: that is the number in percent. Give a share from 0 to 1.", "in percent")
        side = "too large" if number > self.truth else "too small"
        return Verdict(False, f"not yet: {show(number)} is {side}. {self.look}")
