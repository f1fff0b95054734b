"""Can it learn: gradients, optimizer, schedule, and one batch by heart."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from llm_lab.train.doctor.subject import IGNORED, Finding, Subject, backward, untouched

OVERFIT_STEPS = 60


def examine_gradients(subject: Subject) -> list[Finding]:
    found, model = [], subject.model.train()
    backward(subject, 0)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    silent = [n for n, p in trained.items() if p.grad is None or not p.grad.any()]
    if silent:
        sentence = f"no gradient reaches {listed(silent)}: it is cut off by detach, no_grad or a part that isn't used."
        found.append(Finding("parameters without gradient", sentence))
    if any(p.grad is not None and not torch.isfinite(p.grad).all() for p in trained.values()):
        found.append(Finding("gradient not a number", "batch 0 gives a gradient of NaN or infinity."))
    held = {id(p) for o in subject.optimizers for group in o.param_groups for p in group["params"]}
    left_out = [name for name, p in trained.items() if id(p) not in held]
    if left_out:
        sentence = f"{listed(left_out)} will never move: build the optimizer after the model is complete."
        found.append(Finding("parameters without optimizer", sentence))
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    if frozen:
        found.append(Finding("frozen parameters", f"{listed(frozen)} has requires_grad False and stays as it is."))
    return found


def examine_schedule(subject: Subject) -> list[Finding]:
    factors = np.array([subject.schedule(step) for step in range(subject.steps + subject.steps // 2 + 2)])
    inside, past = factors[: subject.steps], factors[subject.steps :]
    if not np.isfinite(factors).all():
        return [Finding("schedule not a number", "the learning rate is NaN or infinite at some step.")]
    if (inside < 0).any() or (past < 0).any():
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
    """One batch must be learnt by heart, beyond how frequent its words are.

    If not, the same with other learning rates shows on which side this one errs.
    """
    if examine_gradients(subject):
        return []
    bound = 0.8 * _word_entropy(subject)
    reached = _overfit(subject, 1.0, OVERFIT_STEPS)
    if reached < bound:
        return []
    what = f"{OVERFIT_STEPS} steps on one batch bring its loss to {reached:.2f}, {bound:.2f} is easy"
    for factor, side in ((0.1, "too large"), (0.01, "too large"), (10.0, "too small"), (100.0, "too small")):
        if factor > 1 and _overfit(subject, 1.0, 5 * OVERFIT_STEPS) < bound:
            return []  # slow, but on its way
        other = _overfit(subject, factor, OVERFIT_STEPS)
        if other < bound:
            sentence = f"{what}; with {factor:g} times the learning rate they bring it to {other:.2f}."
            return [Finding(f"learning rate {side}", sentence)]
    return [Finding("one batch can't be learnt", f"{what}, and no learning rate gets there: look at model and loss.")]


def _word_entropy(subject: Subject) -> float:
    """What knowing only how frequent the targets of batch 0 are would cost, in nats."""
    targets = subject.stream.batch(0).targets
    counts = torch.bincount(targets[targets != IGNORED]).double()
    return float(torch.special.entr(counts / counts.sum()).sum())


def _overfit(subject: Subject, factor: float, steps: int) -> float:
    """The loss of batch 0 after so many steps on it alone, at `factor` times the peak learning rate."""
    with untouched(subject):
        subject.model.train()
        for optimizer in subject.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = factor * group.get("initial_lr", group["lr"])
        for _ in range(steps):
            backward(subject, 0)
            nn.utils.clip_grad_norm_(subject.model.parameters(), 1.0)
            for optimizer in subject.optimizers:
                optimizer.step()
        subject.model.eval()
        with torch.no_grad():
            return backward(subject, 0)


def listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
