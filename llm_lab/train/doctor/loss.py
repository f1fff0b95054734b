"""Does the loss compute what it should? Letters: B batch, K chosen positions, N targets, V vocabulary."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llm_lab.train.doctor.subject import (
    IGNORED,
    Finding,
    Remark,
    Subject,
    first_batch,
    is_target,
    logits_of,
    reference_sum,
)
from llm_lab.train.doctor.untouched import sharpened

SAME, NEAR = 2e-4, 3e-3  # relative: a known mistake is named within the first, half precision stays within the second
BEFORE = "the loss is averaged before the mask is multiplied in: multiply each term, then sum."
TERMS = 48  # targets that are asked one by one
NO_LOG = "the loss is -p, without the logarithm: nll_loss wants log_softmax before it."
PARTS = "parts with few targets count too much under accumulation: sum, and divide once by all targets."


@torch.no_grad()
def examine_loss(subject: Subject) -> list[Finding]:
    """The sum of -ln p over the targets, finite without a target, and near ln V at the start."""
    model, batch = subject.model.eval(), first_batch(subject)
    logits, real = logits_of(model, batch), is_target(batch)
    nats = F.cross_entropy(logits[real], batch.targets[real], reduction="none")
    found = _value(subject, batch)
    empty = replace(batch, targets=torch.full_like(batch.targets, IGNORED))
    if not math.isfinite(float(subject.loss_sum(model, empty))):
        sentence = "a batch without a target gives NaN: take the sum, and divide by max(1, number of targets)."
        found.append(Finding("empty batch gives NaN", sentence))
    if not any(optimizer.state for optimizer in subject.optimizers):
        found += _start(nats.mean().item(), math.log(subject.vocabulary_size))
    return found


def _value(subject: Subject, batch: Any) -> list[Finding]:
    """The loss against the sum by the book, where words differ in it; for the batch, then for its own guesses."""
    real = is_target(batch)

    def nats_of(batch: Any) -> tuple[Tensor, Tensor]:
        logits = logits_of(subject.model, batch)
        return logits, F.cross_entropy(logits[real], batch.targets[real], reduction="none")

    with sharpened(subject, lambda: bool(nats_of(batch)[1].std() > 1), doublings=4):
        guesses = logits_of(subject.model, batch).argmax(-1)
        for version in (batch, replace(batch, targets=batch.targets.where(~real, guesses))):
            logits, nats = nats_of(version)
            given = float(subject.loss_sum(subject.model, version))
            if not math.isclose(given, nats.sum().item(), rel_tol=NEAR, abs_tol=NEAR * len(nats)):
                return [_wrong_loss(subject, version, logits, nats, given)]
    return []


def _start(mean: float, uniform: float) -> list[Finding]:
    """The loss of a model that knows nothing, against that of an even guess, both in nats."""
    begins = f"the loss before the first step is {mean:.2f}, ln V is {uniform:.2f}"
    if mean > uniform + 1.5:
        return [Finding("starts above ln V", f"{begins}: the first weights are too large.")]
    if mean < 0.7 * uniform:
        return [Finding("starts below ln V", f"{begins}: the answer leaks into the input.")]
    return []


def _wrong_loss(subject: Subject, batch: Any, logits: Tensor, nats: Tensor, given: float) -> Finding:
    """Which known mistake gives this loss."""
    total = nats.sum().item()
    for name, (value, sentence) in known_mistakes(batch, logits).items():
        if math.isclose(given, value, rel_tol=SAME):
            return Finding(name, sentence)
    by_place = _shifted(subject, batch, given) or _terms(subject, batch, nats)
    if by_place is not None:
        return by_place
    share = smoothing(logits[is_target(batch)], nats, given)
    if 1e-3 < share < 0.5:
        sentence = f"the loss fits a label smoothing of {share:.2f}: fine if meant; report -ln p beside it."
        return Remark("label smoothing", sentence)
    sentence = (
        f"the first batch has {given:.3f}, its sum of -ln p is {total:.3f}, {given / total:.3f} times: write the sum "
        "out and compare."
    )
    return Finding("wrong loss", sentence)


def _shifted(subject: Subject, batch: Any, given: float) -> Finding | None:
    """The loss at other places than the targets', or in another row."""
    last = batch.inputs.shape[1] - 1
    for shift in (-1, 1, -2, 2):
        moved = replace(batch, positions=(batch.positions + shift).clamp(0, last))
        rolled = replace(batch, targets=batch.targets.roll(shift, dims=1))
        if any(math.isclose(given, reference_sum(subject.model, b).item(), rel_tol=SAME) for b in (moved, rolled)):
            sentence = (
                f"the loss is not taken at the targets' places, but shifted by {abs(shift)}: labels or positions were "
                "moved, as for next-word prediction. Leave them."
            )
            return Finding("loss shifted", sentence)
    other = replace(batch, targets=batch.targets.roll(1, dims=0))
    if math.isclose(given, reference_sum(subject.model, other).item(), rel_tol=SAME):
        return Finding("loss shifted", "the targets are compared with the guesses of another row.")
    return None


