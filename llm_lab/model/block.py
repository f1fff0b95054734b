"""One block of the encoder: look around (attention), then think (feed-forward), each added to the residual stream.

Letters: B batch, T tokens, K chosen positions, E embedding width, F feed-forward width.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from llm_lab.config import ModelConfig
from llm_lab.model.attention import MultiHeadAttention, Rotary

INITIAL_STD = 0.02


def draw_weights(encoder: nn.Module, num_layers: int) -> None:
    """Normal weights; what writes into the residual stream starts smaller by sqrt(2 layers), as in GPT-2."""
    for name, parameter in encoder.named_parameters():
        if parameter.ndim == 2:
            writes = name.endswith(("output.weight", "down.weight"))
            nn.init.normal_(parameter, std=INITIAL_STD * ((2 * num_layers) ** -0.5 if writes else 1.0))


def require_short(ids: Tensor, max_length: int) -> None:
    """Raise ValueError if the rows of ids (B, T) are longer than a model takes."""
    if ids.shape[1] > max_length:
        raise ValueError(f"a row of {ids.shape[1]} tokens is longer than this model's {max_length}: shorten it.")


def layer_norm(width: int) -> nn.LayerNorm:
    """Each token's features brought to mean 0 and variance 1, then scaled. No bias, as in ModernBERT."""
    return nn.LayerNorm(width, eps=1e-5, bias=False)


class FeedForward(nn.Module):
    """GeGLU: one projection decides, through GELU, how much of the other passes; arXiv 2002.05202."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, E) -> (B, T, E), each token by itself."""
        return self.down(F.gelu(self.gate(x)) * self.up(x))


def gather_positions(x: Tensor, positions: Tensor) -> Tensor:
    """x (B, T, E), positions (B, K) -> the vectors at these positions, (B, K, E)."""
    return x.gather(1, positions[..., None].expand(-1, -1, x.shape[-1]))


class ShortConvolution(nn.Module):
    """Each token takes a share of its neighbours, feature by feature: x[t] + sum over d of w[d] * x[t + d].

    A depthwise convolution, as in Primer (arXiv 2109.08668), but before the projections. It starts as the identity.
    """

    def __init__(self, width: int, words: int):
        super().__init__()
        self.neighbours = nn.Conv1d(width, width, words, padding=words // 2, groups=width, bias=False)
        nn.init.zeros_(self.neighbours.weight)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, E) -> (B, T, E). Padding, where mask (B, 1, 1, T) is False, gives nothing."""
        real = x if mask is None else x * mask[:, 0, 0, :, None]
        return x + self.neighbours(real.transpose(1, 2)).transpose(1, 2)


class Block(nn.Module):
    """A pre-norm block: x + attention(norm(x)), then x + feed_forward(norm(x)); arXiv 2002.04745.

    The first block of an encoder takes its input already normalised, so its own first norm is the identity.
    """

    def __init__(self, config: ModelConfig, first: bool = False):
        super().__init__()
        self.attention_norm = nn.Identity() if first else layer_norm(config.width)
        self.convolution = ShortConvolution(config.width, config.convolution) if config.convolution else None
        self.attention = MultiHeadAttention(config.width, config.num_heads)
        self.feed_forward_norm = layer_norm(config.width)
        self.feed_forward = FeedForward(config.width, config.feed_forward_width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        rotary: Rotary | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """(B, T, E) -> (B, T, E); with `positions` (B, K) only these are computed, (B, K, E), to the same values."""
        source = self.attention_input(x, mask)
        if positions is None:
            attended = self.attention(source, source, mask, rotary)
        else:
            x, query = gather_positions(x, positions), gather_positions(source, positions)
            attended = self.attention(query, source, mask, rotary, _at(positions, rotary))
        x = x + self.dropout(attended)
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))

    def attention_input(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """What the attention reads of the residual stream, (B, T, E) -> (B, T, E)."""
        x = self.attention_norm(x)
        return x if self.convolution is None else self.convolution(x, mask)


def _at(positions: Tensor, rotary: Rotary | None) -> Rotary | None:
    """The rotary tables of chosen positions: (T, D) -> (B, 1, K, D)."""
    return None if rotary is None else (rotary[0][positions][:, None], rotary[1][positions][:, None])
