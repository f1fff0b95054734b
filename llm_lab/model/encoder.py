"""The encoder: token ids -> one vector a token, each informed by all the others.

Letters: B batch, T tokens, K chosen positions, E embedding width, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llm_lab.config import ModelConfig
from llm_lab.model.attention import Rotary
from llm_lab.model.block import INITIAL_STD, Block, draw_weights, make_norm, require_short
from llm_lab.model.positions import AddedPositions, alibi_bias, alibi_slopes, rotary_table


class Encoder(nn.Module):
    """A stack of blocks on a normalised embedding, and a last norm (post-norm blocks end in one themselves)."""

    cosine: Tensor
    sine: Tensor
    slopes: Tensor

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary_size, config.width)
        self.added: nn.Module = nn.Identity()
        if config.positions in ("learned", "sinusoidal"):
            self.added = AddedPositions(config.positions, config.max_length, config.width, INITIAL_STD)
        self.embedding_norm = make_norm(config)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, first=i == 0) for i in range(config.num_layers))
        self.final_norm = nn.Identity() if config.norm_place == "post" else make_norm(config)
        cosine, sine = rotary_table(config.max_length, config.width // config.num_heads)
        self.register_buffer("cosine", cosine, persistent=False)
        self.register_buffer("sine", sine, persistent=False)
        self.register_buffer("slopes", alibi_slopes(config.num_heads), persistent=False)
        draw_weights(self, config)

    def embed(self, ids: Tensor) -> Tensor:
        """(B, T) -> (B, T, E): what the first block reads."""
        require_short(ids, self.config.max_length)
        return self.dropout(self.embedding_norm(self.added(self.embedding(ids))))

    def rotary(self, length: int) -> Rotary | None:
        """The rotary tables of a row of this length, or None if positions are of another kind."""
        return (self.cosine[:length], self.sine[:length]) if self.config.positions == "rotary" else None

    def bias(self, length: int) -> Tensor | None:
        """ALiBi's bias for a row of this length, (H, T, T), or None if positions are of another kind."""
        return alibi_bias(self.slopes, length) if self.config.positions == "alibi" else None

    def forward(self, ids: Tensor, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """ids (B, T) -> (B, T, E), or (B, K, E) at `positions` (B, K).

        `mask` (B, T) is True at the tokens that others may attend to; None means all. With `positions` the last block
        computes these alone: nobody reads the others' last vectors, so the result is the same.
        """
        x = self.embed(ids)
        rotary, bias = self.rotary(ids.shape[1]), self.bias(ids.shape[1])
        allowed = None if mask is None else mask[:, None, None, :]
        for block in self.blocks[:-1]:
            x = block(x, allowed, rotary, bias=bias)
        return self.final_norm(self.blocks[-1](x, allowed, rotary, positions, bias))

    @torch.no_grad()
    def attention_maps(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """Where each token looks, in every layer and head: (B, T) -> (layers, B, H, T, T)."""
        x = self.embed(ids)
        rotary, bias = self.rotary(ids.shape[1]), self.bias(ids.shape[1])
        allowed = None if mask is None else mask[:, None, None, :]
        maps = []
        for block in self.blocks:
            assert isinstance(block, Block)
            maps.append(block.attention.weights(block.attention_input(x, allowed), allowed, rotary, bias))
            x = block(x, allowed, rotary, bias=bias)
        return torch.stack(maps)
