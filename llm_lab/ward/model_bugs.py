"""Patients whose model is wrong: what it may see, what it makes of nothing, and which of its weights learn."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from llm_lab.model.attention import MultiHeadAttention, Rotary
from llm_lab.text.batches import Batch
from llm_lab.train.loop import Stream
from llm_lab.ward.run import StreamOf, TrainingRun


class MaskPolarity(TrainingRun):
    """The mask says True for padding, as `key_padding_mask` of `nn.MultiheadAttention` wants it; this model doesn't."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        encoder = self.model.encoder
        right = encoder.forward

        def forward(ids: Tensor, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
            return right(ids, None if mask is None else ~mask, positions)

        encoder.forward = forward


class PrintedAttention(MultiHeadAttention):
    """Attention as the formula is printed: nothing keeps a row that may read nothing from becoming NaN."""

    def forward(
        self,
        x: Tensor,
        source: Tensor,
        mask: Tensor | None = None,
        rotary: Rotary | None = None,
        query_rotary: Rotary | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """softmax(q k / sqrt(D)) v, with -inf where the mask is False. (B, T, E) -> (B, T, E)."""
        query, key = self._queries_and_keys(x, source, rotary, query_rotary)
        scores = query @ key.mT / math.sqrt(query.shape[-1])
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf)
        mixed = scores.softmax(dim=-1) @ self._heads(self.value(source))
        return self.output(mixed.transpose(1, 2).flatten(2))


class EmptyRow(TrainingRun):
    """A softmax over nothing but minus infinity, when a document of nothing but padding comes along."""

    empty_every = 90  # steps

    def __init__(self, **options: Any):
        super().__init__(**options)
        for block in self.model.encoder.blocks:
            block.attention.__class__ = PrintedAttention

    def stream_of(self, rank: int, world_size: int) -> Stream:
        """The plain stream, with an empty row in some batches."""
        plain = super().stream_of(rank, world_size)

        def batch(step: int) -> Batch:
            batch = plain.batch(step)
            if (step + 1) % self.empty_every or batch.mask is None:
                return batch
            row = torch.zeros(1, dtype=torch.long)
            return replace(batch, mask=batch.mask.index_fill(0, row, False))

        return StreamOf(batch)


class LayerInForward(TrainingRun):
    """A layer is built inside forward: new random weights at every call, and no optimizer knows them."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        feed_forward = self.model.encoder.blocks[0].feed_forward
        inner = feed_forward.forward

        def forward(x: Tensor) -> Tensor:
            return nn.Linear(x.shape[-1], x.shape[-1])(inner(x))

        feed_forward.forward = forward


class Orphaned(TrainingRun):
    """The embedding is replaced after the optimizer was built: it will never move."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        encoder = self.model.encoder
        encoder.embedding = nn.Embedding(*encoder.embedding.weight.shape)
        nn.init.normal_(encoder.embedding.weight, std=0.02)
