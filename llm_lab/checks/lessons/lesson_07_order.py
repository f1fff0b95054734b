"""Exercises of lesson 07, positions, second part: ALiBi and RoPE."""

from __future__ import annotations

from typing import Any

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.code import Mend, Write
from llm_lab.checks.deck import Draw

# -------------------------------------------------------------------------------------------------------------- mend


def heads_and_length(draw: Draw) -> tuple[Any, ...]:
    """A number of heads and a number of tokens."""
    return draw.H, draw.T


ALIBI = Mend(
    id="07.alibi",
    title="Near is better",
    task="""\
`alibi(num_heads, length)` returns ALiBi's penalties, (H, T, T) in float32. What is added to the score of query t and
key s is -slope_h · |t - s|, with slope_h = 2^(-8h/H) for the heads h = 1 to H. A colleague's code below runs, and a
model trained with it looks to one side alone. There are two mistakes in it. Mend both.""",
    why="A bias is added in silence: no shape, no error and no NaN tells you that it is the wrong one.",
    difficulty=2,
    minutes=8,
    first="print `alibi(2, 3)` and write the six penalties of the first row of each head beside it, by hand.",
    hints=(
        "Compare the slopes first: with 4 heads they should be 1/4, 1/16, 1/64 and 1/256.",
        "`torch.arange(num_heads)` counts from 0. And which sign has the penalty for a key *right* of its query?",
        "Count from 1 up to H, and take `.abs()` of the difference of places.",
    ),
    explanation="""\
The heads count from 1, else the first has the slope 1. And the distance is |t - s|: with the sign, whatever stands to
the right of a query was rewarded. The package has it in loops, as the formula is written, and at once.""",
    stub="""
def alibi(num_heads, length):
    '''What ALiBi adds to the scores, (H, T, T), float32.'''
    slopes = 2.0 ** (-8 * torch.arange(num_heads) / num_heads)
    place = torch.arange(length)
    distance = place[:, None] - place
    return -slopes[:, None, None] * distance
""",
    right=("llm_lab.model.positions.alibi_loops", "alibi_at_once", "alibi_in_nested_lists"),
    inputs=heads_and_length,
    wrong=catalogue("""
# heads counted from 0
The distances are right. Your first head still has the slope 1: it counts as h = 0.
- (-8 * h
+ (-8 * (h - 1)

# a distance with a sign
The slopes are right. What stands to the right of a query is rewarded, not punished: a distance is never negative.
- abs(i - j)
+ (i - j)

# far is better
Your penalties are positive: the farther a word, the higher its score.
- -(2 **
+ (2 **

# one slope for all
All your heads have the same slope. They should see differently far.
- -8 * h / num_heads
+ -8 / num_heads

# the number of heads forgotten
Your slopes are 2^(-8h): with several heads all but the first hear everything equally loud. Where is H in the formula?
- -8 * h / num_heads
+ -8 * h

# halves
Your slopes are 1/2, 1/4, 1/8 and so on. That holds for 8 heads only: 2^(-8h/H).
- -8 * h / num_heads
+ -h

# the square of the distance
You punish by the square of the distance. Then even the last head sees hardly further than the first.
- abs(i - j)
+ (i - j) ** 2

# the place of the key
You punish a key for its place in the row, whoever looks.
- abs(i - j)
+ j

# last head steepest
Your first head has the smallest slope and the last the largest. h counts the other way.
- -8 * h /
+ -8 * (num_heads + 1 - h) /

# one side alone
What stands to the right of a query is not punished at all. A distance is the same to both sides.
- abs(i - j)
+ max(i - j, 0)

# heads last
Your axes are (T, T, H). The bias is added to scores (B, H, T, T).
-     return bias
+     return bias.permute(1, 2, 0)
"""),
)

# ------------------------------------------------------------------------------------------------------------- write


def rows_to_turn(draw: Draw) -> tuple[Any, ...]:
    """Queries or keys (B, H, T, D), D being even."""
    return (draw.normal(draw.B, draw.H, draw.T, draw.D),)


