"""Exercises of lesson 06, attention, third part: rows that may attend to nothing, and the whole."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.code import Mend, Write
from llm_lab.checks.deck import Draw

# -------------------------------------------------------------------------------------------------------------- mend


def masks(draw: Draw, S: int, H: int) -> tuple[Tensor, ...]:
    """Masks of every shape that broadcasts to (B, H, T, S). Some rows may attend to nothing."""
    shapes = ((draw.B, 1, 1, S), (draw.T, S), (draw.B, 1, draw.T, S), (draw.B, H, draw.T, S))
    return tuple(draw.flags(*shape, share=0.6) for shape in shapes)


def scores_and_mask(draw: Draw) -> tuple[Any, ...]:
    """Scores (B, H, T, S) and a mask."""
    return draw.normal(draw.B, draw.H, draw.T, draw.S), draw.choice(*masks(draw, draw.S, draw.H))


def large_scores(draw: Draw) -> tuple[Any, ...]:
    """Scores whose exponentials no float can hold."""
    scores, mask = scores_and_mask(draw)
    return 500 * scores, mask


def slopes_are_numbers(answer: Any, given: tuple[Tensor, ...], *rest: Any) -> bool:
    """Tell whether finite slopes reach what was given. An answer that changes its input is told so elsewhere."""
    if getattr(answer, "spoiled", False):
        return True
    leaves = [x.clone().requires_grad_() for x in given]
    result = answer(*(x * 1 for x in leaves), *rest)
    if not result.requires_grad:
        return False
    (result * torch.linspace(-1, 2, result.numel(), dtype=result.dtype).view_as(result)).sum().backward()
    return all(x.grad is not None and bool(x.grad.isfinite().all()) for x in leaves)


def look_at_weights(answer: Any, scores: Tensor, mask: Tensor) -> dict[str, Any]:
    """The weights, and whether the scores can learn from them."""
    result = answer(scores, mask)
    return {"weights": result, "the slopes of the scores are numbers": slopes_are_numbers(answer, (scores,), mask)}


EMPTY_ROW = Mend(
    id="06.empty_row",
    title="The row that poisoned the model",
    task="""\
`weights(scores, mask)` makes attention weights (B, H, T, S) of scores of that shape. The mask broadcasts to it; True
means: may attend. The code below is the textbook's. In one batch a row had nothing that it might attend to, and one
step later every weight of the model was NaN. Mend it: such a row's weights are zeros, every other row stays as it is,
and the slopes are numbers everywhere. Scores may be large.""",
    why="It takes one empty sentence in a million. The loss of that step still looks healthy.",
    difficulty=3,
    minutes=12,
    first="give it the scores `torch.zeros(1, 1, 1, 3)` and a mask of False alone, and print the weights.",
    hints=(
        "A softmax over minus infinities divides 0 by 0. What else could stand at a forbidden place?",
        "`torch.finfo(scores.dtype).min` is the most negative finite number. Which shares has an empty row then?",
        "Equal ones. So set the weights of forbidden places to 0 after the softmax, too: `.masked_fill(~mask, 0.0)`.",
    ),
    explanation="""\
With the most negative finite number an empty row stays finite; the second `masked_fill` makes it zeros. In the other
rows forbidden places had the weight 0 anyway, so nothing changes there.""",
    stub="""
def weights(scores, mask):
    '''Weights (B, H, T, S); each row adds up to 1, or to 0 where it may attend to nothing.'''
    scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(dim=-1)
""",
    right=("weights", "weights_without_nan", "weights_by_hand"),
    inputs=scores_and_mask,
    more=(large_scores,),
    probe=look_at_weights,
    wrong=catalogue("""
# an empty row attends to all
An empty row now shares its attention among forbidden places. The numbers are finite, but it should be zeros.
- .masked_fill(~mask, 0.0)
+

# forbidden too late
The softmax shares out among all places, and then a part is thrown away: rows no longer add up to 1.
def wrong(scores, mask):
    return scores.softmax(dim=-1).masked_fill(~mask, 0.0)

