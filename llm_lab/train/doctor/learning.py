"""Can it learn: gradients, optimizer, schedule, and one batch by heart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from llm_lab.train.doctor.subject import (
    Finding,
    Subject,
    backward,
    first_batch,
    is_target,
    peak_of,
    reference_sum,
)
from llm_lab.train.doctor.untouched import untouched

STEPS, STEPS_AT_OTHER_RATES, LOOK_EVERY, WARMUP = 180, 90, 10, 20
EASY = 0.25  # of what knowing the frequencies of the batch's words alone would cost
OTHER_RATES = (0.1, 0.01, 10.0, 100.0, 1000.0)  # times the run's own
ON_ITS_WAY = 1 / 3  # of the way to the easy loss: a rate that gets there isn't too small


def examine_gradients(subject: Subject) -> list[Finding]:
    """A gradient for every parameter, and an optimizer that moves it."""
    found, model = [], subject.model.train()
    batch = first_batch(subject)
    backward(model, batch)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if any(p.grad is not None and not torch.isfinite(p.grad).all() for p in trained.values()):
        return [Finding("gradient not a number", "the first batch gives a gradient of NaN or infinity.")]
    silent = _silent(trained)
    if silent:  # behind matrices that start at zero, gradients come after a step or two
        with untouched(subject):
            for _ in range(3):
                _move(subject, batch, 1.0)
            backward(model, batch)
            silent = [name for name in silent if name in _silent(trained)]
    if silent:
        sentence = f"no gradient reaches {listed(silent)}: it is cut off by detach, no_grad or a part that isn't used."
        found.append(Finding("parameters without gradient", sentence))
    held = {id(p) for o in subject.optimizers for group in o.param_groups for p in group["params"]}
    left_out = [name for name, p in trained.items() if id(p) not in held]
    if left_out:
        sentence = f"{listed(left_out)} will never move: build the optimizer after the model is complete."
        found.append(Finding("parameters without optimizer", sentence))
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    if frozen:
        found.append(Finding("frozen parameters", f"{listed(frozen)} has requires_grad False and stays as it is."))
    return found


def _silent(parameters: dict[str, nn.Parameter]) -> list[str]:
    return [name for name, p in parameters.items() if p.grad is None or not p.grad.any()]


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
    idle = subject.steps - 1 - int(np.flatnonzero(inside > 0)[-1])
    if idle > max(1, 0.03 * subject.steps):
        sentence = (
            f"the learning rate is 0 for the last {idle:,} of {subject.steps:,} steps: count updates, not batches."
        )
        return [Finding("schedule ends early", sentence)]
    if inside.max() > 1.001:
        return [Finding("schedule above its peak", f"it reaches {inside.max():.2f} times the learning rate.")]
    return []


def examine_learning(subject: Subject) -> list[Finding]:
    """One batch must be learnt by heart, far beyond how frequent its words are.

    If not, the same with other learning rates shows on which side this one errs.
    """
    batch = first_batch(subject)
    bound, start = easy_loss(batch), overfit(subject, batch, 1.0, 0)
    reached = overfit(subject, batch, 1.0, STEPS, bound)
    if reached < bound:
        return []
    what = f"{STEPS} steps on one batch bring its loss to {reached:.2f}, {bound:.2f} is easy"
    moves = start - reached > ON_ITS_WAY * (start - bound)
    for factor in OTHER_RATES:
        side = "too large" if factor < 1 else "too small"
        other = overfit(subject, batch, factor, STEPS_AT_OTHER_RATES, bound)
        if other >= bound:
            continue
        if side == "too small" and moves:
            return []  # slow, but on its way: a longer run may well want it so
        sentence = f"{what}; with {factor:g} times the learning rate {STEPS_AT_OTHER_RATES} bring it to {other:.2f}."
        return [Finding(f"learning rate {side}", sentence)]
    if reached < easy_loss(batch, by_row=True):
        return []  # as well as a model without positions can: to it, the blanks of a row are all alike
    return [Finding("one batch can't be learnt", f"{what}, and no learning rate gets there: look at model and loss.")]


def easy_loss(batch: Any, by_row: bool = False) -> float:
    """A loss that one batch by heart must fall below, in nats: a quarter of its words' entropy, at least 0.1.

    By row: three quarters of the way from that entropy to the mean entropy within a row.
    """
    real = is_target(batch)
    rows = [(_entropy(targets[hidden]), int(hidden.sum())) for targets, hidden in zip(batch.targets, real, strict=True)]
    within = sum(entropy * n for entropy, n in rows) / int(real.sum()) if by_row else 0.0
    return max(0.1, within + EASY * (_entropy(batch.targets[real]) - within))


def _entropy(words: Tensor) -> float:
    counts = torch.bincount(words).double()
    return float(torch.special.entr(counts / max(1, len(words))).sum())


def overfit(subject: Subject, batch: Any, factor: float, steps: int, bound: float = 0.0) -> float:
    """The loss of a batch after so many steps on it alone, or fewer if it is below `bound` before.

    The learning rate climbs to `factor` times its peak. The run is left as it was.
    """
    with untouched(subject):
        reached = _loss(subject, batch)
        for step in range(steps):
            _move(subject, batch, factor * min(1.0, (step + 1) / WARMUP))
            if (step + 1) % LOOK_EVERY == 0 or step == steps - 1:
                reached = _loss(subject, batch)
                if reached < bound:
                    break
        return reached


@torch.no_grad()
def _loss(subject: Subject, batch: Any) -> float:
    return reference_sum(subject.model.eval(), batch).item() / int(is_target(batch).sum())


def _move(subject: Subject, batch: Any, factor: float) -> None:
    backward(subject.model.train(), batch)
    nn.utils.clip_grad_norm_(subject.model.parameters(), 1.0)
    for optimizer in subject.optimizers:
        before = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = factor * peak_of(group)
        optimizer.step()
        for group, rate in zip(optimizer.param_groups, before, strict=True):
            group["lr"] = rate


def listed(names: Sequence[str]) -> str:
    """The first three names, and how many more there are.

    >>> listed(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