ROTATE = Write(
    id="07.rotate",
    title="Turn by the place",
    task="""\
Write `rotate(x)`: rotary positions for queries or keys x (B, H, T, D), D being even. Feature i of the first half and
feature i of the second half are one hand; at place t hand i turns by the angle t · 10000^(-2i / D). Turning (a, b) by
an angle gives (a cos - b sin, b cos + a sin). The result has the shape and the dtype of x.""",
    why="Wrong pairs, one step too many or a wrong sign still train; but no weights fit that others have trained.",
    difficulty=3,
    minutes=15,
    first="write it for D = 2 and one row: the arrow (1, 0) at place 1 becomes (0.54, 0.84).",
    hints=(
        "Two tables (T, D / 2), of cosines and of sines, serve all rows and heads.",
        "`first, second = x.chunk(2, dim=-1)` are all a's and all b's, each (B, H, T, D / 2).",
        "Two lines make the new halves from the *old* ones; `torch.cat((.., ..), dim=-1)` joins them.",
    ),
    explanation="""\
This is the formula, pair by pair. The package's `rotate` does all pairs at once, with tables that are computed only
once for a model.""",
    stub="""
def rotate(x):
    '''Turn each hand of each query or key by its place's angle. x (B, H, T, D) -> the same shape.'''
    raise NotImplementedError
""",
    right=("llm_lab.model.positions.rotate_loops", "rotate_at_once", "rotate_as_complex_numbers"),
    inputs=rows_to_turn,
    tolerance=1e-4,
    wrong=catalogue("""
# neighbours are pairs
You pair feature 2i with feature 2i + 1: the paper's layout. Here the two halves are paired. Weights of one layout don't
fit the other.
- a, b = x[:, :, position, i], x[:, :, position, i + half]
+ a, b = x[:, :, position, 2 * i], x[:, :, position, 2 * i + 1]
- turned[:, :, position, i] =
+ turned[:, :, position, 2 * i] =
- turned[:, :, position, i + half] =
+ turned[:, :, position, 2 * i + 1] =

# turned backwards
You turn the other way: the sign of both sines is wrong. Queries and keys turned so agree with each other, but not with
the formula.
- position * base
+ -position * base

# counted from 1
Place 0 is turned already. At place 0 nothing should change.
- position * base
+ (position + 1) * base

# half the exponent
Your hands slow down too little: is it i / D, or 2i / D?
- -2 * i /
+ -i /

# twice the exponent
Your hands slow down too fast: the exponent comes near 2 where it should come near 1.
- -2 * i /
+ -4 * i /

# one speed for all
All hands turn at the same speed. Does your angle change with i?
- -2 * i /
+ -2 /

# no rotation
Both sines have a plus. A rotation changes no length: compare the length of your arrow before and after.
- - b * angle.sin()
+ + b * angle.sin()

# sine and cosine exchanged
At place 0 the cosine is 1 and the sine 0, so nothing should change there. Yours does.
- a * angle.cos() - b * angle.sin()
+ a * angle.sin() - b * angle.cos()
- b * angle.cos() + a * angle.sin()
+ b * angle.sin() + a * angle.cos()

# the first half alone
The second half of the features is left as it was.
- b * angle.cos() + a * angle.sin()
+ b

# turned with the turned
Your second half is computed from the *new* first half. Both need the old numbers.
- b * angle.cos() + a * angle.sin()
+ b * angle.cos() + turned[:, :, position, i] * angle.sin()

# turned by the head
You turn by the number of the head: the place of a token is the third axis of x.
def wrong(x):
    return rotate_loops(x.transpose(1, 2)).transpose(1, 2)

# turned by the row
You turn by the number of the row in the batch: the place of a token is the third axis of x.
def wrong(x):
    return rotate_loops(x.transpose(0, 2)).transpose(0, 2)

# added, not turned
You added the waves to x. RoPE adds nothing: it turns pairs of numbers.
def wrong(x):
    cosine, sine = rotary_table(x.shape[2], x.shape[3])
    return x + torch.cat((sine.chunk(2, -1)[0], cosine.chunk(2, -1)[0]), dim=-1).to(x.dtype)
"""),
)

EXERCISES = (ALIBI, ROTATE)
