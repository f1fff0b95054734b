"""Exercises of lesson 07, positions, first part: hands that turn, and what two places say to each other."""

from __future__ import annotations

import math
from typing import Any

import torch

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.choice import Choice
from llm_lab.checks.code import Write
from llm_lab.checks.deck import Draw
from llm_lab.checks.number import Number
from llm_lab.model.positions import rotary_table, rotate

INTRODUCTION = """\
# 07 - Positions: exercises

Eight exercises to [lesson 07](../notebooks/07_positions.ipynb). They climb, and none blocks the next. What you write
here is good for the encoder of lesson 08, which may know the order in any of these ways.

Places are counted from 0. B counts rows, T tokens, H heads, D the numbers of a head, E those of a token."""

# ----------------------------------------------------------------------------------------------------------- predict

TWO_ARROWS = Number(
    id="07.two_arrows",
    title="Two arrows, two tokens apart",
    task="""\
RoPE with one hand (D = 2) and ω = 1. Query and key are both the arrow (1, 0). The query stands at place 7, the key at
place 9. What is their product, after both were turned? Give two digits.""",
    why="If you can say this number, you know what RoPE does to every score.",
    difficulty=1,
    minutes=2,
    first="draw both arrows after they were turned. Which angle lies between them?",
    hints=(
        "The query is turned by 7 radians, the key by 9. Only one number matters for the product.",
        "The product of two arrows of length 1 is the cosine of the angle between them.",
        "The angle is 9 - 7, in radians (in degrees it is 114.6).",
    ),
    explanation="The angle between the arrows is 2 radians, at whatever places they stand, and cos 2 is -0.42.",
    truth=math.cos(2),
    tolerance=0.005,
    look="Two arrows of length 1, and the angle between them in radians: what is their product?",
    wrong=catalogue(f"""
# angles added
You added the angles. Both arrows turn the same way: what lies between them?
= {math.cos(16):.4f}

# a product of cosines
You multiplied the first numbers of the arrows. Each has a second number, too.
= {math.cos(7) * math.cos(9):.4f}

# sine in place of cosine
At distance 0 the product must be 1, the arrow times itself. Which of sine and cosine is 1 at 0?
= {math.sin(2):.4f}

# one token apart
That is the product for neighbours, as in the lesson. These two are further apart.
= {math.cos(1):.4f}

# degrees
You took 2 degrees. The angle is in radians: a full turn is 6.28.
= {math.cos(math.radians(2)):.4f}

# the sign lost
The angle is more than a right angle: what does that say about the sign?
= {-math.cos(2):.4f}

# the distance itself
That is how far they are apart, which is also the angle. The product of the arrows is wanted.
= 2.0
"""),
)

# ---------------------------------------------------------------------------------------------------------- diagnose


def colleagues_scores() -> None:
    """Print the scores of one query and one key at five places each; the keys are not turned."""
    query, key = torch.tensor([[1.0, 0.5, 0.2, 1.0], [0.8, -0.6, 1.0, 0.4]])
    turned = rotate(query.expand(1, 1, 5, 4), *rotary_table(5, 4))[0, 0]
    scores = turned @ key.expand(5, 4).T
    print("query at \\ key at" + "".join(f"{s:8}" for s in range(5)))
    for t, row in enumerate(scores.tolist()):
        print(f"{t:16} " + "".join(f"{score:8.2f}" for score in row))


