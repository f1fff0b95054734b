"""Exercises of lesson 06, attention, second part: what a map costs, and heads."""

from __future__ import annotations

from typing import Any

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.code import Write
from llm_lab.checks.deck import Draw
from llm_lab.checks.number import Number

# ----------------------------------------------------------------------------------------------------------- predict

HEADS, TOKENS, WIDTH, BYTES = 12, 2048, 768, 2

MEMORY = Number(
    id="06.memory",
    title="How large is the map?",
    task="""\
One row of 2,048 tokens goes through one layer of 12 heads (E = 768). The attention maps are stored as numbers of 2
bytes. How many MiB (1,048,576 bytes) do the maps of this layer need for this row?""",
    why="This table is what fills a GPU with long texts, and what the fused kernel never stores.",
    difficulty=2,
    minutes=5,
    first="how many entries does the map of one head have? Each of the tokens looks at each of the tokens.",
    hints=(
        "Four numbers are to be multiplied, two of which are equal.",
        "One head: 2,048 times 2,048 entries. All heads have a map of their own.",
        "One head's map is 4,194,304 entries, 8 MiB at 2 bytes each.",
    ),
    explanation="2,048² entries of 2 bytes are 8 MiB a head, and there are 12. Twice the length, four times that.",
    truth=HEADS * TOKENS**2 * BYTES / 2**20,
    tolerance=1.0,
    look="Heads, tokens that look, tokens that are looked at, bytes: is each of them a factor, once?",
    wrong=catalogue(f"""
# one head
That is the map of a single head. Each head has its own.
= {TOKENS**2 * BYTES / 2**20}

# tokens not squared
A map has a row for each token and a column for each token.
= {HEADS * TOKENS * BYTES / 2**20}

# entries, not bytes
You counted millions of entries. How many bytes does each take?
= {HEADS * TOKENS**2 / 2**20}

# four bytes
That is the size in single precision. Look at the card: how many bytes has a number here?
= {HEADS * TOKENS**2 * 4 / 2**20}

# millions of bytes
You divided by 1,000,000. A MiB has 1,048,576 bytes.
= {HEADS * TOKENS**2 * BYTES / 1e6}

# the vectors
That is the size of T vectors of E numbers: the queries, say. The map has no axis E.
= {TOKENS * WIDTH * BYTES / 2**20}

# a map for each number
You multiplied with E in place of H. E numbers are split among the heads, and each head has one map.
= {WIDTH * TOKENS**2 * BYTES / 2**20}
"""),
)

# ------------------------------------------------------------------------------------------------------------- write


def vectors_to_split(draw: Draw) -> tuple[Any, ...]:
    """Vectors (B, T, E) and a number of heads that divides E."""
    return draw.normal(draw.B, draw.T, draw.E), draw.H


SPLIT_HEADS = Write(
    id="06.split_heads",
    title="A head for each question",
    task="""\
Write `split_heads(x, num_heads)`. `x` has shape (B, T, E). It returns (B, H, T, D) with H = `num_heads` and D = E / H:
head 0 has the first D numbers of each token, head 1 the next D, and so on.""",
    why="The usual bug gives the right shape, and heads in which the numbers of different words are mixed.",
    difficulty=2,
    minutes=8,
    first="""\
take one row of three words with four numbers each, `torch.arange(12).view(1, 3, 4)`, and write down what the first of
two heads should hold.""",
    hints=(
        "Two steps: cut each token's E numbers into H pieces; then bring the pieces to the front, before the tokens.",
        "`x.chunk(num_heads, dim=-1)` cuts x into H tensors (B, T, D), one for each head.",
        "`torch.stack(pieces, dim=1)` puts them side by side along a new axis, the second.",
    ),
    explanation="""\
`chunk` cuts the last axis, and `stack` puts the pieces side by side. The package cuts with `unflatten`, to (B, T, H,
D), and exchanges two axes with `transpose(1, 2)`. A `reshape` to (B, H, T, D) would cut across the words.""",
    stub="""
def split_heads(x, num_heads):
    '''(B, T, E) -> (B, H, T, D), head 0 with the first D numbers of each token.'''
    raise NotImplementedError
""",
    right=("split_heads", "split_heads_by_exchanging_axes", "split_heads_by_permuting"),
    inputs=vectors_to_split,
    wrong=catalogue("""
# reshaped to the shape
The shape is right, and each head has got the numbers of several words: `reshape` and `view` cut anew, in the order in
which the numbers lie. In x the numbers of a token lie together, in the result those of a head do.
def wrong(x, num_heads):
    return x.reshape(len(x), num_heads, x.shape[1], -1)

# the heads stand third
Your result is (B, T, H, D): the pieces are right, and still stand inside of their token. Which two axes are to be
exchanged?
def wrong(x, num_heads):
    return x.unflatten(-1, (num_heads, -1))

# every H-th number
Head 0 has the numbers 0, H, 2H and so on of each token. In which order do H and D stand when you cut E?
def wrong(x, num_heads):
    return x.unflatten(-1, (-1, num_heads)).permute(0, 3, 1, 2)

# D heads
You made D heads of H numbers each: look at the shape of your result with 6 numbers and 2 heads.
def wrong(x, num_heads):
    return x.unflatten(-1, (-1, num_heads)).permute(0, 2, 1, 3)

# turned on its side
Each head has D rows and T columns. A row should be a token.
def wrong(x, num_heads):
    return split_heads(x, num_heads).transpose(2, 3)

# heads before rows
Heads stand first and the rows of the batch second. The result begins with B.
- dim=1
+ dim=0

# one after the other
You joined the heads along the tokens, and not along an axis of their own.
- torch.stack(x.chunk(num_heads, dim=-1), dim=1)
+ torch.cat(x.chunk(num_heads, dim=-1), dim=1)

# last head first
The heads come in the wrong order: head 0 has the last D numbers.
- x.chunk(num_heads, dim=-1), dim=1)
+ x.chunk(num_heads, dim=-1)[::-1], dim=1)

# the same numbers for all
Every head has the first D numbers. The others are lost.
- x.chunk(num_heads, dim=-1),
+ x.chunk(num_heads, dim=-1)[:1] * num_heads,
"""),
)

EXERCISES = (MEMORY, SPLIT_HEADS)
