"""Do model and loss compute what they should? Letters: B batch, T tokens, K chosen positions, V vocabulary."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llm_lab.train.doctor.subject import IGNORED, Finding, Subject, logits_of, to_model


@torch.no_grad()
def examine_model(subject: Subject) -> list[Finding]:
    found, model = [], subject.model.eval()
    batch = to_model(subject, subject.stream.batch(0))
    before = {id(p) for p in model.parameters()}
    logits = logits_of(model, batch)
    if not torch.isfinite(logits).all():
        return [
            Finding("logits not numbers", "the model gives NaN or infinity on batch 0: look at its masks and sizes.")
        ]
    torch.manual_seed(1)
    if not torch.equal(logits, logits_of(model, batch)) or {id(p) for p in model.parameters()} != before:
        sentence = (
            "in evaluation mode the same input gives two answers: a layer is built inside forward, or dropout ignores "
            "model.eval()."
        )
        return [Finding("model not repeatable", sentence)]
    cut = _padded(batch, subject.pad_id)
    words = torch.tensor(sorted(set(range(subject.vocabulary_size)) - set(subject.special_ids)))
    noise = words.to(batch.inputs.device)[torch.randint(len(words), batch.inputs.shape, device=batch.inputs.device)]
    visible = cut.mask & (cut.inputs != subject.mask_id)
    real = cut.targets != IGNORED
    plain = logits_of(model, cut)[real]
    other_words = logits_of(model, replace(cut, inputs=torch.where(visible, noise, cut.inputs)))[real]
    other_padding = logits_of(model, replace(cut, inputs=torch.where(cut.mask, cut.inputs, noise)))[real]
    reads_padding = not torch.allclose(plain, other_padding, atol=1e-4, rtol=1e-3)
    if torch.allclose(plain, other_words, atol=1e-6, rtol=1e-5):
        sentence = "no other word of the row changes a guess"
        sentence += (
            ", but the padding does: the mask is used upside down." if reads_padding else ": nothing looks around."
        )
        found.append(Finding("mask upside down" if reads_padding else "blind model", sentence))
    elif reads_padding:
        sentence = (
            "what stands in the padding changes the guesses: pass the mask on, with the polarity that is expected."
        )
        found.append(Finding("padding is read", sentence))
    empty = replace(cut, mask=cut.mask.clone().index_fill_(0, torch.tensor([0], device=cut.mask.device), False))
    if not torch.isfinite(logits_of(model, empty)).all():
        sentence = (
            "a row of padding alone gives NaN, and one NaN spoils every weight: give zeros where nothing is read."
        )
        found.append(Finding("empty row gives NaN", sentence))
    return found


def _padded(batch: Any, pad_id: int) -> Any:
    """The batch with every row's last quarter made padding, and no target there."""
    length = batch.inputs.shape[1]
    kept = torch.arange(length, device=batch.inputs.device) < length - max(1, length // 4)
    mask = kept.expand_as(batch.inputs) if batch.mask is None else batch.mask & kept
    targets = batch.targets.masked_fill(~mask.gather(1, batch.positions), IGNORED)
    return replace(batch, inputs=batch.inputs.masked_fill(~mask, pad_id), mask=mask, targets=targets)


@torch.no_grad()
def examine_loss(subject: Subject) -> list[Finding]:
    model = subject.model.eval()
    batch = next(b for b in map(subject.stream.batch, range(200)) if (b.targets != IGNORED).any())
    batch = to_model(subject, batch)
    logits, is_target = logits_of(model, batch), batch.targets != IGNORED
    nats = F.cross_entropy(logits[is_target], batch.targets[is_target], reduction="none")
    if not torch.isfinite(nats).all():
        return []
    found, given = [], float(subject.loss_sum(model, batch))
    if not close(given, nats.sum().item()):
        found.append(_wrong_loss(subject, batch, logits, nats, given))
    empty = replace(batch, targets=torch.full_like(batch.targets, IGNORED))
    if not math.isfinite(float(subject.loss_sum(model, empty))):
        sentence = "a batch without a target gives NaN: take the sum, and divide by max(1, number of targets)."
        found.append(Finding("empty batch gives NaN", sentence))
    untrained = not any(optimizer.state for optimizer in subject.optimizers)
    uniform, mean = math.log(subject.vocabulary_size), nats.mean().item()
    if untrained and mean > uniform + 1.5:
        sentence = (
            f"the loss before the first step is {mean:.2f}, ln V is {uniform:.2f}: the first weights are too large."
        )
        found.append(Finding("starts above ln V", sentence))
    if untrained and mean < 0.7 * uniform:
        sentence = (
            f"the loss before the first step is {mean:.2f}, ln V is {uniform:.2f}: the answer leaks into the input."
        )
        found.append(Finding("starts below ln V", sentence))
    return found


def _wrong_loss(subject: Subject, batch: Any, logits: Tensor, nats: Tensor, given: float) -> Finding:
    """Which known mistake gives this loss."""
    real = batch.targets != IGNORED
    targets = batch.targets[real]
    total = nats.sum().item()
    every = F.cross_entropy(logits.flatten(0, 1), batch.targets.clamp(min=0).flatten(), reduction="none")
    rows = zip(every.view(real.shape), real, strict=True)
    per_row = torch.stack([losses[hidden].mean() for losses, hidden in rows if hidden.any()]).mean().item()
    twice = F.cross_entropy(logits[real].softmax(-1), targets, reduction="sum").item()
    parts = "parts with few targets count too much under accumulation: sum, and divide once by all targets."
    before = "the loss is averaged before the mask is multiplied in: multiply each term, then sum."
    known = {
        "mean, not a sum": (total / len(nats), f"the loss is a mean, so that {parts}"),
        "divided by every position": (total / real.numel(), "the loss is divided by all positions, targets or not."),
        "mean over rows": (per_row, "the loss is a mean of the rows' means: a word of a short row counts more."),
        "bits, not nats": (total / math.log(2), "the loss is in bits: ln instead of log2 makes it nats."),
        "filler counted": (every.sum().item(), "the filler of -100 counts as a word: ignore it."),
        "mask times a scalar": (every.mean().item() * len(nats), before),
        "mask times a mean": (every.mean().item() * len(nats) / real.numel(), before),
        "softmax twice": (twice, "cross_entropy takes logits: it applies softmax itself."),
    }
    for name, (value, sentence) in known.items():
        if close(given, value):
            return Finding(name, sentence)
    for scale in (1.0, 1 / len(nats)):
        for word in targets.unique().tolist():
            rest = nats[targets != word]
            if close(given, rest.sum().item() * scale) or (scale < 1 and close(given, rest.mean().item())):
                sentence = f"targets with id {word} count for nothing: use -100 as ignore_index."
                return Finding("a word is ignored", sentence)
    sentence = f"batch 0 has {given:.3f}, its sum of -ln p is {total:.3f}: write the sum out and compare."
    return Finding("wrong loss", sentence)


def close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=2e-4, abs_tol=1e-6)
