"""Exercises of lesson 08, the Transformer encoder, third part: how a block is wired."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.code import Mend
from llm_lab.checks.deck import Draw

# -------------------------------------------------------------------------------------------------------------- mend


class Part:
    """A part of a block for a test: attention, feed-forward or a norm, (B, T, E) -> the same."""

    def __init__(self, name: str, table: Tensor):
        self.name, self.table = name, table

    def __repr__(self) -> str:
        return f"a {self.name}"

    def __call__(self, x: Tensor) -> Tensor:
        """Mix the tokens, bend each, or norm each."""
        if self.name == "norm":
            return F.layer_norm(x, x.shape[-1:]) * self.table
        x = x + x.flip(1).cumsum(dim=1) if self.name == "mixture of tokens" else x
        return torch.tanh(x @ self.table)


def parts_of_a_block(draw: Draw) -> tuple[Any, ...]:
    """The stream (B, T, E), and the four parts of a block."""
    E = draw.E + 3
    tables = draw.normal(2, E, E), 1 + draw.uniform(2, E)
    attend, think = Part("mixture of tokens", tables[0][0]), Part("bend of each token", tables[0][1])
    return draw.normal(draw.B, draw.T, E), attend, think, Part("norm", tables[1][0]), Part("norm", tables[1][1] + 1)


WIRING = Mend(
    id="08.wiring",
    title="Twelve blocks that never start",
    task="""\
`block(x, attend, think, first_norm, second_norm)` wires a block of four parts. Each is a function (B, T, E) -> (B,
T, E): attention, feed-forward, and a norm for each of them. The code below is post-norm, and a model of twelve such
blocks never leaves the word frequencies (section 4). Make it pre-norm.""",
    why="The same four parts, wired otherwise, decide whether a deep model starts at all.",
    difficulty=2,
    minutes=8,
    first="draw the stream as a line from left to right. In pre-norm, what stands on the line itself?",
    hints=(
        "In pre-norm nothing stands on the stream but two additions.",
        "Each part reads the stream through its norm: the norm is applied to what goes *into* the part.",
        "x + attend(first_norm(x)), and then the same with the other two, from the new x.",
    ),
    explanation="""\
x + attend(norm(x)), then x + think(norm(x)). From end to end the stream is only added to, so that a slope of 1 runs
through all blocks.""",
    stub="""
def block(x, attend, think, first_norm, second_norm):
    '''One block, (B, T, E) -> (B, T, E).'''
    x = first_norm(x + attend(x))
    return second_norm(x + think(x))
""",
    right=("block", "block_by_parts"),
    inputs=parts_of_a_block,
    wrong=catalogue("""
# half of it mended
The first half is pre-norm now. The second half still norms the sum.
- x + think(second_norm(x))
+ second_norm(x + think(x))

# the other half mended
The second half is pre-norm now. The first half still norms the sum.
- x + attend(first_norm(x))
+ first_norm(x + attend(x))

# nothing added after attention
Attention replaces the stream: what a word was is gone, only the mixture is left.
- x = x + attend(
+ x = attend(

# nothing added after the feed-forward
The feed-forward part replaces the stream. What is to be kept of x?
- return x + think(
+ return think(

# nothing added at all
Both parts replace the stream: there is no residual connection left.
- x = x + attend(
+ x = attend(
- return x + think(
+ return think(

# the stream is normed
You norm x itself, and add to the normed x. In pre-norm only the part sees the normed x; the stream stays as it is.
def wrong(x, attend, think, first_norm, second_norm):
    x = first_norm(x)
    x = x + attend(x)
    x = second_norm(x)
    return x + think(x)

# norms behind the parts
You norm what a part hands back. In pre-norm the norm stands before the part.
- attend(first_norm(x))
+ first_norm(attend(x))
- think(second_norm(x))
+ second_norm(think(x))

# no norms
The parts read the raw stream, which grows from block to block.
- attend(first_norm(x))
+ attend(x)
- think(second_norm(x))
+ think(x)

# one norm twice
The second part reads through the norm of the first.
- second_norm(x)
+ first_norm(x)

# norms exchanged
Each part has a norm of its own: yours are exchanged.
- attend(first_norm(x))
+ attend(second_norm(x))
- think(second_norm(x))
+ think(first_norm(x))

# side by side
The feed-forward part reads the stream from before the attention. It comes after it.
def wrong(x, attend, think, first_norm, second_norm):
    return x + attend(first_norm(x)) + think(second_norm(x))

# think first
The feed-forward part comes before the attention: look around first, then think.
def wrong(x, attend, think, first_norm, second_norm):
    x = x + think(second_norm(x))
    return x + attend(first_norm(x))

# the old stream added
The second addition starts from the x of before the attention, so that what was found there is lost but for what the
feed-forward part makes of it.
def wrong(x, attend, think, first_norm, second_norm):
    after = x + attend(first_norm(x))
    return x + think(second_norm(after))
"""),
)

EXERCISES = (WIRING,)
