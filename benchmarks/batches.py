"""Batches that all contestants share: full rows, or ragged documents, padded and packed.

Token ids are drawn uniformly: a step's time does not depend on which words they are. `learning` reads real text.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from benchmarks.work import Size
from llm_lab.config import MaskingConfig
from llm_lab.text.batches import Batch
from llm_lab.text.masking import IGNORED, gather_targets, mask_tokens, row_noise
from llm_lab.text.packing import pack, pad
from llm_lab.text.tokenizer import SPECIAL_TOKENS

PAD, MASK = SPECIAL_TOKENS.index("[PAD]"), SPECIAL_TOKENS.index("[MASK]")
SPECIAL_IDS = tuple(range(len(SPECIAL_TOKENS)))
SHORTEST = 16  # tokens of the shortest ragged document, at most half a row


class Shelf:
    """Prepared batches, handed out again and again: every contestant reads the same objects."""

    def __init__(self, batches: list[Batch]):
        self.batches = batches

    def batch(self, step: int) -> Batch:
        """Batch number `step`, counted from 0."""
        return self.batches[step % len(self.batches)]

    @property
    def num_tokens(self) -> int:
        """Real tokens of one pass, padding not counted."""
        return sum(batch.num_tokens for batch in self.batches)

    @property
    def num_places(self) -> int:
        """Positions of one pass, padding counted."""
        return sum(batch.inputs.numel() for batch in self.batches)


class SyntheticStream:
    """Full rows of random words, masked when they are asked for, as in training."""

    def __init__(self, size: Size, rows: np.ndarray):
        self.size, self.rows = size, rows

    def batch(self, step: int) -> Batch:
        """Batch number `step`, counted from 0."""
        count = len(self.rows)
        chosen = np.arange(step * self.size.rows, (step + 1) * self.size.rows)
        epoch, row = chosen // count, chosen % count
        ids = self.rows[row]
        return masked(ids, row_noise(0, epoch, row, ids.shape[1]), self.size)


def masked(rows: np.ndarray, noise: Tensor, size: Size) -> Batch:
    """Rows of ids (B, T) and noise (3, B, T) -> a batch with the package's masking, cut to its longest row."""
    ids = torch.from_numpy(rows.astype(np.int64))
    config = MaskingConfig(rate=size.mask_rate)
    hidden = mask_tokens(ids, config, MASK, SPECIAL_IDS, size.vocabulary, noise)
    positions, targets = gather_targets(hidden.labels, size.targets)
    real = ids != PAD
    return Batch(hidden.inputs, positions, targets, real).split(1)[0]  # a part is only as long as its longest row


def full_rows(size: Size, count: int, seed: int = 0) -> Shelf:
    """`count` batches of rows without padding."""
    words = np.random.default_rng(seed).integers(len(SPECIAL_IDS), size.vocabulary, (count * size.rows, size.length))
    stream = SyntheticStream(size, words)
    return Shelf([stream.batch(step) for step in range(count)])


def documents(size: Size, count: int, seed: int = 0) -> list[list[int]]:
    """Enough random documents for `count` padded batches: lengths uniform from 16 tokens to a row."""
    random = np.random.default_rng(seed)
    shortest = min(SHORTEST, size.length // 2)
    lengths = random.integers(shortest, size.length + 1, count * size.rows)
    return [random.integers(len(SPECIAL_IDS), size.vocabulary, length).tolist() for length in lengths]


def ragged(size: Size, count: int, seed: int = 0) -> dict[str, Shelf]:
    """The same documents twice: `padded`, one a row, and `packed`, end to end in rows without padding."""
    texts = documents(size, count, seed)
    shelves = {}
    for layout, rows in (("padded", pad(texts, size.length, PAD)), ("packed", pack(texts, size.length))):
        whole = rows[: len(rows) // size.rows * size.rows]
        stream = SyntheticStream(size, whole if len(whole) else rows)
        shelves[layout] = Shelf([stream.batch(step) for step in range(max(1, len(whole) // size.rows))])
    return shelves


def dense_labels(batch: Batch) -> Tensor:
    """What other libraries want: the hidden token at a target, -100 elsewhere, (B, T)."""
    labels = torch.full_like(batch.inputs, IGNORED)
    real = batch.targets != IGNORED
    rows = torch.arange(len(labels), device=labels.device)[:, None].expand_as(batch.positions)
    labels[rows[real], batch.positions[real]] = batch.targets[real]
    return labels
