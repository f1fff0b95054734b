"""Is what the batches hide, and what they show, as it should be? Letters: B batch, T tokens, K chosen positions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llm_lab.train.doctor.subject import Finding, Subject, is_target
from llm_lab.train.doctor.untouched import untouched

PURE_TARGETS, PURE_BATCHES = 10_000, 200
MIXED_TARGETS, MIXED_BATCHES = 60_000, 600  # what tells 81, 10, 9 from 80, 10, 10
FEWEST_TARGETS = 1000  # the mixture of fewer isn't judged
BY_CHANCE = 1e-6  # how often a sound mixture is called wrong


def examine_batches(subject: Subject) -> list[Finding]:
    """Padding and its mask, the targets, and what stands in their place."""
    found: dict[str, str] = {}
    shown: list[Tensor] = []
    hidden: list[Tensor] = []
    for step, (batch, new) in enumerate(_until_enough(subject, shown, hidden)):
        if not is_target(batch).any() and "batch without a target" not in found and _spoils(subject, step):
            sentence = f"batch {step} hides nothing, so its mean loss is 0 / 0: hide at least one word a row."
            found["batch without a target"] = sentence
        _padding(subject, batch, found)
        shown.append(batch.inputs.gather(1, batch.positions)[new])
        hidden.append(batch.targets[new])
    _targets(subject, torch.cat(shown), torch.cat(hidden), found)
    return [Finding(*item) for item in found.items()]


def _spoils(subject: Subject, step: int) -> bool:
    """True if the loop can't take a batch without a target: its loss, or a weight after it, is no number."""
    if subject.update is None:
        return True
    with untouched(subject):
        record = subject.update(step)
        loss = record.get("loss", 0.0) if isinstance(record, dict) else 0.0
        return not math.isfinite(loss) or not all(torch.isfinite(p).all() for p in subject.model.parameters())


def _until_enough(subject: Subject, shown: list[Tensor], hidden: list[Tensor]) -> Iterator[tuple[Any, Tensor]]:
    """Batches, and where their targets stand in rows never seen before, (B, K): masks that repeat prove nothing new."""
    rows: set[bytes] = set()
    count, mixed = 0, False
    for step in range(MIXED_BATCHES):
        if count >= (MIXED_TARGETS if mixed else PURE_TARGETS) or (step >= PURE_BATCHES and not mixed):
            return
        batch = subject.stream.batch(step)
        rows_of_ids = zip(batch.inputs.numpy(), batch.positions.numpy(), batch.targets.numpy(), strict=True)
        keys = [_key(*row, subject.pad_id) for row in rows_of_ids]
        fresh = torch.tensor([key not in rows for key in keys])
        rows.update(keys)
        yield batch, is_target(batch) & fresh[:, None]
        count += len(hidden[-1])
        mixed = mixed or bool((shown[-1] != subject.mask_id).any())


def _key(inputs: np.ndarray, positions: np.ndarray, targets: np.ndarray, pad_id: int) -> bytes:
    return inputs[inputs != pad_id].tobytes() + positions.tobytes() + targets.tobytes()


def _padding(subject: Subject, batch: Any, found: dict[str, str]) -> None:
    padding = batch.inputs == subject.pad_id
    if batch.mask is None:
        if padding.any():
            found["padding without a mask"] = "batches hold padding and no mask: pass mask = inputs != pad_id."
    elif padding.any() and torch.equal(batch.mask, padding):
        found["mask upside down"] = "the mask is True at padding and False at words: here True means may be read."


def _targets(subject: Subject, shown: Tensor, hidden: Tensor, found: dict[str, str]) -> None:
    special = torch.tensor(tuple(subject.special_ids))
    is_mask, is_kept = shown == subject.mask_id, shown == hidden
    if (hidden == subject.mask_id).float().mean() > 0.5:
        found["targets are [MASK]"] = (
            "the targets are [MASK] itself, not the words that it hides: copy the labels before you mask."
        )
        return
    if torch.isin(hidden, special).any():
        share = torch.isin(hidden, special).float().mean().item()
        found["special tokens hidden"] = (
            f"{share:.0%} of the targets are special tokens such as [CLS], which anyone can guess: never choose them."
        )
    is_random = ~is_mask & ~is_kept
    tokens, times = shown[is_random].unique(return_counts=True)
    if is_random.sum() > 0.5 * len(shown) and times.max() > 0.9 * is_random.sum():
        what = f"id {int(tokens[times.argmax()])} stands where words are hidden, and mask_id is {subject.mask_id}"
        found["another mask token"] = f"{what}: take the tokenizer's own."
        return
    if torch.isin(shown[is_random], special).any():
        found["special tokens as random words"] = (
            "some targets are replaced by special tokens such as [SEP] or [PAD]: draw from the words alone."
        )
    counts = [int(kind.sum()) for kind in (is_mask, is_random, is_kept)]
    n = max(1, len(shown))
    if counts[2] > 0.5 * n:
        found["answer visible"] = (
            f"{counts[2] / n:.0%} of the targets stand in the input unhidden: hide them, or set their labels to -100."
        )
    elif counts[0] < 0.999 * n and n >= FEWEST_TARGETS and not _is_mixture(subject, counts):
        seen = ", ".join(f"{c / n:.1%} {k}" for c, k in zip(counts, ("[MASK]", "a random word", "itself"), strict=True))
        found["mixture"] = f"targets show {seen}; BERT's mixture is 80, 10, 10: decide all three by one draw."


def _is_mixture(subject: Subject, counts: Sequence[int]) -> bool:
    by_luck = 0.1 / (subject.vocabulary_size - len(subject.special_ids))  # a random word can be the word itself
    return surprise(counts, (0.8, 0.1 - by_luck, 0.1 + by_luck)) <= -2 * math.log(BY_CHANCE)


def surprise(counts: Sequence[int], shares: Sequence[float]) -> float:
    """Pearson's chi-square of counts against wanted shares. For three kinds, chance exceeds x with exp(-x / 2).

    >>> round(surprise([810, 100, 90], [0.8, 0.1, 0.1]), 3)
    1.125
    """
    n = sum(counts)
    return sum((count - n * share) ** 2 / (n * share) for count, share in zip(counts, shares, strict=True))
