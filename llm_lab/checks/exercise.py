"""What every exercise has: a card, three hints, right answers, and the wrong answers that readers really give.

`code`, `number`, `choice` and `design` add what their kind of answer needs.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llm_lab.checks.compare import Difference
from llm_lab.config import require

KINDS = ("write", "mend", "predict", "diagnose", "design")


@dataclass(frozen=True)
class Swap:
    """A wrong answer made from a right one: each text is replaced by another. `of` names the right one."""

    pairs: tuple[tuple[str, str], ...]
    of: str = ""


@dataclass(frozen=True)
class Wrong:
    """A wrong answer that readers give: a name of a few words, the reply, and the answer itself.

    The reply says what it is, why it is wrong and what to look at, but not the solution. `answer` is a `Swap` or a
    whole source for code, a number, or a letter.
    """

    name: str
    reply: str
    answer: Any


@dataclass(frozen=True)
class Verdict:
    """What a check found. `mistake` is a name of the catalogue or one of `ALWAYS`, or None: right, or not known."""

    passed: bool
    message: str
    mistake: str | None = None
    difference: Difference | None = None  # for an unknown mistake: what was expected, and what came
    inputs: dict[str, Any] | None = None  # and the smallest input where it shows
    drawn: Difference | None = None  # the smallest difference of tensors that is worth a picture
    score: float | None = None  # of a design

    def __repr__(self) -> str:
        return f"<{'right' if self.passed else self.mistake or 'not right yet'}>"

    def _ipython_display_(self) -> None:
        """Show nothing under a cell: the words have been printed already."""


def one_line(text: str) -> str:
    """A text as one line, however it was broken in the source."""
    return " ".join(text.split())


# Mistakes that any answer can make; a catalogue may not use these names.
NOT_STARTED = "not started"
MISSING, BROKEN = "a part is missing", "a part is broken"  # of an assembly
ALWAYS = (
    NOT_STARTED, MISSING, BROKEN, "raises", "no end", "returns nothing", "changes its input",
    "draws from the global generator",
    "wrong type", "wrong shape", "wrong dtype", "wrong device", "no function", "wrong arguments", "no number",
    "no such choice", "in percent",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Exercise:
    """The card, and what the kinds have in common. All texts are Markdown in the course's style."""

    id: str  # "04.exact_counts": the lesson, and a name
    title: str
    task: str  # what to do: inputs with their shapes, and what comes out
    why: str  # why it matters, in a sentence or two
    difficulty: int  # 1 to 5
    minutes: int
    first: str  # what to do first: the answer to an untouched stub
    hints: tuple[str, str, str]  # each says more than the last
    explanation: str  # what "show me" says, above the solution's source
    wrong: tuple[Wrong, ...]
    evidence: Callable[[], None] | None = None  # prints or draws what is to be diagnosed
    setup: str = ""  # code of a cell above the stub: more names than the notebook's first cell gives
    kind: str = ""

    def __post_init__(self) -> None:
        require(re.fullmatch(r"\d\d\.[a-z][a-z0-9_]*", self.id) is not None, f"{self.id!r} is no id such as 04.counts.")
        require(self.kind in KINDS, f"{self.id} is of kind {self.kind!r}: choose one of {', '.join(KINDS)}.")
        require(1 <= self.difficulty <= 5, f"{self.id} has difficulty {self.difficulty}: give 1 to 5.")
        require(len(self.hints) == 3, f"{self.id} has {len(self.hints)} hints: give three.")
        flowing = {"hints": tuple(map(one_line, self.hints)), "first": one_line(self.first), "why": one_line(self.why)}
        for field, text in {**flowing, "explanation": inspect.cleandoc(self.explanation)}.items():
            object.__setattr__(self, field, text)  # frozen, but not yet born
        names = [wrong.name for wrong in self.wrong]
        twice = {name for name in names if names.count(name) > 1 or name in ALWAYS}
        require(not twice, f"{self.id} uses names of mistakes that are taken: {', '.join(sorted(twice))}.")

    @property
    def lesson(self) -> str:
        """The number of the lesson, two digits."""
        return self.id[:2]

    @property
    def name(self) -> str:
        """The part after the lesson: also the name of the reader's function or variable."""
        return self.id[3:]

    @property
    def variable(self) -> str:
        """The name that the stub gives to the answer."""
        return self.name

    @property
    def stub_cell(self) -> str:
        """The code of the cell that the reader fills."""
        raise NotImplementedError

    @property
    def solution_cell(self) -> str:
        """The code of the same cell, filled: what a test puts there."""
        raise NotImplementedError

    def right_answers(self) -> list[tuple[str, Any]]:
        """Right answers by their names; the first is the one that "show me" shows."""
        raise NotImplementedError

    def wrong_answers(self) -> list[tuple[Wrong, Any]]:
        """The catalogue: each wrong answer with the function, number or letter that it is."""
        raise NotImplementedError

    def judge(self, answer: Any) -> Verdict:
        """Look at an answer, without printing or keeping anything."""
        raise NotImplementedError

    def shown(self) -> str:
        """What "show me" shows below the explanation."""
        raise NotImplementedError

    def not_started(self) -> Verdict:
        """The kind answer to an untouched stub."""
        return Verdict(False, f"not started yet. Do this first: {self.first}", NOT_STARTED)

    def named(self, wrong: Wrong) -> Verdict:
        """The verdict on a wrong answer of the catalogue."""
        return Verdict(False, f'not yet: "{wrong.name}". {wrong.reply}', wrong.name)
