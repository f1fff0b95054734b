"""A stream of masked batches in which every batch is a function of its number.

Letters: N rows of the corpus, B rows of a batch, T tokens of a row, K targets of a row. Batch number s holds the rows
s*B .. (s+1)*B - 1 of an endless sequence: epoch after epoch, each in its own order. Nothing is remembered between
batches, so a resumed run needs only the step's number, and R processes that take every R-th row see together what one
would see.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch

from llm_lab.config import MaskingConfig
from llm_lab.text.masking import IGNORED, gather_targets, mask_tokens, row_noise
from llm_lab.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Batch:
    """One masked batch. At `positions` (B, K) of `inputs` (B, T), the model must predict `targets` (B, K).

    A target of -100 is filler: it counts for nothing. `mask` (B, T) is False at padding; None where there is none.
    """

    inputs: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    mask: torch.Tensor | None = None

    @property
    def num_targets(self) -> int:
        """Targets that count."""
        return int((self.targets != IGNORED).sum())

    @property
    def num_tokens(self) -> int:
        """Tokens that the model reads, without padding."""
        return self.inputs.numel() if self.mask is None else int(self.mask.sum())

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        moved = [None if t is None else t.to(device, non_blocking=True) for t in self._tensors]
        return Batch(*moved)  # type: ignore[arg-type]

    def split(self, parts: int) -> list[Batch]:
        """The batch in `parts` equal parts, for accumulation. Each is only as long as its longest row."""
        chunks = [[None] * parts if t is None else t.chunk(parts) for t in self._tensors]
        return [Batch(*piece)._trimmed() for piece in zip(*chunks, strict=True)]  # type: ignore[arg-type]

    def _trimmed(self) -> Batch:
        if self.mask is None:
            return self
        longest = int(self.mask.sum(dim=1).max())
        mask = self.mask[:, :longest]
        return replace(self, inputs=self.inputs[:, :longest], mask=None if mask.all() else mask)

    @property
    def _tensors(self) -> tuple[torch.Tensor | None, ...]:
        return self.inputs, self.positions, self.targets, self.mask


class MaskedStream(ABC):
    """Masked batches, for ever: `stream.batch(step)`. What its rows are, a subclass says."""

    def __init__(
        self, tokenizer: Tokenizer, masking: MaskingConfig, batch_rows: int, seed: int, rank: int, world_size: int
    ):
        if batch_rows % world_size:
            raise ValueError(f"{batch_rows} rows can't be shared by {world_size} processes: use a multiple of that.")
        self.tokenizer, self.masking = tokenizer, masking
        self.batch_rows, self.seed, self.rank, self.world_size = batch_rows, seed, rank, world_size

    def places_of(self, step: int) -> np.ndarray:
        """Where in the endless sequence of rows the ones stand that this process reads at `step`."""
        return np.arange(step * self.batch_rows + self.rank, (step + 1) * self.batch_rows, self.world_size)

    @abstractmethod
    def rows_of(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """(epoch, row) of each row that this process reads at `step`, two arrays of shape (B / world_size,)."""

    @abstractmethod
    def ids_of(self, row: np.ndarray) -> np.ndarray:
        """The ids of rows with these numbers, (B, T)."""

    def batch(self, step: int) -> Batch:
        """Batch number `step`, counted from 0."""
        epoch, row = self.rows_of(step)
        ids = self.ids_of(row)
        return masked_batch(ids, row_noise(self.seed, epoch, row, ids.shape[1]), self.tokenizer, self.masking)


class BatchStream(MaskedStream):
    """Batches of `rows` (N, T), epoch after epoch, each in its own order."""

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
        super().__init__(tokenizer, masking, batch_rows, seed, rank, world_size)
        self.rows = rows
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))

    def rows_of(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """(epoch, row) of each row that this process reads at `step`, two arrays of shape (B / world_size,)."""
        place = self.places_of(step)
        epoch, place = place // len(self.rows), place % len(self.rows)
        row = np.array([self._order(int(e))[p] for e, p in zip(epoch, place, strict=True)])
        return epoch, row

    def ids_of(self, row: np.ndarray) -> np.ndarray:
        """The ids of rows with these numbers, (B, T)."""
        return self.rows[row]


def masked_batch(rows: np.ndarray, noise: torch.Tensor, tokenizer: Tokenizer, masking: MaskingConfig) -> Batch:
    """Rows of ids (B, T) and noise (3, B, T) -> a batch, as long as its longest row without padding."""
    ids = torch.from_numpy(rows.astype(np.int64))
    masked = mask_tokens(ids, masking, tokenizer.mask_id, tokenizer.special_ids, tokenizer.vocabulary_size, noise)
    # An exact share of T is the most that a row can have: one width for all batches keeps their shape fixed.
    width = max(1, round(ids.shape[1] * masking.rate)) if masking.selection == "exact" else None
    return Batch(masked.inputs, *gather_targets(masked.labels, width), ids != tokenizer.pad_id)._trimmed()


def fixed_batches(
    rows: np.ndarray, tokenizer: Tokenizer, masking: MaskingConfig, batch_rows: int, seed: int = 0
) -> list[Batch]:
    """All `rows` once, in order, with masks that depend on (seed, row) alone: for evaluation.

    The same rows always hide the same words, so two models, or two moments of one model, answer the same questions.
    """
    batches = []
    for start in range(0, len(rows), batch_rows):
        row = np.arange(start, min(start + batch_rows, len(rows)))
        noise = row_noise(seed, np.zeros_like(row), row, rows.shape[1])
        batches.append(masked_batch(rows[row], noise, tokenizer, masking))
    return batches