COLLEAGUES_SCORES = Choice(
    id="07.colleagues_scores",
    title="A colleague's RoPE",
    task="""\
A colleague wrote rotary positions. To test them, the cell below takes *one* query and *one* key, the same numbers at
each of five places, and prints the score of each pair of places. What did the colleague do?""",
    why="One query and one key at many places: this table shows at a glance what a position knows.",
    difficulty=2,
    minutes=5,
    evidence=colleagues_scores,
    first="the table of a right RoPE depends on the distance alone. Along which lines of the table is it constant?",
    hints=(
        "Look for equal numbers: in a row, in a column, or along the diagonals?",
        "Each row is constant. So it does not matter where the key stands.",
        "What depends on the place of the query and not on that of the key: which of them was turned?",
    ),
    explanation="""\
Queries were turned and keys were not. The score then depends on the query's place alone, and not on the distance. Both
must be turned, each by its own place.""",
    choices={
        "a": "Both are turned, but in the opposite direction.",
        "b": "The queries are not turned; the keys are.",
        "c": "The places are counted from 1 and not from 0.",
        "d": "The keys are not turned; the queries are.",
        "e": "It is ALiBi: a penalty that grows with the distance.",
        "f": "Nothing is wrong: the score changes with the place, as it should.",
    },
    right="d",
    wrong=catalogue("""
# opposite direction
Then the score would still depend on the distance alone: equal numbers would stand along the diagonals.
= a

# queries not turned
Then nothing would depend on the place of the query: each *column* would be constant.
= b

# counted from 1
Then both would be turned by one more step, and no score would change at all.
= c

# ALiBi
A penalty for distance is the same along the diagonals, and lowest far from the middle one. Look along the rows.
= e

# nothing wrong
It changes with the place of the query alone. Move both by one place, from (0, 1) to (1, 2): the score should stay.
= f
"""),
)

# ----------------------------------------------------------------------------------------------------------- predict

TWO_PLACES = Number(
    id="07.two_places",
    title="What place 3 says to place 5",
    task="""\
The sinusoidal encoding with E = 4 has two hands. Row 3 of its table is multiplied with row 5, number by number, and
added up. How much is P(3) · P(5)? Give two digits.""",
    why="This product is how an added encoding lets a score depend on distance.",
    difficulty=2,
    minutes=6,
    first="write down the two speeds, ω₀ and ω₁, for E = 4.",
    hints=(
        "Section 4 says what P(t) · P(s) is: one cosine for each hand.",
        "The hands turn by ω₀ = 1 and ω₁ = 0.01 with each token.",
        "The distance is 2, so the angles are 2 and 0.02 radians.",
    ),
    explanation="cos(1 · 2) + cos(0.01 · 2) = -0.42 + 1.00 = 0.58. The places 3 and 5 themselves play no part.",
    truth=math.cos(2) + math.cos(0.02),
    tolerance=0.005,
    look="One cosine for each of the two hands: which angle has each turned between the two places?",
    wrong=catalogue(f"""
# the same place
That is a row times itself: one for each hand. These are two different places.
= 2.0

# the fast hand alone
That is the first hand's part. There are two.
= {math.cos(2):.4f}

# angles added
You added the places. What counts is how far they are apart.
= {math.cos(8) + math.cos(0.08):.4f}

# sines
You added sines. For one hand, sin a sin b + cos a cos b is a cosine.
= {math.sin(2) + math.sin(0.02):.4f}

# the second speed
Your second hand turns by 0.1 with each token: the exponent is 2i/E, not i/E.
= {math.cos(2) + math.cos(0.2):.4f}

# each hand twice
Sine and cosine of a hand together give *one* cosine of the difference.
= {2 * (math.cos(2) + math.cos(0.02)):.4f}

# the mean
You took the mean over the hands. A product of two rows is a sum.
= {(math.cos(2) + math.cos(0.02)) / 2:.4f}

# one token apart
3 and 5 are two tokens apart.
= {math.cos(1) + math.cos(0.01):.4f}
"""),
)

# ------------------------------------------------------------------------------------------------------------- write


def table_size(draw: Draw) -> tuple[Any, ...]:
    """A number of places and an even width."""
    return draw.T + draw.S, draw.E


def long_table(draw: Draw) -> tuple[Any, ...]:
    """Many places."""
    return 200 + draw.T, 2 * draw.D


