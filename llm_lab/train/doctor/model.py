"""Does the model read what it may, and nothing else? Letters: B batch, T tokens, V vocabulary."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from llm_lab.train.doctor.subject import Finding, Subject, first_batch, logits_of, to_model

TRIED = 20  # batches that are searched for a mask


@torch.no_grad()
def examine_model(subject: Subject) -> list[Finding]:
    """Finite and repeatable scores; words that matter, padding that doesn't, and a row of padding alone."""
    model = subject.model.eval()
    batch = first_batch(subject)
    before = {id(p) for p in model.parameters()}
    logits = logits_of(model, batch)
    if not torch.isfinite(logits).all():
        sentence = "the model gives NaN or infinity before the first step: look at its masks and sizes."
        return [Finding("logits not numbers", sentence)]
    if logits.min() >= 0:
        sums = logits.sum(-1)
        ends = "probabilities: a softmax" if torch.allclose(sums, torch.ones_like(sums)) else "nothing below 0: a ReLU"
        sentence = f"the model gives {ends} stands at its end. Give plain logits, the loss applies its own softmax."
        return [Finding("no logits", sentence)]
    torch.manual_seed(1)
    if not torch.equal(logits, logits_of(model, batch)) or {id(p) for p in model.parameters()} != before:
        sentence = (
            "in evaluation mode the same input gives two answers: a layer is built inside forward, or dropout ignores "
            "model.eval()."
        )
        return [Finding("model not repeatable", sentence)]
    masked = next((b for b in map(subject.stream.batch, range(TRIED)) if b.mask is not None), None)
    if masked is None:  # a run without padding may have a model that knows no mask
        return _blind(subject, _one_blank(subject, batch))
    cut = _one_blank(subject, _padded(to_model(subject, masked), subject.pad_id))
    return _reading(subject, cut) + _empty_row(subject, cut)


def _padded(batch: Any, pad_id: int) -> Any:
    """The batch with the last quarter of its length made padding."""
    length = batch.inputs.shape[1]
    kept = torch.arange(length, device=batch.inputs.device) < length - max(1, length // 4)
    mask = batch.mask & kept
    return replace(batch, inputs=batch.inputs.masked_fill(~mask, pad_id), mask=mask)


def _one_blank(subject: Subject, batch: Any) -> Any:
    """The batch with [MASK] in the middle of each row, and the model asked for that place alone."""
    lengths = torch.full_like(batch.inputs[:, 0], batch.inputs.shape[1]) if batch.mask is None else batch.mask.sum(1)
    middle = (lengths // 2)[:, None]
    return replace(batch, inputs=batch.inputs.scatter(1, middle, subject.mask_id), positions=middle)


def _with_other_words(subject: Subject, batch: Any, where: Tensor) -> Any:
    """The batch with random words at some places (B, T); the blanks stay."""
    words = torch.tensor(sorted(set(range(subject.vocabulary_size)) - set(subject.special_ids)))
    noise = words[torch.randint(len(words), batch.inputs.shape)].to(batch.inputs.device)
    return replace(batch, inputs=torch.where(where & (batch.inputs != subject.mask_id), noise, batch.inputs))


def _changes(subject: Subject, batch: Any, other: Any) -> bool:
    plain, changed = logits_of(subject.model, batch), logits_of(subject.model, other)
    return not torch.allclose(plain, changed, atol=1e-5, rtol=1e-4)


def _blind(subject: Subject, batch: Any) -> list[Finding]:
    everywhere = torch.ones_like(batch.inputs, dtype=torch.bool)
    if _changes(subject, batch, _with_other_words(subject, batch, everywhere)):
        return []
    return [Finding("blind model", "no other word of the row changes a guess: nothing looks around.")]


def _reading(subject: Subject, batch: Any) -> list[Finding]:
    reads_padding = _changes(subject, batch, _with_other_words(subject, batch, ~batch.mask))
    if _changes(subject, batch, _with_other_words(subject, batch, batch.mask)):
        sentence = (
            "what stands in the padding changes the guesses: pass the mask on, with the polarity that is expected."
        )
        return [Finding("padding is read", sentence)] if reads_padding else []
    if reads_padding:
        sentence = "no other word of the row changes a guess, but the padding does: the mask is used upside down."
        return [Finding("mask upside down", sentence)]
    return _blind(subject, batch)


def _empty_row(subject: Subject, batch: Any) -> list[Finding]:
    empty = replace(batch, mask=batch.mask.index_fill(0, torch.tensor([0], device=batch.mask.device), False))
    if torch.isfinite(logits_of(subject.model, empty)).all():
        return []
    sentence = "a row of padding alone gives NaN, and one NaN spoils every weight: give zeros where nothing is read."
    return [Finding("empty row gives NaN", sentence)]
