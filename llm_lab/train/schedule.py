"""The learning rate over the run: warm-up, stable, decay (arXiv 2404.06395)."""

from __future__ import annotations


def learning_rate_factor(step: int, steps: int, warmup: float, decay: float) -> float:
    """The share of the peak learning rate at `step` of `steps`, counted from 0.

    It climbs in a line over the first `warmup` share of the run, stays at 1, and falls in a line to zero over the last
    `decay` share. The last step still moves the weights; past the end the factor is 0, never negative.

    >>> [learning_rate_factor(step, 10, warmup=0.2, decay=0.4) for step in (0, 1, 5, 6, 9, 10)]
    [0.5, 1.0, 1.0, 1.0, 0.25, 0.0]
    """
    rising = (step + 1) / max(1.0, warmup * steps)
    falling = (steps - step) / max(1.0, decay * steps)
    return max(0.0, min(1.0, rising, falling))
