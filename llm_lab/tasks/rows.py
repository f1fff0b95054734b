"""Labelled rows of any length -> padded batches, for every task that answers with labels.

Letters: N rows, B rows of a batch, T tokens of a row, K answers of a row, C labels. A row asks at K positions and knows
the number of the right label at each, or -100 where none is known. Short rows are filled up; the batch's mask is False
there. Rows of one batch stand in order of length, so that its parts (`Batch.split`) carry little padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from llm_lab.text.batches import Batch
from llm_lab.text.masking import IGNORED
from llm_lab.text.packing import pad

EVALUATION_BATCH = 64  # rows


class Row(NamedTuple):
    """One row of a task. `example` says from which text it was made: a long one may give several rows."""

    ids: list[int]
    positions: list[int]  # (K,)
    targets: list[int]  # (K,)
    example: int
    cut: bool = False  # the text was longer than a row


def padded_batch(rows: Sequence[Row], pad_id: int) -> Batch:
    """Rows as one batch: the shortest first, filled up to the longest."""
    rows = sorted(rows, key=lambda row: len(row.ids))
    lengths = torch.tensor([len(row.ids) for row in rows])
    places = max(len(row.positions) for row in rows)
    ids, positions, targets = (
        torch.from_numpy(pad(column, width, filler))
        for column, width, filler in (
            ([row.ids for row in rows], int(lengths[-1]), pad_id),
            ([row.positions for row in rows], places, 0),
            ([row.targets for row in rows], places, IGNORED),
        )
    )
    return Batch(ids, positions, targets, torch.arange(ids.shape[1]) < lengths[:, None])


class RowStream:
    """Batches of rows, epoch after epoch, each in its own order; batch number s is a function of (seed, s) alone.

    An epoch's last batch has the rows that are left.
    """

    def __init__(self, rows: Sequence[Row], pad_id: int, batch_rows: int, seed: int):
        if not rows:
            raise ValueError("there are no rows to draw batches from: give at least one.")
        self.rows, self.pad_id, self.batch_rows, self.seed = rows, pad_id, batch_rows, seed
        self.steps_per_epoch = -(-len(rows) // batch_rows)
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))

    def batch(self, step: int) -> Batch:
        """Batch number `step`, counted from 0."""
        epoch, number = divmod(step, self.steps_per_epoch)
        chosen = self._order(epoch)[number * self.batch_rows : (number + 1) * self.batch_rows]
        return padded_batch([self.rows[i] for i in chosen], self.pad_id)


@torch.no_grad()
def log_probabilities(model: nn.Module, rows: Sequence[Row], pad_id: int) -> Iterator[Tensor]:
    """log p(label) at each position of each row, (K, C), on the CPU; in the order of the rows.

    `model` is a Classifier: it takes ids, mask and positions.
    """
    model.eval()
    device = next(model.parameters()).device
    by_length = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))
    found: dict[int, Tensor] = {}
    for start in range(0, len(rows), EVALUATION_BATCH):
        chosen = by_length[start : start + EVALUATION_BATCH]
        batch = padded_batch([rows[i] for i in chosen], pad_id).to(device)
        logits = model(batch.inputs, batch.mask, batch.positions).float().log_softmax(dim=-1).cpu()
        found |= {i: row[: len(rows[i].positions)] for i, row in zip(chosen, logits, strict=True)}
    return (found[i] for i in range(len(rows)))
