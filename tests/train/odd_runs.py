"""Odd runs that are healthy: on none of them may the doctor raise an alarm.

They were written without a look at the doctor's checks, and fixed before its first examination.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from llm_lab.config import BERT_SHAPE, MaskingConfig, ModelConfig
from llm_lab.model.block import Block
from llm_lab.model.heads import MaskedLanguageModel
from llm_lab.text.batches import BatchStream, fixed_batches
from llm_lab.text.packing import pack
from llm_lab.train.optimizer import Optimizers, build_optimizers
from llm_lab.ward import DATASET, TrainingRun
from tests.train.unseen_patients import WORDS, ByTheBook


class BertShape(TrainingRun):
    """BERT's architecture and AdamW with its betas: post-norm, learned positions, biases."""

    def __init__(self, **options: Any):
        super().__init__(**BERT_SHAPE, **options)
        adam = torch.optim.AdamW(self.model.parameters(), lr=1e-3, betas=(0.9, 0.999), weight_decay=0.01)
        self.optimizers = Optimizers([adam])


class Checkpointed(TrainingRun):
    """The blocks are computed again in the backward pass, to save memory."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        for block in self.model.encoder.blocks:
            block.__class__ = CheckpointedBlock


class CheckpointedBlock(Block):
    """A block that keeps its input only."""

    def forward(self, *arguments: Any, **options: Any) -> Tensor:
        """As `Block.forward`."""
        return checkpoint(super().forward, *arguments, use_reentrant=False, **options)


class UntiedHead(TrainingRun):
    """The output matrix is one of its own."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.model.__class__ = UntiedModel
        self.model.decoder = nn.Linear(self.model.config.width, WORDS.vocabulary_size)
        self.model.head.bias = None
        self.optimizers = build_optimizers(self.model, "muon", 5e-3, 0.01)


class UntiedModel(ByTheBook):
    """A masked language model with a decoder."""

    decoder: nn.Linear

    def forward(self, ids: Tensor, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """Logits (B, K, V)."""
        return self.decoder(self.head.features(self.encoder(ids, mask, positions)))


class RoundedVocabulary(TrainingRun):
    """The embedding has 256 entries for 193 words: a round number for fast kernels."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        shape = {**vars(self.model.config), "vocabulary_size": 256}
        self.model = MaskedLanguageModel(ModelConfig(**shape))
        self.optimizers = build_optimizers(self.model, "muon", self.learning_rate, 0.01)


class CosineFloor(TrainingRun):
    """BERT's mixture at 15%, four parts a batch, other betas, a cosine that ends at a tenth of the peak."""

    masking = MaskingConfig(rate=0.15, scheme="80/10/10", selection="bernoulli")
    accumulate = 4

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.optimizers = Optimizers([torch.optim.AdamW(self.model.parameters(), lr=5e-3, betas=(0.9, 0.95))])

    def factor(self, step: int) -> float:
        """Warm-up over a tenth, then half a cosine down to 0.1."""
        place = min(1.0, (step + 1) / self.steps)
        return min(10 * place, 0.1 + 0.9 * (1 + math.cos(math.pi * place)) / 2)


class PackedRows(TrainingRun):
    """Sentences end to end in rows of one length: no padding, no mask, a finite corpus in epochs."""

    masking = MaskingConfig(rate=0.3, selection="exact")

    def __init__(self, **options: Any):
        self.rows = packed(DATASET.train[:6000])
        super().__init__(**options)
        self.held_out = fixed_batches(packed(DATASET.held_out[:300]), WORDS, DATASET.evaluation_masking, 100)

    def stream_of(self, rank: int, world_size: int) -> Any:
        """The stream of one of several processes."""
        return BatchStream(self.rows, WORDS, self.masking, self.batch_rows, self.seed, rank, world_size)


def packed(rows: np.ndarray) -> np.ndarray:
    """Sentences end to end, in rows of 26."""
    return pack([row[row != WORDS.pad_id] for row in rows], 26)


class FewTargets(TrainingRun):
    """Eight rows a batch with one or two targets each."""

    masking = MaskingConfig(rate=0.15, selection="exact")

    def __init__(self, **options: Any):
        super().__init__(**{**options, "batch_rows": 8})


HEALTHY = (BertShape, Checkpointed, UntiedHead, RoundedVocabulary, CosineFloor, PackedRows, FewTargets)
