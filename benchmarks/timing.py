"""Rounds in which the contestants take turns, and what is said about their times: median, range, ratios pair by pair.

A slow minute of the machine then hits all of a round, and the ratio within a round stays what it is.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple


class Spread(NamedTuple):
    """The middle of some measurements, and their ends."""

    median: float
    low: float
    high: float


def spread(values: list[float]) -> Spread:
    """Median, smallest and largest."""
    return Spread(statistics.median(values), min(values), max(values))


def interleave(
    turns: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each turn in each round. Each round starts with another contestant; the rest follow in order."""
    names = list(turns)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            gc.collect()
            start = clock()
            turns[name]()
            seconds[name].append(clock() - start)
    return seconds


def ratios(ours: list[float], theirs: list[float], our_work: float = 1.0, their_work: float = 1.0) -> list[float]:
    """How many times faster we are, round by round: our work/s divided by theirs."""
    return [(our_work / mine) / (their_work / other) for mine, other in zip(ours, theirs, strict=True)]
