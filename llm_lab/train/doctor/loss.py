"""Does the loss compute what it should? Letters: B batch, K chosen positions, N targets, V vocabulary."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llm_lab.train.doctor.subject import IGNORED, Finding, Subject, first_batch, is_target, logits_of

SAME, NEAR = 2e-4, 1e-3  # relative: a known mistake is named within the first, half precision stays within the second
BEFORE = "the loss is averaged before the mask is multiplied in: multiply each term, then sum."
PARTS = "parts with few targets count too much under accumulation: sum, and divide once by all targets."


@torch.no_grad()
def examine_loss(subject: Subject) -> list[Finding]:
    """The sum of -ln p over the targets, finite without a target, and near ln V at the start."""
    model, batch = subject.model.eval(), first_batch(subject)
    logits, real = logits_of(model, batch), is_target(batch)
    nats = F.cross_entropy(logits[real], batch.targets[real], reduction="none")
    found, given = [], float(subject.loss_sum(model, batch))
    if not math.isclose(given, nats.sum().item(), rel_tol=NEAR):
        found.append(_wrong_loss(batch, logits, nats, given))
    empty = replace(batch, targets=torch.full_like(batch.targets, IGNORED))
    if not math.isfinite(float(subject.loss_sum(model, empty))):
        sentence = "a batch without a target gives NaN: take the sum, and divide by max(1, number of targets)."
        found.append(Finding("empty batch gives NaN", sentence))
    if not any(optimizer.state for optimizer in subject.optimizers):
        found += _start(nats.mean().item(), math.log(subject.vocabulary_size))
    return found


def _start(mean: float, uniform: float) -> list[Finding]:
    """The loss of a model that knows nothing, against that of an even guess, both in nats."""
    begins = f"the loss before the first step is {mean:.2f}, ln V is {uniform:.2f}"
    if mean > uniform + 1.5:
        return [Finding("starts above ln V", f"{begins}: the first weights are too large.")]
    if mean < 0.7 * uniform:
        return [Finding("starts below ln V", f"{begins}: the answer leaks into the input.")]
    return []


def _wrong_loss(batch: Any, logits: Tensor, nats: Tensor, given: float) -> Finding:
    """Which known mistake gives this loss."""
    targets, total = batch.targets[is_target(batch)], nats.sum().item()
    for name, (value, sentence) in known_mistakes(batch, logits).items():
        if math.isclose(given, value, rel_tol=SAME):
            return Finding(name, sentence)
    for word in targets.unique().tolist():
        rest = nats[targets != word]
        if any(math.isclose(given, rest.sum().item() / n, rel_tol=SAME) for n in (1, len(nats), max(1, len(rest)))):
            sentence = f"targets with id {word} count for nothing: use -100 as ignore_index."
            return Finding("a word is ignored", sentence)
    sentence = f"the first batch has {given:.3f}, its sum of -ln p is {total:.3f}: write the sum out and compare."
    return Finding("wrong loss", sentence)


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
        "softmax twice": (twice, "cross_entropy takes logits: it applies softmax itself."),
    }
