"""Exercises of lesson 07, positions, third part: what an encoder knows of the order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.code import Write
from llm_lab.checks.compare import kind_of
from llm_lab.checks.deck import Draw
from llm_lab.model.attention import attention_batched
from llm_lab.model.positions import alibi_bias, alibi_slopes, rotary_table, rotate, sinusoidal_table

# ------------------------------------------------------------------------------------------------------------- write

KNOWS = {
    "none": "that knows nothing of the order",
    "sinusoidal": "with sinusoidal positions",
    "learned": "with learned positions",
    "rotary": "with RoPE",
    "alibi": "with ALiBi",
    "left": "whose tokens see themselves and what stands before them",
    "lower": "whose vectors are a little lower at each place than at the one before",
}


class Mystery:
    """One layer of attention on an embedding, with positions of some kind: ids (B, T), mask (B, T) -> (B, T, E)."""

    def __init__(self, kind: str, draw: Draw):
        self.kind, E = kind, 16
        self.embedding = draw.normal(60, E)
        self.query, self.key, self.value = draw.normal(3, E, E) / 2
        self.places = {"learned": draw.normal(60, E), "sinusoidal": sinusoidal_table(60, E)}

    def __repr__(self) -> str:
        return f"an encoder {KNOWS[self.kind]}"

    def __call__(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Two heads of eight numbers."""
        x, T = self.embedding[ids], ids.shape[1]
        if self.kind in self.places:
            x = x + self.places[self.kind][:T].to(x.dtype)
        query, key, value = ((x @ table).unflatten(-1, (2, -1)).transpose(1, 2) for table in self._tables())
        bias, allowed = None, mask[:, None, None, :]
        if self.kind == "lower":  # all differences small, and in one direction
            return x - 0.0004 * torch.arange(T)[:, None]
        if self.kind == "rotary":
            tables = [table.to(x.dtype) for table in rotary_table(T, 8)]
            query, key = rotate(query, *tables), rotate(key, *tables)
        if self.kind == "alibi":
            bias = 8 * alibi_bias(alibi_slopes(2), T).to(x.dtype)
        if self.kind == "left":
            allowed = allowed & torch.ones(T, T, dtype=torch.bool).tril()
        return x + attention_batched(query, key, value, allowed, bias).transpose(1, 2).flatten(2)

    def _tables(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.query, self.key, self.value


def encoder_and_row(draw: Draw) -> tuple[Any, ...]:
    """An encoder of some kind, and rows of at least six different tokens."""
    ids = torch.stack([torch.randperm(58, generator=draw.chance)[: 6 + draw.T % 8] + 1 for _ in range(draw.B)])
    return Mystery(tuple(KNOWS)[draw.seed % len(KNOWS)], draw), ids


def look_at_tests(answer: Any, encode: Mystery, ids: Tensor) -> dict[str, Any]:
    """The three answers by their names."""
    result = answer(encode, ids)
    if not isinstance(result, tuple | list) or len(result) != 3:
        return {"the result": kind_of(result)}
    return {"the result": "three bools"} | dict(zip(("moved", "reversed", "shuffled"), result, strict=True))


THREE_TESTS = Write(
    id="07.three_tests",
    title="What does this encoder know?",
    task="""\
Write `three_tests(encode, ids)`, the three tests of section 8. `encode(ids, mask)` is some encoder: ids (B, T) and
a mask (B, T), True at real tokens, give one vector a token, (B, T, E). `ids` holds rows of at least six different
tokens, none of them 0. Return three bools, (moved, reversed, shuffled). Each says whether the vectors of the tokens
**change**:

- moved: some `[PAD]` (id 0) stand before the row, and the mask forbids them;
- reversed: the row is written from right to left;
- shuffled: the row is written in another order, neither the old one nor its reverse.

Each token is compared with itself, at whatever place it stands now. Rounding is no change: let differences below 1e-4
count as none.""",
    why="You can put these questions to any encoder, yours of the next lesson included, without reading its code.",
    difficulty=4,
    minutes=25,
    first="do the second test alone: encode `ids` and `ids.flip(1)`. Which vector belongs to the first token in each?",
    hints=(
        "Each test: change the ids, encode, bring the vectors back to where their tokens stood, and compare.",
        "With `order = torch.randperm(T)`, `ids[:, order]` shuffles and `vectors[:, order.argsort()]` brings back.",
        """For "moved": `torch.cat((padding, ids), dim=1)`, its mask is `!= 0`, and the vectors of the tokens are those
        behind the padding. A change is `(other - plain).abs().max() > 1e-4`.""",
    ),
    explanation="""\
Three changed inputs, each with its way back: cut off the padding, turn round, sort. The order's own inverse is its
`argsort`. Whoever forgets the way back compares different tokens, and always sees a change.""",
    stub="""
def three_tests(encode, ids):
    '''(moved, reversed, shuffled): True where the vectors of the tokens change. `encode(ids, mask)` -> (B, T, E).'''
    raise NotImplementedError
""",
    right=("three_tests", "three_tests_place_by_place"),
    inputs=encoder_and_row,
    probe=look_at_tests,
    may_draw=True,
    wrong=catalogue("""
# not turned back
A reversed row has its vectors in reversed order, too: you compare the first token with the last one.
- encode(ids.flip(1), here).flip(1)
+ encode(ids.flip(1), here)

# not brought back
After the shuffle you compare different tokens with each other: bring each vector back to where its token stood. (The
same order a second time does not bring it back. What undoes an order?)
- encode(ids[:, order], here)[:, order.argsort()]
+ encode(ids[:, order], here)

# every row moves
By your test every row changes when it is moved, even where the encoder knows nothing of the order. Either the tokens
see the padding (what does your mask say at `[PAD]`?), or you compare the vectors of the wrong places.
- moved != 0
+ torch.ones_like(moved, dtype=torch.bool)

# padding behind
Your padding stands behind the row, or there is none: the row has not moved.
- (padding, ids)
+ (ids, padding)
- [:, 10:]
+ [:, : ids.shape[1]]

# compared exactly
You see rounding errors as changes: numbers summed in another order differ in the last digits.
- bool((other - plain).abs().max() > 1e-4)
+ not torch.equal(other, plain)

# upside down
You return True where the vectors stay the same. The card asks whether they *change*.
- > 1e-4
+ <= 1e-4

# sums compared
Your differences have a sign, and their sum or mean may cancel, or stay below the limit. Look at the largest one.
- .abs().max()
+ .mean()

# no absolute value
A change downwards is a change, too. The largest of the differences with their signs does not see it.
- .abs().max()
+ .max()

# the reverse as a shuffle
Your shuffle is the reverse: who doesn't mind the one may mind the other.
- torch.randperm(ids.shape[1], generator=torch.Generator().manual_seed(0))
+ torch.arange(ids.shape[1]).flip(0)

# another order of the three
Your three answers stand in another order: moved, reversed, shuffled.
- for other in others)
+ for other in others[::-1])

# a coarse limit
Your limit is so wide that real changes pass for rounding. How large is rounding, in float32?
- > 1e-4
+ > 1.0
"""),
)

EXERCISES = (THREE_TESTS,)
