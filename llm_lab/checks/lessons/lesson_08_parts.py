"""Exercises of lesson 08, the Transformer encoder, second part: the norm and the feed-forward part."""

from __future__ import annotations

from typing import Any

import torch

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.code import Mend, Write
from llm_lab.checks.deck import Draw

# -------------------------------------------------------------------------------------------------------------- mend


def rows_to_norm(draw: Draw) -> tuple[Any, ...]:
    """Vectors (B, T, E), a scale (E,), and an epsilon that is large enough to be seen."""
    x = 2 * draw.normal(draw.B, draw.T, draw.E) + 1
    return x, draw.normal(draw.E) + 2, draw.choice(0.01, 0.1, 0.5)


def a_constant_row(draw: Draw) -> tuple[Any, ...]:
    """One token whose numbers are all equal."""
    x, scale, epsilon = rows_to_norm(draw)
    return torch.cat((x, torch.full_like(x[:, :1], 3.0)), dim=1), scale, epsilon


LAYER_NORM = Mend(
    id="08.layer_norm",
    title="The norm that looked at its neighbours",
    task="""\
`layer_norm(x, scale, epsilon)` should norm each token by itself: from the E numbers of a token subtract their mean,
divide by the root of variance plus `epsilon`, and multiply by `scale`. x has shape (B, T, E), `scale` (E,). The
variance is the plain mean of squared deviations. The code below runs, until a row has a single token: then it returns
NaN. It is wrong on longer rows, too. There are two mistakes in it. Mend both.""",
    why="A norm over the wrong axis lets every token peek at the others, past the attention and its mask.",
    difficulty=2,
    minutes=8,
    first="give it the one token of exercise 1, `torch.tensor([[[1., 1, 1, 5]]])`, the scale `torch.ones(4)` and 0.",
    hints=(
        "Over which axis should the mean of a token's numbers be taken? x has the axes 0 (B), 1 (T) and 2 (E).",
        "`x.var` divides by the count minus one, unless you forbid it. With one token that is 0.",
        "`dim=-1` in both lines, and `correction=0` in the second.",
    ),
    explanation="""\
Mean and variance are taken over the last axis, a token's own numbers, and the variance is a plain mean. PyTorch's
`F.layer_norm` does the same.""",
    stub="""
def layer_norm(x, scale, epsilon):
    '''Each token normed by itself, (B, T, E) -> the same shape.'''
    mean = x.mean(dim=1, keepdim=True)
    variance = x.var(dim=1, keepdim=True)
    return (x - mean) / (variance + epsilon).sqrt() * scale
""",
    right=("layer_norm", "layer_norm_of_pytorch", "layer_norm_token_by_token"),
    inputs=rows_to_norm,
    more=(a_constant_row,),
    wrong=catalogue("""
# divided by one less
The axis is right. The variance is still divided by E - 1, as for a sample: what does `var` do unless it is told?
- variance = ((x - mean) ** 2).mean(dim=-1, keepdim=True)
+ variance = x.var(dim=-1, keepdim=True)

# over the tokens
The variance is a plain mean now, but both are still taken over the tokens of a row: each token depends on the others.
- mean = x.mean(dim=-1, keepdim=True)
+ mean = x.mean(dim=1, keepdim=True)
- ** 2).mean(dim=-1, keepdim=True)
+ ** 2).mean(dim=1, keepdim=True)

# over all numbers
You take one mean and one variance of everything: then a row depends on the others of its batch.
- mean = x.mean(dim=-1, keepdim=True)
+ mean = x.mean()
- ** 2).mean(dim=-1, keepdim=True)
+ ** 2).mean()

# over the whole row
You take one mean and one variance for all tokens of a row. Each token is normed by itself.
- mean = x.mean(dim=-1, keepdim=True)
+ mean = x.mean(dim=(1, 2), keepdim=True)
- ** 2).mean(dim=-1, keepdim=True)
+ ** 2).mean(dim=(1, 2), keepdim=True)

# over the batch
You norm over the rows of the batch: then a row comes out differently in other company.
- mean = x.mean(dim=-1, keepdim=True)
+ mean = x.mean(dim=0, keepdim=True)
- ** 2).mean(dim=-1, keepdim=True)
+ ** 2).mean(dim=0, keepdim=True)

# the mean left in
Nothing is subtracted: that is RMSNorm, or half of LayerNorm.
- mean = x.mean(dim=-1, keepdim=True)
+ mean = torch.zeros_like(x)

# the mean left in above
The variance is right, but above it stands x itself. What is to be subtracted from it?
- return (x - mean) /
+ return x /

# epsilon outside of the root
You add epsilon to the root. It belongs to the variance, inside of the root: for a token of equal numbers that matters.
- (variance + epsilon) ** 0.5
+ (variance ** 0.5 + epsilon)

# no epsilon
Epsilon plays no part, and a token of equal numbers gives 0 divided by 0.
- (variance + epsilon)
+ variance

# no root
You divide by the variance, not by its root: a token of large numbers comes out small.
- ** 0.5
+

# no scale
The scale plays no part.
-  * scale
+

# the scale added
You add the scale. It stretches.
-  * scale
+  + scale

# the scale first
You scale before the norm, and the norm takes most of it back.
def wrong(x, scale, epsilon):
    return layer_norm(x * scale, torch.ones_like(scale), epsilon)
"""),
)

