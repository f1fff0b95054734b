"""The masked-word head, and the model that joins it to the encoder.

Letters: B batch, T tokens, K chosen positions, E embedding width, V vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_lab.config import ModelConfig
from llm_lab.model.block import layer_norm
from llm_lab.model.encoder import INITIAL_STD, Encoder


class MaskedWordHead(nn.Module):
    """One vector -> a score for each word: how much it is like the word's own embedding (tied weights)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.dense = nn.Linear(config.width, config.width, bias=False)
        self.norm = layer_norm(config.width)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary_size))
        nn.init.normal_(self.dense.weight, std=INITIAL_STD)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """x (..., E), embedding (V, E) -> logits (..., V)."""
        return F.linear(self.norm(F.gelu(self.dense(x))), embedding, self.bias)


class MaskedLanguageModel(nn.Module):
    """An encoder that guesses hidden words; BERT's task (arXiv 1810.04805) on ModernBERT's architecture."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.head = MaskedWordHead(config)

    def forward(self, ids: Tensor, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """ids (B, T) -> logits (B, T, V), or (B, K, V) at `positions` (B, K): the same numbers for less work."""
        return self.head(self.encoder(ids, mask, positions), self.encoder.embedding.weight)


def count_parameters(model: nn.Module) -> int:
    """Numbers that training changes; the tied embedding counts once."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
