"""Exercises whose answer is a function or a class: write it, or mend it.

The answer runs on a deck of inputs and is compared with the right answer. If it differs, its results are compared with
those of each wrong answer of the catalogue: the mistake whose results it has everywhere is the one that was made.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from llm_lab.checks import guard, solutions
from llm_lab.checks.compare import Difference, difference, kind_of, show
from llm_lab.checks.deck import Case, Maker, deck, in_common
from llm_lab.checks.exercise import Exercise, Swap, Verdict, Wrong
from llm_lab.checks.guard import Outcome
from llm_lab.checks.picture import can_draw
from llm_lab.checks.sources import Standalone

SECONDS = 3.0  # for the answer; the right and the wrong ones take the rest of the five
GLOBAL = "draws from the global generator"
WELL_KNOWN = 0.6  # share of the inputs on which a mistake must show for "it behaves like ..."


@dataclass(frozen=True, kw_only=True, eq=False)
class Write(Exercise):
    """An exercise whose answer is code. `right` names right answers, the first being the one to compare with.

    `inputs` makes the arguments of one input from a `Draw`, `more` makes special ones. `probe(answer, *arguments)`
    returns what is compared, where the plain result won't do: statistics of a random function, or a dictionary of
    properties whose keys say in words what must hold.
    """

    kind: str = "write"
    stub: str
    right: tuple[str, ...]
    inputs: Maker
    more: tuple[Maker, ...] = ()
    probe: Callable[..., Any] | None = None
    tolerance: float | None = None  # absolute; instead of rounding errors alone
    may_draw: bool = False  # from a global generator: layers that draw their first weights
    may_change_inputs: bool = False
    seconds: float = SECONDS

    # -- what stands in the notebook, and the answers -----------------------------------------------------------------

    @property
    def stub_cell(self) -> str:
        """The code of the cell that the reader fills."""
        return self.stub.strip("\n").replace("'''", '"""')

    @property
    def solution_cell(self) -> str:
        """The right answer under the name that the stub has, with all that it needs."""
        writer = Standalone()
        last = self.right[0].rpartition(".")[2]
        writer.add(self.right_answers()[0][1], last)
        return writer.text() + (f"\n\n{self.variable} = {last}" if last != self.variable else "")

    @property
    def variable(self) -> str:
        """The name that the stub defines."""
        return solutions.defined_in(self.stub_cell)

    def right_answers(self) -> list[tuple[str, Any]]:
        """Right answers by their names."""
        return [(name, solutions.find(self.lesson, name)) for name in self.right]

    def wrong_answers(self) -> list[tuple[Wrong, Any]]:
        """The catalogue with its functions."""
        return list(zip(self.wrong, self._wrong, strict=True))

    def shown(self) -> str:
        """The source of the right answer."""
        return solutions.source_of(self.lesson, self.right[0]).rstrip()

    @cached_property
    def _wrong(self) -> list[Any]:
        return [self.build(wrong) for wrong in self.wrong]

    def build(self, wrong: Wrong) -> Any:
        """The function that a wrong answer is."""
        source, base = wrong.answer, self.right[0]
        if isinstance(source, Swap):
            base = source.of or base
            source = solutions.swapped(solutions.source_of(self.lesson, base), source.pairs)
        return solutions.build(source, self.lesson, base, f"{self.id}, {wrong.name}")

    # -- running ------------------------------------------------------------------------------------------------------

    @cached_property
    def cases(self) -> list[Case]:
        """The inputs of a check."""
        return deck(self.inputs, self.more)

    def observe(self, answer: Any, case: Case, seconds: float = SECONDS) -> Outcome:
        """What an answer does with one input."""
        arguments, watched = case.arguments(), answer if self.may_change_inputs else guard.Watched(answer)
        probe = self.probe or (lambda function, *given: function(*given))
        outcome = guard.run(lambda: probe(watched, *arguments), seconds)
        outcome.drew = outcome.drew and not self.may_draw
        outcome.spoiled = isinstance(watched, guard.Watched) and watched.spoiled
        return outcome

    @cached_property
    def expected(self) -> list[Outcome]:
        """What the right answer does with each input."""
        answer = self.right_answers()[0][1]
        return [self.observe(answer, case) for case in self.cases]

    @cached_property
    def _known(self) -> list[dict[int, Outcome]]:
        return [{} for _ in self.wrong]

    def known(self, number: int, case: int) -> Outcome:
        """What wrong answer `number` does with input `case`; each is computed once, when it is asked for."""
        kept = self._known[number]
        if case not in kept:
            kept[case] = self.observe(self._wrong[number], self.cases[case])
        return kept[case]

    def outcomes(self, answer: Any) -> list[Outcome]:
        """What an answer does with each input, up to the one at which its time runs out."""
        found, left = [], self.seconds
        for case in self.cases:
            found.append(self.observe(answer, case, left))
            left -= found[-1].seconds
            found[-1].timed_out |= left <= 0
            if found[-1].timed_out or guard.is_stub(answer, found[-1]):
                break
        return found

    # -- judging ------------------------------------------------------------------------------------------------------

    def judge(self, answer: Any) -> Verdict:
        """Right, a mistake by its name, or the smallest input where the answer differs."""
        with guard.generators_kept():
            return self._judge(answer)

    def _judge(self, answer: Any) -> Verdict:
        if not callable(answer):
            given = f"got {kind_of(answer)}: give the function itself, without brackets and arguments behind its name."
            return Verdict(False, given, "no function")
        outcomes = self.outcomes(answer)
        last = outcomes[-1]
        if guard.is_stub(answer, last):
            return self.not_started()
        if last.timed_out:
            return self._no_end(len(outcomes), last)
        apart = [differs(e, o, self.tolerance) for e, o in zip(self.expected, outcomes, strict=True)]
        if not any(apart):
            return self._side_effects(outcomes) or Verdict(True, self._praise())
        if self.kind == "mend" and self._as_found(outcomes):
            return self.not_started()
        only_form = all(self._same(e, o, form=False) for e, o in zip(self.expected, outcomes, strict=True))
        wrong = self._named(outcomes) or (None if only_form else self._named(outcomes, form=False))
        if wrong is not None:
            return replace(self.named(wrong), message=self.named(wrong).message + _side_notes(outcomes))
        return self._unknown(outcomes, apart, only_form)

    def _named(self, outcomes: list[Outcome], form: bool = True) -> Wrong | None:
        """The mistake of the catalogue whose outcomes these are, or None; without `form`, in whatever form."""
        for number, wrong in enumerate(self.wrong):
            if all(self._same(self.known(number, case), one, form) for case, one in enumerate(outcomes)):
                return wrong
        return None

    def _same(self, one: Outcome, other: Outcome, form: bool = True) -> bool:
        """The same numbers, or the same kind of error."""
        return differs(one, other, self.tolerance, form) is None

    def _as_found(self, outcomes: list[Outcome]) -> bool:
        stub = solutions.build(self.stub_cell, self.lesson, self.right[0], f"{self.id}, stub")
        found = [self.observe(stub, case) for case in self.cases]
        return all(self._same(a, b) and a.spoiled == b.spoiled for a, b in zip(found, outcomes, strict=True))

    def _side_effects(self, outcomes: list[Outcome]) -> Verdict | None:
        """The verdict on an answer with the right values that spoils something else."""
        if any(one.spoiled for one in outcomes):
            words = "the values are right, but your code changes its input. The caller still needs it: work on a copy."
            return Verdict(False, words, "changes its input")
        if any(one.drew for one in outcomes):
            words = (
                "the values are right, but your code draws from a global generator, or seeds one. Then two runs differ "
                "by whatever was drawn before. Use the generator or the noise that you are given."
            )
            return Verdict(False, words, GLOBAL)
        return None

    def _praise(self) -> str:
        forms = "T = 1, float64 and tensors that are not contiguous among them"
        return f"right. {len(self.cases)} inputs agree, {forms}."

    def _no_end(self, count: int, last: Outcome) -> Verdict:
        at = "at the smallest input already" if count == 1 else f"at input {count} of {len(self.cases)}"
        words = f"stopped after {self.seconds:g} seconds, {at}. Is there a loop whose end is never reached?"
        return Verdict(False, words, "no end", inputs=self._inputs(self.cases[count - 1]))

    def _unknown(self, outcomes: list[Outcome], apart: list[Difference | None], only_form: bool) -> Verdict:
        """No mistake of the catalogue: what can be said of any answer, at the smallest input where it differs."""
        failing = [number for number, found in enumerate(apart) if found]
        failing.sort(key=lambda number: _size(self.cases[number].arguments()))
        first, drawn = failing[0], next((one for number in failing if (one := apart[number]) and can_draw(one)), None)
        found, outcome = apart[first], outcomes[first]
        assert found is not None
        inputs = self._inputs(self.cases[first])
        mistake, words = self._general(found, outcome, only_form, {one.kind for one in apart if one})
        shown = "\n".join(f"  {name} = {show(value)}" for name, value in inputs.items())
        about = in_common([self.cases[number] for number in failing])
        text = f"not yet. {words}\n\nThe smallest input where it shows{f' ({about})' if about else ''}:\n{shown}"
        text += f"\n{found.words[0].upper()}{found.words[1:]}." if outcome.error is None else ""
        if mistake is None:
            text += self._nearly(outcomes, failing)
        return Verdict(False, text + _side_notes(outcomes, mistake), mistake, found, inputs, drawn)

    def _general(self, found: Difference, outcome: Outcome, only_form: bool, kinds: set[str]) -> tuple[str | None, str]:
        """The mistake that any answer can make, and a sentence; None for one that is seen in the values alone."""
        if outcome.error is not None:
            if isinstance(outcome.error, TypeError) and not outcome.line:
                return "wrong arguments", f"{guard.describe(outcome.error)}. Leave the first line of the stub as it is."
            if isinstance(outcome.error, guard.ReturnsNothing):
                return "returns nothing", "Your code returns None: is there a path to its end without a return?"
            return "raises", f"Your code raises {guard.told(outcome)}."
        if only_form:
            return f"wrong {found.kind}", f"The numbers are right, but the {found.kind} is not."
        if "values" not in kinds:
            return f"wrong {found.kind}", f"The {found.kind} of the result is not what it should be."
        if outcome.drew:
            return (
                GLOBAL,
                "It draws from a global generator, or seeds one: the chance that you are given is all there is.",
            )
        return None, "This is no mistake that I know."

    def _nearly(self, outcomes: list[Outcome], failing: list[int]) -> str:
        """A sentence about the one mistake of the catalogue that explains most of what differs, if there is one."""
        if sum(one.seconds for one in outcomes) > 1:  # a check must end in five seconds, on slow machines, too
            return ""
        shares = []
        for number, wrong in enumerate(self.wrong):
            same = sum(self._same(self.known(number, case), outcomes[case]) for case in failing)
            shares.append((same / len(failing), wrong))
        best = sorted(shares, key=lambda pair: -pair[0])[:2]
        if len(best) == 2 and best[0][0] >= WELL_KNOWN and best[0][0] > best[1][0]:
            return f'\n\nOn most inputs it does the same as "{best[0][1].name}": {best[0][1].reply}'
        return ""

    def _inputs(self, case: Case) -> dict[str, Any]:
        """The arguments of an input by their names in the right answer."""
        names = list(inspect.signature(self.right_answers()[0][1]).parameters)
        arguments = case.arguments()
        return dict(zip(names + [f"argument {i}" for i in range(len(names), len(arguments))], arguments, strict=False))