# ------------------------------------------------------------------------------------------------------------- write


def tables_of_a_feed_forward(draw: Draw) -> tuple[Any, ...]:
    """Vectors (B, T, E), and the tables of a GeGLU with F hidden numbers."""
    E, hidden = draw.E, draw.S + draw.choice(1, 3, 6)
    tables = draw.normal(hidden, E), draw.normal(hidden, E), draw.normal(E, hidden)
    return draw.normal(draw.B, draw.T, E), *tables


GEGLU = Write(
    id="08.geglu",
    title="Think, through a gate",
    task="""\
Write `geglu(x, gate, up, down)`, the feed-forward part of section 5: x has shape (B, T, E), `gate` and `up` (F, E),
`down` (E, F), as the weights of `nn.Linear` do. It returns (B, T, E). No biases; the exact GELU.""",
    why="Two thirds of the numbers in a block of `tiny` stand in these three tables.",
    difficulty=2,
    minutes=10,
    first="compute gelu(1) · 2 and gelu(-1) · 2, the two examples of section 5, in a line of code.",
    hints=(
        "Three products with a table. A table (F, E) must be turned on its side first: `x @ gate.T`.",
        "`F.gelu` bends the gate alone. Then number by number: gate times up.",
        "What comes out has F numbers a token; `@ down.T` makes E of them.",
    ),
    explanation="The bent gate says how much passes, the other projection is what passes; `down` brings it back to E.",
    setup="import torch.nn.functional as F",
    stub="""
def geglu(x, gate, up, down):
    '''(B, T, E) -> (B, T, E), each token by itself. `gate` and `up` are (F, E), `down` is (E, F).'''
    raise NotImplementedError
""",
    right=("geglu", "geglu_as_layers", "geglu_by_formula"),
    inputs=tables_of_a_feed_forward,
    wrong=catalogue("""
# gate and up exchanged
You bend `up` and let `gate` pass. It would train as well, but weights that others have trained don't fit.
- x @ gate.T
+ x @ up.T
- * (x @ up.T)
+ * (x @ gate.T)

# both bent
You bend both projections. One decides how much passes, the other is what passes, and stays as it is.
- (x @ up.T)
+ F.gelu(x @ up.T)

# the product bent
You bend the product. GELU belongs to the gate, before the two are multiplied.
- (F.gelu(x @ gate.T) * (x @ up.T))
+ F.gelu((x @ gate.T) * (x @ up.T))

# nothing bent
There is no GELU in it.
- F.gelu(x @ gate.T)
+ (x @ gate.T)

# ReLU
That is ReLU, with a corner at 0. GELU closes softly.
- F.gelu
+ F.relu

# SiLU
That is SwiGLU: x times sigmoid(x) in place of GELU. Near, but other weights belong to it.
- F.gelu
+ F.silu

# a sigmoid gate
Your gate is a sigmoid. GELU is the number itself times how much of it passes.
- F.gelu
+ torch.sigmoid

# the tanh approximation
That is GELU's approximation by tanh: it differs in the fourth digit. The exact one is asked for.
- F.gelu(x @ gate.T)
+ F.gelu(x @ gate.T, approximate="tanh")

# added, not multiplied
You added gate and up. A gate multiplies.
-  * (x @ up.T)
+  + (x @ up.T)

# the gate alone
`up` plays no part: that is BERT's feed-forward, with two tables.
-  * (x @ up.T)
+

# up alone
`gate` plays no part: that is BERT's feed-forward, with two tables.
- (F.gelu(x @ gate.T) * (x @ up.T))
+ F.gelu(x @ up.T)

# not brought back
Your result has F numbers a token. The stream has E.
-  @ down.T
+

# bent at the end
You bend what goes back to the stream, too.
- return (F.gelu(x @ gate.T) * (x @ up.T)) @ down.T
+ return F.gelu((F.gelu(x @ gate.T) * (x @ up.T)) @ down.T)
"""),
)

EXERCISES = (LAYER_NORM, GEGLU)
