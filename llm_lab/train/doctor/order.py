"""Are the rows shuffled? Letters: N rows, B rows of a batch, S batches, F features of a row, V vocabulary."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from llm_lab.train.doctor.streams import row_set
from llm_lab.train.doctor.subject import Finding, Remark, Subject, hidden_places, originals

PAIRS = 80  # of neighbouring batches, from all of the run
FEATURES = 30  # frequent tokens that are counted in each row
SHUFFLES, SURE = 300, 6.0  # orders by chance, standard deviations of their statistic


def examine_order(subject: Subject) -> list[Finding]:
    """Neighbouring batches must be no more alike than distant ones, and rows come once in a batch."""
    firsts = [2 * number * max(1, subject.steps // (2 * PAIRS)) for number in range(PAIRS)]
    batches = [subject.stream.batch(step) for first in firsts for step in (first, first + 1)]
    if max(len(batch.inputs) for batch in batches) > 1:
        rows = sum(len(batch.inputs) for batch in batches)
        distinct = sum(len(row_set(subject, [batch])) for batch in batches)
        if distinct < 0.6 * rows:
            sentence = f"{1 - distinct / rows:.0%} of the rows stand in their batch a second time: take each once."
            return [Finding("rows repeat in a batch", sentence)]
    means = _features(subject, batches)
    score = max(surprise(means[::2, part], means[1::2, part]) for part in (slice(0, 1), slice(1, None)))
    if score > SURE:
        sentence = (
            f"neighbouring batches are more alike than distant ones ({score:.0f} standard deviations): the rows come "
            "in the order of the corpus, or sorted. Shuffle them."
        )
        return [Finding("rows not shuffled", sentence)]
    return _static_masks(batches)


def _features(subject: Subject, batches: list[Any]) -> Tensor:
    """Length and share of frequent tokens, the mean of each batch, in standard deviations of rows, (S, F)."""
    size = subject.vocabulary_size
    counts = []
    for batch in batches:
        ids = batch.inputs.masked_fill(batch.inputs == subject.mask_id, subject.pad_id).cpu()
        counts.append(torch.zeros(len(ids), size).scatter_add_(1, ids, torch.ones(ids.shape)))
    every = torch.cat(counts)
    every[:, subject.pad_id] = 0
    length = every.sum(dim=1, keepdim=True)
    frequent = every.sum(dim=0).topk(min(FEATURES, size)).indices
    features = torch.cat([length, every[:, frequent] / length.clamp(min=1)], dim=1)
    features = (features - features.mean(dim=0)) / features.std(dim=0).clamp(min=1e-6)
    return torch.stack([part.mean(dim=0) for part in features.split([len(c) for c in counts])])


def surprise(some: Tensor, others: Tensor) -> float:
    """How much more alike pairs (S, F) are than pairs by chance, in standard deviations of these."""
    draw = torch.Generator().manual_seed(0)
    orders = [torch.arange(len(some)), *(torch.randperm(len(some), generator=draw) for _ in range(SHUFFLES))]
    sums = torch.stack([(some * others[order]).sum() for order in orders])
    return ((sums[0] - sums[1:].mean()) / sums[1:].std().clamp(min=1e-9)).item()


def _static_masks(batches: list[Any]) -> list[Finding]:
    """Rows that come again, with the same places hidden."""
    seen: dict[bytes, Tensor] = {}
    again = same = 0
    for batch in {batch.inputs.numpy().tobytes(): batch for batch in batches}.values():
        for ids, places in zip(originals(batch).numpy(), hidden_places(batch), strict=True):
            row, places = ids.tobytes().rstrip(b"\0"), places.nonzero()[:, 0]
            again += row in seen
            same += row in seen and torch.equal(seen[row], places)
            seen[row] = places
    if again < 50 or same < 0.9 * again:
        return []
    sentence = (
        f"of {again} rows that came again, {same / again:.0%} had the same places hidden: masks were drawn once. BERT "
        "did so; new ones in each epoch teach more."
    )
    return [Remark("masks drawn once", sentence)]
