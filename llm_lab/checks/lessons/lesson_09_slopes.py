"""Exercises of lesson 09, the training loop, second part: slopes that are clipped."""

from __future__ import annotations

from typing import Any

import torch

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.code import Write
from llm_lab.checks.deck import Draw

# ------------------------------------------------------------------------------------------------------------- write


def slopes_and_limit(draw: Draw) -> tuple[Any, ...]:
    """Slopes of several shapes, and a limit that their norm is above or below."""
    shapes = ((draw.T, draw.E), (draw.E,), (draw.B, draw.H, draw.D), (1,))
    return [draw.choice(0.1, 0.5, 2.0) * draw.normal(*shape) for shape in shapes], draw.choice(0.5, 1.0, 3.0, 8.0)


def no_slopes(draw: Draw) -> tuple[Any, ...]:
    """Slopes of zero, as of a batch without a target."""
    return [torch.zeros(draw.T, draw.E), torch.zeros(draw.E)], 1.0


def small_slopes(draw: Draw) -> tuple[Any, ...]:
    """Slopes whose norm is below the limit, and below 1."""
    return [0.01 * draw.normal(draw.T, draw.E), 0.01 * draw.normal(draw.E)], 1.0


def short_ones_that_add_up(draw: Draw) -> tuple[Any, ...]:
    """No slope is longer than the limit by itself, and all together are."""
    slopes = [draw.normal(draw.E) for _ in range(3)]
    return [0.8 * slope / slope.norm() for slope in slopes], 1.0


CLIP = Write(
    id="09.clip",
    title="One factor for all",
    task="""\
Write `clip(gradients, limit)`. `gradients` is a list of tensors of any shapes: the slopes of all parameters. Return a
list of new tensors. If the norm of all slopes together is above `limit`, all are shrunk by one factor, so that the norm
is `limit`; else they stay as they are.""",
    why="One odd batch then moves the weights by a bounded step, in the direction that it asked for.",
    difficulty=2,
    minutes=8,
    first="take the slopes `[torch.tensor([3.0]), torch.tensor([4.0])]` with limit 1: 0.6 and 0.8 should come out.",
    hints=(
        "The norm of all together is one number: the root of the sum of the squares of all numbers in all tensors.",
        "Add up `(g**2).sum()` over the list, and take the root once.",
        "The factor is limit / norm if that is below 1, and 1 otherwise.",
    ),
    explanation="""\
The squares of all tensors go into one sum. The factor is the same for all, so the direction stays. The library has it
as `nn.utils.clip_grad_norm_`, which changes `.grad` in place.""",
    stub="""
def clip(gradients, limit):
    '''The slopes, a list of new tensors, with a norm of at most `limit` together.'''
    raise NotImplementedError
""",
    right=("clip", "clip_as_one_vector", "clip_by_pytorch"),
    inputs=slopes_and_limit,
    more=(no_slopes, small_slopes, short_ones_that_add_up),
    tolerance=3e-5,
    wrong=catalogue("""
# each tensor by itself
You clip each tensor by its own norm. The direction changes then: a large tensor is shrunk, and a small one is not.
def wrong(gradients, limit):
    return [clip([g], limit)[0] for g in gradients]

# each number by itself
You cut each number off at the limit. That changes the direction; clipping shrinks all by one factor.
def wrong(gradients, limit):
    return [g.clamp(-limit, limit) for g in gradients]

# only if one alone is too long
You clip only if one of the tensors is longer than the limit. Many short ones are long together.
- if norm > limit
+ if any(g.norm() > limit for g in gradients)

# always to the limit
Your slopes have the norm `limit` always. Those that were shorter should stay as they are.
- limit / norm if norm > limit else 1.0
+ limit / norm

# no root
You compare the sum of the squares. The norm is its root.
-  ** 0.5
+

# norms added up
You added up the norms of the tensors. What is added are the squares, and the root comes once, at the end.
- sum((g**2).sum() for g in gradients) ** 0.5
+ sum(g.norm() for g in gradients)

# absolute values
You added up absolute values. The norm is the root of the sum of squares.
- sum((g**2).sum() for g in gradients) ** 0.5
+ sum(g.abs().sum() for g in gradients)

# the largest number
You took the largest number for the norm.
- sum((g**2).sum() for g in gradients) ** 0.5
+ max(g.abs().max() for g in gradients)

# the largest tensor
You took the largest tensor's norm. The norm is that of all tensors together.
- sum((g**2).sum() for g in gradients) ** 0.5
+ max(g.norm() for g in gradients)

# a mean of squares
You took the mean of the squares. A norm is a sum: it grows with the number of parameters.
- sum((g**2).sum() for g in gradients) ** 0.5
+ (sum((g**2).sum() for g in gradients) / sum(g.numel() for g in gradients)) ** 0.5

# the factor upside down
Your slopes grow when they are too long. What is norm / limit then, above 1 or below?
- limit / norm if
+ norm / limit if

# the norm 1
You bring long slopes to the norm 1, whatever the limit.
- limit / norm if
+ 1.0 / norm if

# short ones lengthened
You stretch the short slopes and leave the long ones alone. Compare the norm with the limit the other way round.
- norm > limit
+ norm < limit

# dropped
You drop slopes that are too long. Clipping keeps their direction.
- limit / norm if
+ 0.0 if

# a little too long
You multiply by the limit, and do not divide by the norm.
- limit / norm if
+ limit if
"""),
)

EXERCISES = (CLIP,)
