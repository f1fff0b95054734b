"""Exercises that put together what earlier exercises kept: the reader's own parts, held against the package's."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from llm_lab import home
from llm_lab.checks import answers, guard
from llm_lab.checks.design import Design
from llm_lab.checks.exercise import BROKEN, MISSING, Verdict
from llm_lab.checks.registry import find

Tell = Callable[[str], None]  # prints a line of progress, also while the reader's own prints are caught


@dataclass(frozen=True, kw_only=True, eq=False)
class Assembly(Design):
    """A design whose answer is given the reader's own parts, from the folder answers.

    `needs` names the parts, and for each the exercise that keeps it. `facts(answer)` looks at the answer with the
    `sound_parts`, so that the fault of a part is not taken for one of the answer, and tells the first "fault": a name
    of the catalogue, or nothing. Then `measure(answer, parts, tell)` and `rival(tell)` give two losses. The score is
    what the reader is behind, and the goal how much that may be.
    """

    needs: dict[str, str]
    rival: Callable[[Tell], float]
    when: dict[str, Callable[[dict[str, Any]], bool]] = field(default_factory=dict)  # not used: see `facts`

    def sound_parts(self) -> SimpleNamespace:
        """The right answers of the exercises in `needs`."""
        return SimpleNamespace(**{name: find(id).right_answers()[0][1] for name, id in self.needs.items()})

    def own_parts(self) -> SimpleNamespace:
        """The reader's own. Raises FileNotFoundError when one is missing, ValueError when its file does not run."""
        return SimpleNamespace(**{name: answers.load(id) for name, id in self.needs.items()})

    def missing(self) -> list[str]:
        """The exercises whose answers are not there yet."""
        return [id for id in self.needs.values() if not answers.path_of(id).is_file()]

    def broken(self) -> Verdict | None:
        """The verdict on the first part that no longer passes the check of its own exercise, if there is one."""
        for id in self.needs.values():
            verdict = find(id).judge(answers.load(id))
            if not verdict.passed:
                words = f"your part {id} is not what it was when it passed. Its own check says: {verdict.message}"
                return Verdict(False, words, BROKEN)
        return None

    def _by_facts(self, facts: dict[str, Any]) -> Verdict | None:
        return next((self.named(wrong) for wrong in self.wrong if wrong.name == facts["fault"]), None)

    def _measured(self, answer: Any, facts: dict[str, Any]) -> Verdict:
        missing = self.missing()
        if missing:
            also = f" ({', '.join(missing[1:])} will be next)" if missing[1:] else ""
            words = f"no fault is seen, but a part of yours is missing: do exercise {missing[0]} first{also}."
            return Verdict(False, words, MISSING)
        try:
            parts = self.own_parts()
        except ValueError as error:
            return Verdict(False, f"a part of yours is broken: {error} Let its check see it again.", BROKEN)
        return self._run(answer, parts)

    def _run(self, answer: Any, parts: SimpleNamespace) -> Verdict:
        screen = sys.stdout

        def tell(line: str) -> None:
            print(line, file=screen, flush=True)

        tell(f"{self.id}: {self.about}")
        run = guard.run(lambda: self.measure(answer, parts, tell), self.limit)
        if run.timed_out:
            words = f"the run was stopped after {self.limit:g} seconds."
            return self.broken() or Verdict(False, words, "no end")
        if run.error is not None:
            return self.broken() or Verdict(False, f"the run raises {guard.told(run)}.", "raises")
        if not math.isfinite(run.value):
            return self.broken() or Verdict(
                False, "the loss is no number at the end: what does your loop print?", "raises"
            )
        if home.is_fast():
            return Verdict(True, f"it runs: {run.value:.3f} nats, in a run too short for a goal.", score=run.value)
        theirs = self.rival(tell)
        return self._compared(float(run.value), theirs)

    def _compared(self, own: float, theirs: float) -> Verdict:
        score = own - theirs
        side = f"{abs(score):.3f} {'behind' if score > 0 else 'ahead of'} it"
        measured = f"your loss is {own:.3f} nats, the package's {theirs:.3f}: {side}"
        if score <= self.goal:
            return Verdict(True, f"right: {measured}. Up to {self.goal:g} behind passes.", score=score)
        broken = self.broken()
        why = broken.message if broken else f"every part passes its own check, and no fault is seen. {self.hints[2]}"
        words = f"not yet: {measured}, and up to {self.goal:g} behind passes. {why[0].upper()}{why[1:]}"
        return Verdict(False, words, broken.mistake if broken else None, score=score)
