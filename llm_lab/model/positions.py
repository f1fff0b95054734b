"""How a model knows the order of its tokens.

Letters: B batch, T tokens, H heads, D head width, E embedding width. Learned and sinusoidal positions are added to the
embeddings; rotary positions turn the queries and keys of every layer; ALiBi lowers the scores of far tokens. Lesson 07
compares them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

ROTARY_BASE = 10_000.0


def sinusoidal_table(length: int, width: int) -> Tensor:
    """Sine and cosine waves of geometrically growing length, (length, width); section 3.5 of arXiv 1706.03762.

    Feature 2i of position p is sin(p / 10000^(2i/width)), feature 2i+1 the cosine of the same angle. `width` is even.
    """
    angle = torch.arange(length)[:, None] / ROTARY_BASE ** (torch.arange(0, width, 2) / width)
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)


class AddedPositions(nn.Module):
    """A vector a position, added to the embeddings: a table that is learned, or the fixed sinusoidal one.

    Both have the size `std` at the start, that of the fresh embeddings: waves of height 1 would be 35 times as large
    as embeddings of 0.02, and drown the words. (The first Transformer enlarged its embeddings by sqrt(E) instead.)
    """

    def __init__(self, kind: str, max_length: int, width: int, std: float):
        super().__init__()
        if kind == "learned":
            self.table = nn.Parameter(torch.zeros(max_length, width))
            nn.init.normal_(self.table, std=std)
        else:
            table = std * 2**0.5 * sinusoidal_table(max_length, width)  # a wave's mean square is 1/2
            self.register_buffer("table", table, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, E) -> (B, T, E)."""
        return x + self.table[: x.shape[1]]


def rotary_table(length: int, head_width: int, base: float = ROTARY_BASE) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotation angles, each (length, D); arXiv 2104.09864, equation 34.

    Feature i of the first half and feature i of the second half form a pair that position p turns by the angle
    p / base^(2i/D): the layout of `transformers`. `head_width` D is even.
    """
    frequency = 1 / base ** (torch.arange(0, head_width, 2) / head_width)  # rounded as `transformers` rounds it
    angle = torch.arange(length)[:, None] * frequency
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos(), angle.sin()


def rotate_loops(x: Tensor, base: float = ROTARY_BASE) -> Tensor:
    """The rotation of `rotate`, pair by pair as the formula is written. (B, H, T, D) -> the same."""
    turned = torch.empty_like(x)
    half = x.shape[-1] // 2
    for position in range(x.shape[2]):
        for i in range(half):
            angle = torch.tensor(position * base ** (-2 * i / x.shape[-1]), dtype=x.dtype)
            a, b = x[:, :, position, i], x[:, :, position, i + half]
            turned[:, :, position, i] = a * angle.cos() - b * angle.sin()
            turned[:, :, position, i + half] = b * angle.cos() + a * angle.sin()
    return turned


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn each pair of features by its position's angle. x (..., D), tables (..., D) that broadcast to it.

    A query at p and a key at q then meet with a dot product that depends on p - q alone. Half a roll brings each
    feature its partner; the minus of the first half is given to the table, which is small.
    """
    first, second = sine.chunk(2, dim=-1)
    partner = x.roll(x.shape[-1] // 2, dims=-1)
    return torch.addcmul(x * cosine, partner, torch.cat((-first, second), dim=-1))


def alibi_slopes(num_heads: int) -> Tensor:
    """2^(-8h/H) for heads h = 1 .. H, (H,): how much each head minds a token of distance; arXiv 2108.12409.

    With 8 heads they are 1/2, 1/4, .. 1/256. (For an H that is no power of 2 the paper's program mixes two such rows.)
    """
    return 2.0 ** (-8 * torch.arange(1, num_heads + 1) / num_heads)


def alibi_loops(num_heads: int, length: int) -> Tensor:
    """What `alibi_bias` holds, number by number as the formula is written. (H, T, T)."""
    bias = torch.empty(num_heads, length, length)
    for h in range(1, num_heads + 1):
        for i in range(length):
            for j in range(length):
                bias[h - 1, i, j] = -(2 ** (-8 * h / num_heads)) * abs(i - j)
    return bias


def alibi_bias(slopes: Tensor, length: int) -> Tensor:
    """-slope |i - j|, added to the score of query i and key j: slopes (H,) -> (H, T, T).

    The paper's models look back alone; |i - j| is its form for a model that looks both ways.
    """
    place = torch.arange(length, device=slopes.device)
    return -slopes[:, None, None] * (place[:, None] - place).abs()
