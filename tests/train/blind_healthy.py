"""Four unusual runs that are healthy: on none of them may the doctor raise an alarm.

They were written without a look at the doctor's checks, together with `blind_patients.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from llm_lab.text.batches import BatchStream
from llm_lab.text.masking import IGNORED
from llm_lab.train.loop import Stream
from llm_lab.train.optimizer import Optimizers
from llm_lab.ward import DATASET, TrainingRun
from llm_lab.ward.data_bugs import OwnMasking, drawn, is_word

WORDS = DATASET.tokenizer
CORPUS = DATASET.train[:4800]


class SpanMasking(OwnMasking):
    """SpanBERT's idea: one to three words in a row are hidden together, about a fifth of all."""

    starts = 0.11  # spans a word

    def hide(self, ids: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Spans of words, each all [MASK]."""
        start = drawn(ids, self.starts, generator)
        length = torch.randint(1, 4, ids.shape, generator=generator)
        chosen = start.clone()
        for further in (1, 2):
            reaches = start & (length > further)
            chosen[:, further:] |= reaches[:, :-further]
        chosen &= is_word(ids)
        return ids.masked_fill(chosen, WORDS.mask_id), chosen


class Buckets(BatchStream):
    """The rows of a batch are of one length, or nearly; the batches come in random order, each epoch anew."""

    def _shuffled(self, epoch: int) -> np.ndarray:
        draw = np.random.default_rng([self.seed, epoch])
        rows = draw.permutation(len(self.rows))
        by_length = rows[(self.rows[rows] != WORDS.pad_id).sum(axis=1).argsort(kind="stable")]
        buckets = by_length.reshape(-1, self.batch_rows)
        return draw.permutation(buckets).ravel()


class LengthBuckets(TrainingRun):
    """Batches of sentences of like length: hardly any padding, some batches have no mask, sizes differ much."""

    def stream_of(self, rank: int, world_size: int) -> Stream:
        """The stream of one of several processes."""
        usable = len(CORPUS) // self.batch_rows * self.batch_rows
        return Buckets(CORPUS[:usable], WORDS, self.masking, self.batch_rows, self.seed, rank, world_size)


class PyTorchParts(TrainingRun):
    """PyTorch's own encoder layers, with `batch_first=True`, the mask turned round for them, and tied weights."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.model = StockModel(WORDS.vocabulary_size)
        self.optimizers = Optimizers([torch.optim.AdamW(self.model.parameters(), lr=3e-3, betas=(0.9, 0.98))])


class StockModel(nn.Module):
    """A masked language model of `nn.TransformerEncoder`."""

    def __init__(self, vocabulary: int, width: int = 64):
        super().__init__()
        self.embedding, self.place = nn.Embedding(vocabulary, width), nn.Embedding(64, width)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.1, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, nn.LayerNorm(width), enable_nested_tensor=False)
        self.decoder = nn.Linear(width, vocabulary)
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.place.weight, std=0.02)
        nn.init.zeros_(self.decoder.bias)
        self.decoder.weight = self.embedding.weight

    def forward(self, ids: Tensor, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """Logits (B, T, V), or (B, K, V) at positions."""
        x = self.embedding(ids) + self.place(torch.arange(ids.shape[1], device=ids.device))
        x = self.layers(x, src_key_padding_mask=None if mask is None else ~mask)
        if positions is not None:
            x = x.gather(1, positions[..., None].expand(-1, -1, x.shape[-1]))
        return self.decoder(x)

    def loss_sum(self, ids: Tensor, positions: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
        """The sum of -log p(target)."""
        logits = self(ids, mask, positions).flatten(0, 1)
        return F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORED, reduction="sum")


class SteadyLayers(TrainingRun):
    """AdamW with a smaller rate for lower layers, no dropout, a warm-up and then one rate to the end."""

    def __init__(self, **options: Any):
        super().__init__(**{**options, "dropout": 0.0})
        model = self.model
        stages = [[model.encoder.embedding], *[[block] for block in model.encoder.blocks], [model.head]]
        known: set[int] = set()
        groups = []
        for height, stage in enumerate(reversed([*stages[:-1], [*stages[-1], model.encoder]])):
            own = [p for module in stage for p in module.parameters() if id(p) not in known and self._is_of(stage, p)]
            known |= {id(p) for p in own}
            groups.append({"params": own, "lr": 5e-3 * 0.8**height})
        self.optimizers = Optimizers([torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.01)])

    def _is_of(self, stage: list[nn.Module], parameter: nn.Parameter) -> bool:
        """The whole encoder stands for its last norm alone: its embedding and blocks have stages of their own."""
        encoder = self.model.encoder
        lower = {id(p) for module in (encoder.embedding, *encoder.blocks) for p in module.parameters()}
        return encoder not in stage or id(parameter) not in lower

    def factor(self, step: int) -> float:
        """Up over the first 20 steps, then 1."""
        return min(1.0, (step + 1) / 20)


HEALTHY = (SpanMasking, LengthBuckets, PyTorchParts, SteadyLayers)
