"""Small exercises for the tests of the runner, which belong to no lesson."""

from dataclasses import replace

import torch

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.choice import Choice
from llm_lab.checks.code import Mend, Write
from llm_lab.checks.number import Number

CARD = {
    "title": "A title", "task": "Do it.", "why": "It matters.", "difficulty": 1, "minutes": 2, "first": "begin.",
    "hints": ("One.", "Two.", "Three."), "explanation": "So it is.",
}  # fmt: skip

# `row_noise` of the package would do as well: any function that a file of solutions need not hold.
SCALE = Write(
    id="04.scale",
    stub="def scale(x, factor):\n    '''A docstring.'''\n    raise NotImplementedError\n",
    right=("tests.checks.samples_of_exercises.scale", "tests.checks.samples_of_exercises.scale_by_adding"),
    inputs=lambda draw: (draw.normal(draw.B, draw.T), 3),
    wrong=catalogue("""
# adds
You add the factor.
- x * factor
+ x + factor

# upside down
You divide.
- x * factor
+ x / factor
"""),
    **CARD,
)
DOUBLE = Mend(
    id="04.double",
    stub="def double(x, factor):\n    return x * 3 * factor\n",
    right=SCALE.right,
    inputs=SCALE.inputs,
    wrong=SCALE.wrong,
    **CARD,
)
SHARE = Number(
    id="04.share", truth=0.25, tolerance=0.01, look="Look again.",
    wrong=catalogue("# half\nToo many.\n= 0.5\n\n# none\nToo few.\n= 0"), **CARD,
)  # fmt: skip
CAUSE = Choice(
    id="04.cause", choices={"a": "This.", "b": "That.", "c": "Both."}, right="b",
    wrong=catalogue("# not this\nLook there.\n= a\n\n# not both\nOne is enough.\n= c"), **CARD,
)  # fmt: skip


def scale(x, factor):
    """The right answer."""
    return x * factor


def scale_by_adding(x, factor):
    """The same, written differently."""
    return sum([x] * factor, torch.zeros_like(x))


def with_seconds(exercise, seconds):
    """The same exercise with less patience."""
    return replace(exercise, seconds=seconds)
