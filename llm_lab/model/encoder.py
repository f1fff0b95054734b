"""The encoder: token ids -> one vector a token, each informed by all the others.

Letters: B batch, T tokens, K chosen positions, E embedding width, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llm_lab.config import ModelConfig
from llm_lab.model.attention import Rotary
from llm_lab.model.block import Block, draw_weights, layer_norm, require_short
from llm_lab.model.positions import AddedPositions, rotary_table


class Encoder(nn.Module):
    """A stack of pre-norm blocks between an embedding and a last norm."""

    cosine: Tensor
    sine: Tensor

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary_size, config.width)
        added = config.positions in ("learned", "sinusoidal")
        self.added = AddedPositions(config.positions, config.max_length, config.width) if added else nn.Identity()
        self.embedding_norm = layer_norm(config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, first=i == 0) for i in range(config.num_layers))
        self.final_norm = layer_norm(config.width)
        cosine, sine = rotary_table(config.max_length, config.width // config.num_heads)
        self.register_buffer("cosine", cosine, persistent=False)
        self.register_buffer("sine", sine, persistent=False)
        draw_weights(self, config.num_layers)

    def embed(self, ids: Tensor) -> Tensor:
        """(B, T) -> (B, T, E): what the first block reads."""
        require_short(ids, self.config.max_length)
        return self.dropout(self.embedding_norm(self.added(self.embedding(ids))))

    def rotary(self, length: int) -> Rotary | None:
        """The rotary tables of a row of this length, or None if positions are of another kind."""
        return (self.cosine[:length], self.sine[:length]) if self.config.positions == "rotary" else None

    def forward(self, ids: Tensor, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """ids (B, T) -> (B, T, E), or (B, K, E) at `positions` (B, K).

        `mask` (B, T) is True at the tokens that others may attend to; None means all. With `positions` the last block
        computes these alone: nobody reads the others' last vectors, so the result is the same.
        """
        x = self.embed(ids)
        rotary = self.rotary(ids.shape[1])
        allowed = None if mask is None else mask[:, None, None, :]
        for block in self.blocks[:-1]:
            x = block(x, allowed, rotary)
        return self.final_norm(self.blocks[-1](x, allowed, rotary, positions))

    @torch.no_grad()
    def attention_maps(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """Where each token looks, in every layer and head: (B, T) -> (layers, B, H, T, T)."""
        x = self.embed(ids)
        rotary = self.rotary(ids.shape[1])
        allowed = None if mask is None else mask[:, None, None, :]
        maps = []
        for block in self.blocks:
            assert isinstance(block, Block)
            maps.append(block.attention.weights(block.attention_input(x, allowed), allowed, rotary))
            x = block(x, allowed, rotary)
        return torch.stack(maps)