def _terms(subject: Subject, batch: Any, nats: Tensor) -> Finding | None:
    """What each of the first targets adds to the loss, alone in its batch: which ones count for nothing?"""
    places = is_target(batch).nonzero()[:TERMS]
    alone = torch.zeros(len(places))
    for number, (row, column) in enumerate(places.tolist()):
        targets = torch.full_like(batch.targets, IGNORED)
        targets[row, column] = batch.targets[row, column]
        alone[number] = float(subject.loss_sum(subject.model, replace(batch, targets=targets)))
    words, share = batch.targets[is_target(batch)][:TERMS], alone / nats[:TERMS].cpu()
    share = share.nan_to_num(0.0)
    without = share.abs() < SAME
    if without.any() and not without.all():
        ids = set(words[without].tolist())
        if not ids & set(words[~without].tolist()):
            sentence = f"targets with id {min(ids)} count for nothing: use -100 as ignore_index."
            return Finding("a word is ignored", sentence)
        columns = sorted(set(places[without][:, 1].tolist()))
        share_of_all = without.float().mean()
        sentence = f"{share_of_all:.0%} of the targets count for nothing, some of columns {columns[:5]}."
        return Finding("targets left out", sentence)
    if share.std() < NEAR * share.abs().mean() and abs(share.mean().item() - 1) > NEAR:
        return Finding("loss scaled", f"each target's -ln p counts {share.mean():.3f} times: give the plain sum.")
    spread = [share[words == word] for word in words.unique() if (words == word).sum() > 1]
    if len(spread) > 2 and all(part.std() < NEAR * part.abs().mean() for part in spread):
        return Finding("words weighted", "some words count more than others: cross_entropy has weights.")
    return None


def smoothing(logits: Tensor, nats: Tensor, given: float) -> float:
    """The label smoothing e for which (1 - e) times nats plus e times the mean over words, (N, V), gives the loss."""
    even = -logits.log_softmax(-1).mean(-1).sum()
    return ((given - nats.sum()) / (even - nats.sum())).item()


def known_mistakes(batch: Any, logits: Tensor) -> dict[str, tuple[float, str]]:
    """What each usual mistake makes of a batch's loss, logits (B, K, V), and what to say of it."""
    real = is_target(batch)
    every = F.cross_entropy(logits.flatten(0, 1), batch.targets.clamp(min=0).flatten(), reduction="none")
    every = every.view(real.shape)
    total, n = every[real].sum().item(), int(real.sum())
    per_row = torch.stack([losses[row].mean() for losses, row in zip(every, real, strict=True) if row.any()])
    twice = F.cross_entropy(logits[real].softmax(-1), batch.targets[real], reduction="sum").item()
    tokens = "the loss is divided by every token, hidden or not: divide by the targets."
    return {
        "mean, not a sum": (total / n, f"the loss is a mean, so that {PARTS}"),
        "divided by every position": (total / real.numel(), "the loss is divided by all positions, targets or not."),
        "divided by every token": (total / batch.inputs.numel(), tokens),
        "mean over rows": (
            per_row.mean().item(),
            "the loss is a mean of the rows' means: a word of a short row counts more.",
        ),
        "bits, not nats": (total / math.log(2), "the loss is in bits: ln instead of log2 makes it nats."),
        "filler counted": (every.sum().item(), "the filler of -100 counts as a word: ignore it."),
        "mask times a scalar": (every.mean().item() * n, BEFORE),
        "mask times a mean": (every.mean().item() * n / real.numel(), BEFORE),
        "wrong sign": (-total, "the loss has the wrong sign: minimize -ln p."),
        "no logarithm": (-logits[real].softmax(-1).gather(1, batch.targets[real][:, None]).sum().item(), NO_LOG),
        "softmax twice": (twice, "cross_entropy takes logits: it applies softmax itself."),
    }