# upside down
Now the forbidden places have all the weight. True means: may attend.
- scores = scores.masked_fill(~mask
+ scores = scores.masked_fill(mask
- .masked_fill(~mask, 0.0)
+ .masked_fill(mask, 0.0)

# a score of 0
You set forbidden scores to 0, and e to the power of 0 is 1: they take a part of the row.
- torch.finfo(scores.dtype).min
+ 0.0

# small, but not small enough
Forbidden places get a little weight, or all of it where the allowed scores are low: the number that you write there is
not far enough down.
- torch.finfo(scores.dtype).min
+ -8.0
- .masked_fill(~mask, 0.0)
+ * mask.any(dim=-1, keepdim=True)

# slopes are NaN
The weights are right, and their slopes are NaN: minus infinity was *added*, and going backwards meets NaN times 0.
Covering up a NaN in the result doesn't take it out of the slopes.
def wrong(scores, mask):
    return (scores + torch.where(mask, 0.0, -torch.inf)).softmax(dim=-1).nan_to_num(0.0)

# cut off from the slopes
The weights are right, but no slope reaches the scores: something cuts them off (`.detach()`, `.tolist()`,
`torch.tensor`, `no_grad`).
def wrong(scores, mask):
    return weights(scores, mask).detach()

# the first column only
One empty row is mended, and rows that merely begin with a forbidden place become zeros, too. A row is empty when *no*
place of it is allowed.
- .masked_fill(~mask, 0.0)
+ .masked_fill(~mask | ~mask[..., :1], 0.0)

# zeros for any forbidden place
A row with one forbidden place becomes zeros. `all` and `any` are easily mixed up.
- .masked_fill(~mask, 0.0)
+ * mask.all(dim=-1, keepdim=True)

# e to a large power
e to the power of 500 is infinite, and infinite divided by infinite is NaN. Softmax subtracts the largest score first.
def wrong(scores, mask):
    exponentials = scores.exp() * mask
    return exponentials / exponentials.sum(dim=-1, keepdim=True).clamp(min=1e-30)

# shares of each column
The weights of a column add up to 1. A row is who looks: along which axis does it share out?
- scores.softmax(dim=-1)
+ scores.softmax(dim=-2)

# an empty row empties all
When one row is empty, all weights become zeros. Only that row has nothing to give.
- .masked_fill(~mask, 0.0)
+ .masked_fill(~mask, 0.0) * mask.any(dim=-1).all()
"""),
)

# ------------------------------------------------------------------------------------------------------------- write


def queries_keys_values(draw: Draw) -> tuple[Any, ...]:
    """Queries, keys, values and a mask or None; small, so that loops in Python have the time that they need."""
    B, H, T = min(draw.B, 2) if draw.T < 5 else 1, min(draw.H, 3), min(draw.T, 5)
    S = min(draw.choice(draw.S, draw.T, draw.T), 5)
    sources = draw.normal(2, B, H, S, draw.D)
    shapes = ((B, 1, 1, S), (B, 1, T, S), (B, H, T, S), (T, S))
    options = [None, *(draw.flags(*shape, share=0.6) for shape in shapes)]
    return draw.normal(B, H, T, draw.D), sources[0], sources[1], draw.choice(*options)


def look_at_attention(answer: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> dict[str, Any]:
    """The output, and whether queries, keys and values can learn from it."""
    facts = {"output": answer(query, key, value, mask)}
    if query.dtype == torch.float64:  # half of the inputs: loops take their time
        finite = slopes_are_numbers(answer, (query, key, value), mask)
        facts["slopes reach query, key and value, and are numbers"] = finite
    return facts


ATTENTION = Write(
    id="06.attention",
    title="Attention, for your trainer",
    task="""\
Write `attention(query, key, value, mask)`. `query` has shape (B, H, T, D), `key` and `value` (B, H, S, D). `mask` is
None, or a tensor of bool that broadcasts to (B, H, T, S); True means: may attend. It returns (B, H, T, D): scaled
scores, softmax over what may be attended to, mixture of the values. A query that may attend to nothing gets zeros.
Slopes must reach queries, keys and values, and be numbers, so do it all in tensors (and leave `.item()` out).""",
    why="It is the heart of the model. Your own encoder and your own training run of lesson 12 will use it.",
    difficulty=4,
    minutes=30,
    first="do it without a mask, in two matrix products, and test it with the three words of section 2.",
    hints=(
        "Four steps: scores, forbid, share out, mix. Two of them are matrix products.",
        "`scores.masked_fill(~mask, torch.finfo(scores.dtype).min)` forbids; then `softmax(dim=-1)`.",
        "A second `masked_fill(~mask, 0.0)`, on the shares, gives zeros in a row without any source. Then `@ value`.",
    ),
    explanation="""\
The four steps, one a line. The package has them in `attention_batched`, beside the same in loops and as a fused
kernel.""",
    stub="""
def attention(query, key, value, mask):
    '''Each query's mixture of the values, (B, H, T, D). `mask` is None, or True where a query may attend.'''
    raise NotImplementedError
""",
    right=(
        "attention",
        "llm_lab.model.attention.attention_batched",
        "llm_lab.model.attention.attention_fused",
        "llm_lab.model.attention.attention_loops",
    ),
    inputs=queries_keys_values,
    probe=look_at_attention,
    wrong=catalogue("""
# no root
Your scores are not divided: softmax becomes all or nothing in wide heads.
-  / query.shape[-1] ** 0.5
+

# divided by d_k
Your scores are divided by D, not by its root: all words come out nearly alike.
- ** 0.5
+

# shares of each column
The softmax runs over the queries. Each query shares out *its own* attention: over which axis?
- softmax(dim=-1)
+ softmax(dim=-2)

# shares among heads
The softmax runs over the heads. Each head does its own.
- softmax(dim=-1)
+ softmax(dim=1)

# the mask upside down
Your queries attend to just what is forbidden. True means: may attend.
- if mask is None else mask
+ if mask is None else ~mask

# the mask ignored
The result is the same with a mask and without. Did you use what came back? `masked_fill` does not change its tensor.
- if mask is None else mask
+

# forbidden too late
You set weights to 0 after the softmax: rows no longer add up to 1, and the mixture is too small.
-     scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
+

# a score of 0
Forbidden scores are set to 0, and e to the power of 0 is 1: they take a part.
- torch.finfo(scores.dtype).min
+ 0.0
- shares.masked_fill(~allowed, 0.0)
+ shares.masked_fill(~allowed.any(dim=-1, keepdim=True), 0.0)

# NaN in an empty row
A query that may attend to nothing gets NaN: 0 divided by 0. One such query spoils the slopes of the whole model.
- torch.finfo(scores.dtype).min
+ -torch.inf
- shares.masked_fill(~allowed, 0.0)
+ shares

# an empty row attends to all
A query that may attend to nothing gets the mean of forbidden values. The card asks for zeros.
- shares.masked_fill(~allowed, 0.0)
+ shares

# slopes are NaN
The output is right, and slopes are NaN. Minus infinity was added to the scores, or an empty row's NaN was covered up
in the result: going backwards meets it all the same.
- scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
+ scores + torch.where(allowed, 0.0, -torch.inf)
- shares.masked_fill(~allowed, 0.0)
+ shares.nan_to_num(0.0)

# cut off from the slopes
The numbers are right, but no slope reaches query, key or value: something cuts them off (`.item()`, `.tolist()`,
`.detach()`, `torch.tensor`), and the model could never learn.
- return shares.masked_fill(~allowed, 0.0) @ value
+ return (shares.masked_fill(~allowed, 0.0) @ value).detach()

# keys in place of values
You mix the keys. A key says how a word is found; what it hands over is something else.
- 0.0) @ value
+ 0.0) @ key

# queries ignored
All queries of a head get the same mixture: your scores don't depend on who looks.
- scores = query @ key
+ scores = query.mean(dim=2, keepdim=True).expand_as(query) @ key

# keys look at queries
You multiplied keys with queries, in place of queries with keys: row t of your table belongs to key t.
- query @ key.transpose(-2, -1) /
+ key @ query.transpose(-2, -1) /

# one row of the mask for all
You use the mask of the first query for all of them. A mask may have a row for each query.
- if mask is None else mask
+ if mask is None else mask[..., :1, :]

# the shares alone
You return the map. What is wanted is the mixture: shares times values.
- 0.0) @ value
+ 0.0)
"""),
)

EXERCISES = (EMPTY_ROW, ATTENTION)
