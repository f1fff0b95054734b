"""The learning rate over the whole run, as the schedule says it."""

from __future__ import annotations

import numpy as np

from llm_lab.train.doctor.subject import Finding, Subject

NEARLY_ZERO = 0.01  # of the schedule's own highest value


def examine_schedule(subject: Subject) -> list[Finding]:
    """Learning rates at every step of the run, and half a run past its end."""
    factors = np.array([subject.schedule(step) for step in range(subject.steps + subject.steps // 2 + 2)])
    inside = factors[: subject.steps]
    if not np.isfinite(factors).all():
        return [Finding("schedule not a number", "the learning rate is NaN or infinite at some step.")]
    if (factors < 0).any():
        sentence = "the learning rate is negative, which climbs the loss"
        sentence += ": keep it at 0 or above." if (inside < 0).any() else " when a run goes on past its end: stop at 0."
        return [Finding("negative learning rate", sentence)]
    if inside.max() <= 0:
        return [Finding("learning rate zero", "the schedule is 0 at every step.")]
    return _end(subject, inside) or _turns(inside) or _height(inside)


def _end(subject: Subject, inside: np.ndarray) -> list[Finding]:
    idle = subject.steps - 1 - int(np.flatnonzero(inside > 0)[-1])
    how = "0"
    if idle <= max(1, 0.03 * subject.steps):  # not quite 0 is as bad, when it lasts
        idle = subject.steps - 1 - int(np.flatnonzero(inside > NEARLY_ZERO * inside.max())[-1])
        how = f"below {NEARLY_ZERO:.0%} of its highest value"
        if idle <= 0.4 * subject.steps:
            return []
    sentence = (
        f"the learning rate is {how} for the last {idle:,} of {subject.steps:,} steps: count updates, not batches, and "
        "look at the unit of the decay."
    )
    return [Finding("schedule ends early", sentence)]


def _height(inside: np.ndarray) -> list[Finding]:
    highest = inside.max()
    if highest > 1.001:
        return [Finding("schedule above its peak", f"it reaches {highest:.2f} times the learning rate.")]
    rising = len(inside) >= 10 and inside[-1] >= highest and inside[-1] > 1.02 * inside[int(0.9 * len(inside))]
    if rising or highest < 0.5:
        sentence = (
            f"the learning rate reaches {highest:.1%} of its peak in {len(inside):,} steps"
            + (" and still rises at the end: the warm-up is longer than the run." if rising else ".")
            + " Give warm-up and decay in shares of the run."
        )
        return [Finding("schedule below its peak", sentence)]
    late = int(np.flatnonzero(inside >= 0.9 * highest)[0])
    if late > 0.7 * len(inside):
        sentence = f"the learning rate is near its peak first at step {late:,} of {len(inside):,}: shorten the warm-up."
        return [Finding("schedule below its peak", sentence)]
    return []


def _turns(inside: np.ndarray) -> list[Finding]:
    """Up once and down once is usual, a few restarts too."""
    moves = np.sign(np.diff(inside))
    moves = moves[moves != 0]
    turns = int((moves[1:] != moves[:-1]).sum())
    if turns <= max(20, 0.1 * len(inside)):
        return []
    sentence = f"the learning rate turns up or down {turns} times: a cycle is shorter than it was meant."
    return [Finding("schedule zigzags", sentence)]