@dataclass(frozen=True, kw_only=True, eq=False)
class Mend(Write):
    """An exercise that hands out faulty code: the stub runs, and does the wrong thing."""

    kind: str = "mend"


def differs(
    expected: Outcome, outcome: Outcome, tolerance: float | None = None, form: bool = True
) -> Difference | None:
    """The first difference between two outcomes. Errors of one type agree, whatever they say."""
    if expected.error is None and outcome.error is None:
        return difference(expected.value, outcome.value, tolerance, form=form)
    if expected.error is not None and outcome.error is not None and type(expected.error) is type(outcome.error):
        return None
    said = [f"{type(o.error).__name__}" if o.error is not None else show(o.value) for o in (expected, outcome)]
    return Difference("values", f"expected {said[0]}, got {said[1]}", expected.value, outcome.value)


def _side_notes(outcomes: list[Outcome], mistake: str | None = None) -> str:
    """What else is wrong beside the mistake that was found."""
    notes = "\n\nIt changes its input, too." if any(one.spoiled for one in outcomes) else ""
    drew = mistake != GLOBAL and any(one.drew for one in outcomes)
    return notes + ("\n\nIt draws from a global generator, too." if drew else "")


def _size(arguments: Any) -> int:
    """How many numbers an input holds."""
    if isinstance(arguments, Tensor | np.ndarray):
        return int(np.prod(arguments.shape))
    if isinstance(arguments, list | tuple):
        return sum(map(_size, arguments))
    return 1
