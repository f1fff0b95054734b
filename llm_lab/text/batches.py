"""A stream of masked batches in which every batch is a function of its number.

Letters: N rows of the corpus, B rows of a batch, T tokens of a row, K targets of a row. Batch number s holds the rows
s*B .. (s+1)*B - 1 of an endless sequence: epoch after epoch, each in its own order. Nothing is remembered between
batches, so a resumed run needs only the step's number, and R processes that take every R-th row see together what one
would see.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from llm_lab.config import MaskingConfig
from llm_lab.text.masking import IGNORED, gather_targets, mask_tokens, row_noise
from llm_lab.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Batch:
    """One masked batch. At `positions` (B, K) of `inputs` (B, T), the model must predict `targets` (B, K).

    A target of -100 is filler: it counts for nothing.
    """

    inputs: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor

    @property
    def num_targets(self) -> int:
        """Targets that count."""
        return int((self.targets != IGNORED).sum())

    @property
    def num_tokens(self) -> int:
        """Tokens that the model reads."""
        return self.inputs.numel()

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(*(t.to(device, non_blocking=True) for t in (self.inputs, self.positions, self.targets)))

    def split(self, parts: int) -> list[Batch]:
        """The batch in `parts` equal parts, for accumulation."""
        chunks = (t.chunk(parts) for t in (self.inputs, self.positions, self.targets))
        return [Batch(*piece) for piece in zip(*chunks, strict=True)]


class BatchStream:
    """Masked batches of `rows` (N, T), for ever: `stream.batch(step)`."""

    def __init__(
        self,
        rows: np.ndarray,
        tokenizer: Tokenizer,
        masking: MaskingConfig,
        batch_rows: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ):
        if rows.ndim != 2 or len(rows) == 0:
            raise ValueError("there are no rows to draw batches from: pack some documents first.")
        if batch_rows % world_size:
            raise ValueError(f"{batch_rows} rows can't be shared by {world_size} processes: use a multiple of that.")
        self.rows, self.tokenizer, self.masking = rows, tokenizer, masking
        self.batch_rows, self.seed, self.rank, self.world_size = batch_rows, seed, rank, world_size
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))

    def rows_of(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """(epoch, row) of each row that this process reads at `step`, two arrays of shape (B / world_size,)."""
        place = np.arange(step * self.batch_rows + self.rank, (step + 1) * self.batch_rows, self.world_size)
        epoch, place = place // len(self.rows), place % len(self.rows)
        row = np.array([self._order(int(e))[p] for e, p in zip(epoch, place, strict=True)])
        return epoch, row

    def batch(self, step: int) -> Batch:
        """Batch number `step`, counted from 0."""
        epoch, row = self.rows_of(step)
        noise = row_noise(self.seed, epoch, row, self.rows.shape[1])
        return self._masked(torch.from_numpy(self.rows[row].astype(np.int64)), noise)

    def _masked(self, ids: torch.Tensor, noise: torch.Tensor) -> Batch:
        names = self.tokenizer
        masked = mask_tokens(ids, self.masking, names.mask_id, names.special_ids, names.vocabulary_size, noise)
        # An exact share of T is the most that a row can have: one width for all batches keeps their shape fixed.
        exact = self.masking.selection == "exact"
        width = max(1, round(ids.shape[1] * self.masking.rate)) if exact else None
        return Batch(masked.inputs, *gather_targets(masked.labels, width))


def fixed_batches(
    rows: np.ndarray, tokenizer: Tokenizer, masking: MaskingConfig, batch_rows: int, seed: int = 0
) -> list[Batch]:
    """All `rows` once, in order, with masks that depend on (seed, row) alone: for evaluation.

    The same rows always hide the same words, so two models, or two moments of one model, answer the same questions.
    """
    stream = BatchStream(rows, tokenizer, masking, batch_rows, seed)
    batches = []
    for start in range(0, len(rows), batch_rows):
        row = np.arange(start, min(start + batch_rows, len(rows)))
        noise = row_noise(seed, np.zeros_like(row), row, rows.shape[1])
        batches.append(stream._masked(torch.from_numpy(rows[row].astype(np.int64)), noise))
    return batches
