"""One block of the encoder: look around (attention), then think (feed-forward), each added to the residual stream.

Letters: B batch, T tokens, K chosen positions, E embedding width, F feed-forward width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_lab.config import ModelConfig
from llm_lab.model.attention import MultiHeadAttention, Rotary

INITIAL_STD = 0.02


def draw_weights(encoder: nn.Module, config: ModelConfig) -> None:
    """Normal weights, biases zero.

    What writes into a residual stream that no norm touches (pre-norm) starts smaller by sqrt(2 layers), as in GPT-2.
    """
    for name, parameter in encoder.named_parameters():
        if parameter.ndim == 2:
            writes = config.norm_place == "pre" and name.endswith(("output.weight", "down.weight"))
            nn.init.normal_(parameter, std=INITIAL_STD * ((2 * config.num_layers) ** -0.5 if writes else 1.0))
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)


def require_short(ids: Tensor, max_length: int) -> None:
    """Raise ValueError if the rows of ids (B, T) are longer than a model takes."""
    if ids.shape[1] > max_length:
        raise ValueError(f"a row of {ids.shape[1]} tokens is longer than this model's {max_length}: shorten it.")


def product_format(x: Tensor) -> torch.dtype:
    """The number format in which a linear layer multiplies x: autocast's for fp32 numbers where it is on, else x's."""
    device = x.device.type
    converted = x.dtype == torch.float32 and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if converted else x.dtype


class RMSNorm(nn.RMSNorm):
    """Each token's features divided by the root of their mean square, then scaled; arXiv 1910.07467."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., E) -> the same, in the precision of the weights: PyTorch's kernel is slow, and warns, for two."""
        return super().forward(x.to(self.weight.dtype))


def make_norm(config: ModelConfig) -> nn.LayerNorm | RMSNorm:
    """Each token's features brought to one size, then scaled.

    layer: to mean 0 and variance 1 (arXiv 1607.06450). rms: to a mean square of 1, without a bias in any case.
    """
    if config.norm_kind == "rms":
        return RMSNorm(config.width, eps=config.norm_epsilon)
    return nn.LayerNorm(config.width, eps=config.norm_epsilon, bias=config.biases)


class FeedForward(nn.Module):
    """The Transformer's two matrices with a bend between them, here GELU as in BERT: down(gelu(up(x)))."""

    def __init__(self, width: int, hidden: int, biases: bool = False):
        super().__init__()
        self.up = nn.Linear(width, hidden, bias=biases)
        self.down = nn.Linear(hidden, width, bias=biases)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, E) -> (B, T, E), each token by itself."""
        return self.down(F.gelu(self.up(x)))


class GatedFeedForward(nn.Module):
    """GeGLU: one projection decides, through GELU, how much of the other passes; arXiv 2002.05202."""

    def __init__(self, width: int, hidden: int, biases: bool = False):
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=biases)
        self.up = nn.Linear(width, hidden, bias=biases)
        self.down = nn.Linear(hidden, width, bias=biases)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, E) -> (B, T, E), each token by itself."""
        x = x.to(product_format(x))  # once for both
        return self.down(F.gelu(self.gate(x)) * self.up(x))


def make_feed_forward(config: ModelConfig) -> FeedForward | GatedFeedForward:
    """The feed-forward part that the config names."""
    kind = GatedFeedForward if config.feed_forward == "geglu" else FeedForward
    return kind(config.width, config.feed_forward_width, config.biases)


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
    """Pre-norm: x + attention(norm(x)), then x + feed_forward(norm(x)); arXiv 2002.04745.

    Post-norm, as in the first Transformer and in BERT: norm(x + attention(x)), then norm(x + feed_forward(x)).
    The first pre-norm block of an encoder takes its input already normalised, so its own first norm is the identity.
    """

    def __init__(self, config: ModelConfig, first: bool = False):
        super().__init__()
        self.post_norm = config.norm_place == "post"
        self.attention_norm = nn.Identity() if first and not self.post_norm else make_norm(config)
        self.convolution = ShortConvolution(config.width, config.convolution) if config.convolution else None
        self.attention = MultiHeadAttention(config.width, config.num_heads, config.biases)
        self.feed_forward_norm = make_norm(config)
        self.feed_forward = make_feed_forward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        rotary: Rotary | None = None,
        positions: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """(B, T, E) -> (B, T, E); with `positions` (B, K) only these are computed, (B, K, E), to the same values.

        `mask` broadcasts to (B, H, T, T); `rotary` are tables (T, D); `bias` (H, T, T) is added to the scores.
        """
        source = self.attention_input(x, mask)
        if positions is None:
            attended = self.attention(source, source, mask, rotary, bias=bias)
        else:
            x, query = gather_positions(x, positions), gather_positions(source, positions)
            rows = None if bias is None else bias[:, positions].transpose(0, 1)  # (H, T, T) -> (B, H, K, T)
            attended = self.attention(query, source, mask, rotary, _at(positions, rotary), rows)
        if self.post_norm:
            x = self.attention_norm(x + self.dropout(attended))
            return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        x = x + self.dropout(attended)
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))

    def attention_input(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """What the attention reads of the residual stream, (B, T, E) -> (B, T, E)."""
        x = x if self.post_norm else self.attention_norm(x)
        x = x if self.convolution is None else self.convolution(x, mask)
        return x.to(product_format(x))  # once for queries, keys and values


def _at(positions: Tensor, rotary: Rotary | None) -> Rotary | None:
    """The rotary tables of chosen positions: (T, D) -> (B, K, D)."""
    return None if rotary is None else (rotary[0][positions], rotary[1][positions])
