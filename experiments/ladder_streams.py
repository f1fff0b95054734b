"""The training data of the ladder's rows: other rows, other masks, or both growing over the run.

Letters: B rows of a batch, T tokens of a row, N rows in all.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from experiments.ladder_rows import Row
from llm_lab.config import MaskingConfig, TrainConfig
from llm_lab.text.batches import Batch, BatchStream
from llm_lab.text.dataset import Dataset
from llm_lab.text.masking import IGNORED, corrupt, gather_targets, row_noise


class LadderStream(BatchStream):
    """The package's stream with a row's change of rows, masks, or their growth over the run."""

    def __init__(self, row: Row, dataset: Dataset, masking: MaskingConfig, config: TrainConfig):
        rows = padded_rows(dataset, config.row_length) if row.padded else dataset.train[: row.corpus_rows]
        super().__init__(rows, dataset.tokenizer, masking, config.batch_rows, config.seed)
        self.row, self.steps, self.length = row, config.steps, config.row_length
        names = (dataset.tokenizer.token_of(i) for i in range(dataset.tokenizer.vocabulary_size))
        self.continues = torch.tensor([name.startswith("##") for name in names])

    def batch(self, step: int) -> Batch:
        """Batch number `step`, counted from 0."""
        row, done = self.row, step / self.steps
        epoch, number = self.rows_of(step)
        third = min(2, int(3 * done))
        if row.batch_ramp:
            kept = (8, 16, 32)[third] * len(number) // 32
            epoch, number = epoch[:kept], number[:kept]
        ids = self.ids_of(number).astype(np.int64)
        noise = row_noise(self.seed, np.zeros_like(epoch) if row.static else epoch, number, ids.shape[1])
        if row.length_ramp:
            length = self.length * (1, 2, 4)[third] // 4
            ids = ids.reshape(-1, length)
            noise = noise.reshape(3, -1, length)
        masking = self.masking
        if row.last_rate is not None:
            masking = replace(masking, rate=masking.rate + (row.last_rate - masking.rate) * done)
        return self._masked(torch.from_numpy(ids), noise, masking)

    def _masked(self, ids: Tensor, noise: Tensor, masking: MaskingConfig) -> Batch:
        tokenizer = self.tokenizer
        special = torch.tensor(tokenizer.special_ids)
        order = noise[0].masked_fill(torch.isin(ids, special), 2.0)
        wanted = ((order < 2).sum(dim=1) * masking.rate).round().long().clamp(min=1)
        if self.row.targets == "words":
            targets = whole_words(order, wanted, self.continues[ids])
        else:
            targets = {"tokens": lowest, "spans": spans}[self.row.targets](order, wanted)
        words = (tokenizer.mask_id, tokenizer.special_ids, tokenizer.vocabulary_size)
        inputs = corrupt(ids, targets, masking.scheme, *words, noise[1:])
        width = max(1, round(ids.shape[1] * masking.rate))
        positions, labels = gather_targets(ids.masked_fill(~targets, IGNORED), width)
        return Batch(inputs, positions, labels, ids != tokenizer.pad_id)._trimmed()


def whole_words(order: Tensor, wanted: Tensor, continues: Tensor) -> Tensor:
    """Whole words in the order of their first piece's noise, while they fit into the wanted count; (B, T)."""
    word = (~continues).long().cumsum(dim=1)
    targets = torch.zeros_like(continues)
    for b in range(len(order)):
        pieces: dict[int, list[int]] = {}
        for place in (order[b] < 2).nonzero()[:, 0].tolist():
            pieces.setdefault(int(word[b, place]), []).append(place)
        left = int(wanted[b])
        for places in sorted(pieces.values(), key=lambda places: float(order[b, places[0]])):
            if len(places) <= left:
                targets[b, places] = True
                left -= len(places)
    return targets


def lowest(order: Tensor, wanted: Tensor) -> Tensor:
    """The `wanted` (B,) tokens of each row with the smallest noise, (B, T)."""
    return order.argsort(dim=1).argsort(dim=1) < wanted[:, None]


def spans(order: Tensor, wanted: Tensor) -> Tensor:
    """Neighbours hidden together: spans of 1 to 10 tokens, 3.8 on average before cutting (arXiv 1907.10529)."""
    targets = torch.zeros_like(order, dtype=torch.bool)
    for b in range(len(order)):
        open_places = order[b] < 2
        for start in order[b].argsort().tolist():
            left = int(wanted[b] - targets[b].sum())
            if left <= 0:
                break
            # The noise beyond what chose the place is as good as a fresh draw.
            u = max(float(order[b, start] * 7919 % 1.0), 1e-9)
            length = min(10, 1 + int(math.log(u) / math.log(0.8)), left)
            stretch = slice(start, start + length)
            targets[b, stretch] |= open_places[stretch]
    return targets


def padded_rows(dataset: Dataset, length: int) -> np.ndarray:
    """Each training document in rows of its own, the last one padded, (N, T)."""
    tokenizer = dataset.tokenizer
    rows = []
    for ids in tokenizer.encode_many([document.text for document in dataset.corpus.split("train")]):
        for start in range(0, len(ids), length):
            piece = ids[start : start + length]
            rows.append(piece + [tokenizer.pad_id] * (length - len(piece)))
    return np.array(rows, dtype=np.uint16)
