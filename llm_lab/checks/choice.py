"""Exercises whose answer is one of several statements: the diagnosis of a curve, a table or a piece of code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llm_lab.checks.compare import kind_of
from llm_lab.checks.exercise import Exercise, Verdict, Wrong


@dataclass(frozen=True, kw_only=True, eq=False)
class Choice(Exercise):
    """An exercise with statements to choose from, by letter. Each wrong one is a misconception with a reply.

    The `answer` of a wrong one is its letter; every letter but the right one needs its `Wrong`.
    """

    kind: str = "diagnose"
    choices: dict[str, str]
    right: str

    @property
    def stub_cell(self) -> str:
        """The code of the cell that the reader fills."""
        return f"{self.name} = None  # a letter in place of None, such as {next(iter(self.choices))!r}"

    @property
    def solution_cell(self) -> str:
        """The same cell with the right letter."""
        return f"{self.name} = {self.right!r}"

    def right_answers(self) -> list[tuple[str, Any]]:
        """The letter, in some of the ways in which one writes it."""
        return [("letter", self.right), ("capital", self.right.upper()), ("with a bracket", f" {self.right})")]

    def wrong_answers(self) -> list[tuple[Wrong, Any]]:
        """The catalogue with its letters."""
        return [(wrong, wrong.answer) for wrong in self.wrong]

    def shown(self) -> str:
        """The right statement."""
        return f"{self.right}) {self.choices[self.right]}"

    def judge(self, answer: Any) -> Verdict:
        """Right, or the misconception by its name."""
        if answer is None or answer is ...:
            return self.not_started()
        letter = answer.strip(" ().").lower() if isinstance(answer, str) else None
        if letter not in self.choices:
            given = f"expected one of the letters {', '.join(self.choices)}, got {kind_of(answer)}."
            return Verdict(False, given, "no such choice")
        if letter == self.right:
            return Verdict(True, f"right: {self.choices[letter]}")
        return self.named(next(wrong for wrong in self.wrong if wrong.answer == letter))