SINUSOIDS = Write(
    id="07.sinusoids",
    title="A clock for each place",
    task="""\
Write `sinusoids(places, width)`. It returns the sinusoidal encoding, a tensor of float32 with shape (places, width),
`width` being even. Row t holds, for each hand i, sin(ω_i t) in column 2i and cos(ω_i t) in column 2i + 1, with ω_i =
10000^(-2i / width).""",
    why="A lost index in this formula, and a model can't tell a row from the same words shuffled. It still trains.",
    difficulty=2,
    minutes=10,
    first="write it for one place and one hand, and check it: `sinusoids(2, 4)[1]` is (0.84, 0.54, 0.01, 1.00).",
    hints=(
        "Three steps: the speeds, (width / 2); the angles, (places, width / 2); then sine and cosine, side by side.",
        "`torch.arange(0, width, 2) / width` are the exponents 2i / width; `[:, None]` turns places into a column.",
        """`torch.stack((angle.sin(), angle.cos()), dim=-1)` has shape (places, width / 2, 2). `.flatten(1)` makes rows
        in which sine and cosine take turns.""",
    ),
    explanation="""\
The package's own function. All angles are one table, places by hands. `stack` along a new last axis, then `flatten`,
lets sine and cosine take turns.""",
    stub="""
def sinusoids(places, width):
    '''The sinusoidal encoding, (places, width), float32.'''
    raise NotImplementedError
""",
    right=("llm_lab.model.positions.sinusoidal_table", "sinusoids_place_by_place", "sinusoids_as_hands"),
    inputs=table_size,
    more=(long_table,),
    tolerance=1e-3,
    wrong=catalogue("""
# one number for a place
All columns are alike: that is the printed formula of section 2, with its index lost. Each hand needs its own speed.
def wrong(places, width):
    angle = torch.arange(places) / 10_000 ** (2 / width)
    return (angle.sin() + angle.cos())[:, None].repeat(1, width)

# one speed for all hands
All your hands turn at the same speed. Does your exponent change with i?
- (torch.arange(0, width, 2) / width)
+ torch.full((width // 2,), 2 / width)

# halves
All sines stand in the first half of a row and all cosines in the second. They should take turns.
- dim=-1).flatten(1)
+ dim=1).flatten(1)

# sine and cosine exchanged
The cosine stands first in your pairs. At place 0, column 0 should be 0.
- (angle.sin(), angle.cos())
+ (angle.cos(), angle.sin())

# counted from 1
Your first row is that of place 1. Places are counted from 0.
- torch.arange(length)
+ torch.arange(1, length + 1)

# half the exponent
Your hands slow down too little: the last one has the exponent i / width, about a half, where it should come near 1.
- (torch.arange(0, width, 2) / width)
+ (torch.arange(width // 2) / width)

# twice the exponent
Your hands slow down too fast: the exponent runs up to 2.
- (torch.arange(0, width, 2) / width)
+ (torch.arange(0, width, 2) / (width // 2))

# a speed for each column
Sine and cosine of a pair have different speeds. They are the two coordinates of *one* hand.
def wrong(places, width):
    angle = torch.arange(places)[:, None] / 10_000 ** (torch.arange(width) / width)
    return torch.where(torch.arange(width) % 2 == 0, angle.sin(), angle.cos())

# degrees
Your angles are so small that they look like degrees turned into radians. The formula is in radians already.
- (angle.sin(), angle.cos())
+ (angle.deg2rad().sin(), angle.deg2rad().cos())

# slowest first
Your slowest hand comes first. With i = 0 the exponent is 0 and the speed 1.
- (torch.arange(0, width, 2) / width)
+ (torch.arange(0, width, 2) / width).flip(0)

# hands that speed up
Your hands turn faster and faster: look at the sign of the exponent.
- [:, None] / ROTARY_BASE
+ [:, None] * ROTARY_BASE

# sines alone
Both columns of a pair hold the sine. A sine has each value twice in a turn: that is why the cosine is there.
- angle.cos()
+ angle.sin()
"""),
)

EXERCISES = (TWO_ARROWS, COLLEAGUES_SCORES, TWO_PLACES, SINUSOIDS)
