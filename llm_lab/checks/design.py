"""Exercises that are scored: the reader's design is measured by a run of fixed length; less is better.

Before the run, the design's facts are looked at, in a moment: a known mistake is named without waiting for the run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llm_lab import home
from llm_lab.checks import guard
from llm_lab.checks.code import SECONDS, Write
from llm_lab.checks.compare import kind_of
from llm_lab.checks.deck import Draw
from llm_lab.checks.exercise import Verdict


def no_inputs(draw: Draw) -> tuple[()]:
    """A design is measured, not compared on a deck."""
    return ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Design(Write):
    """An exercise that is scored. `facts(answer)` is what is seen without a run, `measure(answer)` runs.

    `when` says by which facts each wrong answer is recognised, by its name; after the run, the facts hold the "score",
    too. To pass, the score must not be above the `goal`. With LLM_LAB_FAST=1 a run is too short
    for a goal, and none is asked.
    """

    kind: str = "design"
    facts: Callable[[Any], dict[str, Any]]
    when: dict[str, Callable[[dict[str, Any]], bool]]
    measure: Callable[..., float]  # of the answer
    goal: float
    unit: str
    about: str  # what the run is and how long it takes, in a sentence
    limit: float = 300.0  # seconds of the run
    inputs: Callable[[Draw], tuple[Any, ...]] = no_inputs

    def judge(self, answer: Any) -> Verdict:
        """Not started, a mistake by its name, or the measured score against the goal."""
        if not callable(answer):
            given = f"got {kind_of(answer)}: give the function itself, without brackets and arguments behind its name."
            return Verdict(False, given, "no function")
        seconds = max(SECONDS, self.seconds)
        looked = guard.run(lambda: self.facts(answer), seconds)
        if guard.is_stub(answer, looked):
            return self.not_started()
        if looked.timed_out:
            return Verdict(False, f"stopped after {seconds:g} seconds: does your code come to an end?", "no end")
        if looked.error is not None:
            return Verdict(False, f"your code raises {guard.told(looked)}.", "raises")
        return self._by_facts(looked.value) or self._measured(answer, looked.value)

    def _by_facts(self, facts: dict[str, Any]) -> Verdict | None:
        found = next((wrong for wrong in self.wrong if self.when[wrong.name](facts)), None)
        return None if found is None else self.named(found)

    def _measured(self, answer: Any, facts: dict[str, Any]) -> Verdict:
        print(f"{self.id}: {self.about}", flush=True)
        run = guard.run(lambda: self.measure(answer), self.limit)
        if run.timed_out:
            return Verdict(False, f"the run was stopped after {self.limit:g} seconds.", "no end")
        if run.error is not None:
            return Verdict(False, f"the run raises {guard.told(run)}.", "raises")
        score = float(run.value)
        measured = f"{score:.3f} {self.unit}"
        if home.is_fast():
            return Verdict(True, f"it runs: {measured}, in a run too short for a goal.", score=score)
        if score <= self.goal:
            return Verdict(True, f"right: {measured}, and the goal is {self.goal:g}.", score=score)
        named = self._by_facts({**facts, "score": score})
        words = named.message if named else f"not yet: above the goal. {self.hints[0]}"
        mistake = named.mistake if named else None
        return Verdict(False, f"{measured}, the goal is {self.goal:g}: {words}", mistake, score=score)
