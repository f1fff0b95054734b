"""Is what the batches hide, and what they show, as it should be? Letters: B batch, T tokens, K chosen positions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

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
    """True if the loop can't take a batch without a target: a weight is no number after it."""
    if subject.update is None:
        return True
    with untouched(subject):
        subject.update(step)
        return not all(torch.isfinite(p).all() for p in subject.model.parameters())


def _until_enough(subject: Subject, shown: list[Tensor], hidden: list[Tensor]) -> Iterator[tuple[Any, Tensor]]:
    """Batches, and where their targets stand in rows never seen before, (B, K): masks that repeat prove nothing new."""
    rows: set[bytes] = set()
    count, mixed = 0, False
    for step in range(MIXED_BATCHES):
        if count >= (MIXED_TARGETS if mixed else PURE_TARGETS) or (step >= PURE_BATCHES and not mixed):
            return
        batch = subject.stream.batch(step)
        keys = [_key(*row, subject.pad_id) for row in zip(batch.inputs, batch.positions, batch.targets, strict=True)]
        fresh = torch.tensor([key not in rows for key in keys])
        rows.update(keys)
        yield batch, is_target(batch) & fresh[:, None]
        count += len(hidden[-1])
        mixed = mixed or bool((shown[-1] != subject.mask_id).any())


def _key(inputs: Tensor, positions: Tensor, targets: Tensor, pad_id: int) -> bytes:
    return torch.cat([inputs[inputs != pad_id], positions, targets]).numpy().tobytes()


def _padding(subject: Subject, batch: Any, found: dict[str, str]) -> None:
    padding = batch.inputs == subject.pad_id
    if batch.mask is None:
        if padding.any():
            found["padding without a mask"] = "batches hold padding and no mask: pass mask = inputs != pad_id."
    elif padding.any() and torch.equal(batch.mask, padding):
        found["mask upside down"] = "the mask is True at padding and False at words: here True means may be read."


def _targets(subject: Subject, shown: Tensor, hidden: Tensor, found: dict[str, str]) -> None:
    special = torch.tensor(tuple(subject.special_ids))
    if torch.isin(hidden, special).any():
        share = torch.isin(hidden, special).float().mean().item()
        found["special tokens hidden"] = (
            f"{share:.0%} of the targets are special tokens such as [CLS], which anyone can guess: never choose them."
        )
    is_mask, is_kept = shown == subject.mask_id, shown == hidden
    is_random = ~is_mask & ~is_kept
    if torch.isin(shown[is_random], special).any():
        found["special tokens as random words"] = (
            "some targets are replaced by special tokens such as [SEP] or [PAD]: draw from the words alone."
        )
    counts = [int(kind.sum()) for kind in (is_mask, is_random, is_kept)]
    n = max(1, len(shown))
    if counts[2] > 0.5 * n:
        found["answer visible"] = f"{counts[2] / n:.0%} of the targets stand in the input unhidden."
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
