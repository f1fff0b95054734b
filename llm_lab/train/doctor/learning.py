"""Can it learn one batch by heart, and if not, is it the learning rate, the optimizer, or the model?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from llm_lab.train.doctor.influence import knows_order
from llm_lab.train.doctor.subject import (
    Finding,
    Subject,
    backward,
    first_batch,
    is_target,
    logits_of,
    mean_loss,
    peak_of,
)
from llm_lab.train.doctor.untouched import untouched

ROWS = 32  # of a larger batch that are learnt by heart: fewer are learnt at rates that are too large
STEPS, STEPS_AT_OTHER_RATES, LOOK_EVERY, WARMUP = 180, 90, 10, 20
EASY = 0.25  # of what knowing the frequencies of the batch's words alone would cost
OTHER_RATES = (0.1, 0.01, 10.0, 100.0, 1000.0)  # times the run's own
PLAIN_RATES = (1e-2, 1e-3)  # of an AdamW in the place of the run's optimizers
NEARLY = 0.95  # of the way to the easy loss is there: much dropout takes a few more steps
ON_ITS_WAY = 1 / 3  # of the way to the easy loss: a rate that gets there isn't too small


def examine_learning(subject: Subject) -> list[Finding]:
    """One batch must be learnt by heart, far beyond how frequent its words are.

    If not, other learning rates and a plain AdamW show who is at fault.
    """
    batch = _few_rows(first_batch(subject))
    bound, start = easy_loss(batch), overfit(subject, batch, 1.0, 0)
    reached = overfit(subject, batch, 1.0, STEPS, bound)
    if reached < bound or start - reached > NEARLY * (start - bound):
        return []
    what = f"{STEPS} steps on one batch bring its loss to {reached:.2f}, not below {bound:.2f}, which is easy"
    moves = start - reached > ON_ITS_WAY * (start - bound)
    if reached < easy_loss(batch, by_row=True) and not knows_order(subject):
        return []  # as well as a model without positions can: to it, the blanks of a row are all alike
    stands = abs(start - reached) < 0.2 * (start - bound)
    for factor in OTHER_RATES[::-1] if stands else OTHER_RATES:
        other = overfit(subject, batch, factor, STEPS_AT_OTHER_RATES, bound)
        if not other < bound:  # NaN too, which a rate that is far too large ends in
            continue
        side = "too large" if factor < 1 else "too small"
        if side == "too small" and moves:
            return []  # slow, but on its way: a longer run may well want it so
        sentence = f"{what}; with {factor:g} times the learning rate {STEPS_AT_OTHER_RATES} bring it to {other:.2f}."
        return [Finding(f"learning rate {side}", sentence)]
    return [_with_plain_adam(subject, batch, bound, what)]


def _few_rows(batch: Any) -> Any:
    """Part of a large batch: it tells as much in less time."""
    parts = len(batch.inputs) // ROWS
    return batch.split(parts)[0] if parts > 1 and is_target(batch.split(parts)[0]).any() else batch


def _with_plain_adam(subject: Subject, batch: Any, bound: float, what: str) -> Finding:
    """The same with a fresh AdamW at usual rates: is it the optimizer, or model and loss?"""
    parameters = [p for p in subject.model.parameters() if p.requires_grad]
    own = max(peak_of(group) for optimizer in subject.optimizers for group in optimizer.param_groups)
    for rate in PLAIN_RATES:
        plain = replace(subject, optimizers=[torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)])
        other = overfit(plain, batch, 1.0, STEPS, bound)
        if other < bound:
            sentence = f"{what}; a plain AdamW at {rate:g} brings it to {other:.2f}: look at the optimizer"
            return Finding("optimizer doesn't learn", f"{sentence}, its learning rate is {own:g}.")
    with torch.no_grad():
        logits = logits_of(subject.model.eval(), batch)
    sentence = (
        f"{what}, and neither other rates nor a plain AdamW get there: look at model and loss. The scores of the new "
        f"model lie between {logits.min():.2f} and {logits.max():.2f}; is something bounding them?"
    )
    return Finding("one batch can't be learnt", sentence)


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
        reached = mean_loss(subject.model.eval(), batch)
        for step in range(steps):
            move(subject, batch, factor * min(1.0, (step + 1) / WARMUP))
            if (step + 1) % LOOK_EVERY == 0 or step == steps - 1:
                reached = mean_loss(subject.model.eval(), batch)
                if reached < bound:
                    break
        return reached


def move(subject: Subject, batch: Any, factor: float) -> None:
    """One step along a batch's gradient by the book, clipped, at `factor` times the peak learning rate."""
    backward(subject.model.train(), batch)
    nn.utils.clip_grad_norm_(subject.model.parameters(), 1.0)
    for optimizer in subject.optimizers:
        before = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = factor * peak_of(group)
        optimizer.step()
        for group, rate in zip(optimizer.param_groups, before, strict=True):
            group["lr"] = rate
