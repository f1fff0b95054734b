"""Attention: every token looks at every other and takes what it needs.

Letters: B batch, H heads, T query tokens, S source tokens (keys and values), D head width, E embedding width.
Masks are True where a query *may* attend; a bias is added to the scores; both broadcast to (B, H, T, S). A query that
may attend to nothing yields zeros. The ladder: `attention_loops` (the formula, number by number), `attention_batched`
(matrices, and the weights to look at), `attention_fused` (PyTorch's kernel). All three give the same output;
`attention` picks the fastest.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_lab.model.positions import rotate

Rotary = tuple[Tensor, Tensor]  # cosines and sines, each (T, D), or (B, T, D) if rows have positions of their own
SHORT_ROW = 256  # tokens; up to here plain matrix products beat the fused kernel on a CPU in bf16


def attention_loops(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """softmax(q k / sqrt(D) + bias) v, one query at a time; arXiv 1706.03762. (B, H, T, D) -> (B, H, T, D)."""
    batch, heads, num_queries, width = query.shape
    num_sources = key.shape[2]
    shape = (batch, heads, num_queries, num_sources)
    mask = torch.ones(shape, dtype=torch.bool) if mask is None else mask.expand(shape)
    bias = torch.zeros(shape, dtype=query.dtype) if bias is None else bias.expand(shape)
    output = torch.zeros(batch, heads, num_queries, value.shape[-1], dtype=query.dtype)
    for b in range(batch):
        for h in range(heads):
            for t in range(num_queries):
                allowed = [s for s in range(num_sources) if mask[b, h, t, s]]
                scores = [query[b, h, t] @ key[b, h, s] / math.sqrt(width) + bias[b, h, t, s] for s in allowed]
                total = sum(score.exp() for score in scores)
                for s, score in zip(allowed, scores, strict=True):
                    output[b, h, t] += score.exp() / total * value[b, h, s]
    return output


def attention_weights(query: Tensor, key: Tensor, mask: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """How much a query takes from each source, (B, H, T, S); a row sums to 1, or to 0 if it may attend to nothing."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)  # (B, H, T, S)
    if bias is not None:
        scores = scores + bias
    if mask is None:
        return scores.softmax(dim=-1)
    # The most negative finite number, not -inf: a row without any source stays finite, and so does its gradient.
    weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1)
    return weights.masked_fill(~mask, 0.0)


def attention_batched(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """The same for all queries at once, as matrix products. (B, H, T, D) -> (B, H, T, D)."""
    return attention_weights(query, key, mask, bias) @ value


def attention_fused(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """The same in one kernel that never stores the weights. (B, H, T, D) -> (B, H, T, D)."""
    if bias is not None:
        bias = bias[(None,) * (4 - bias.dim())]  # a third faster on a CPU than with fewer dimensions
    if mask is None:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    mask = torch.atleast_2d(mask)  # the kernel wants a row for the queries, even if one serves all
    empty = ~mask.any(dim=-1, keepdim=True)
    allowed = mask | empty
    if bias is not None:
        allowed = torch.where(allowed, bias, float("-inf"))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=allowed).masked_fill(empty, 0.0)


def attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """The fastest of the ladder for this input: the fused kernel, but plain products for short bf16 rows on a CPU."""
    short = query.device.type == "cpu" and query.dtype == torch.bfloat16 and key.shape[2] <= SHORT_ROW
    return (attention_batched if short else attention_fused)(query, key, value, mask, bias)


class MultiHeadAttention(nn.Module):
    """H attentions side by side, each with its own view of the tokens."""

    def __init__(self, width: int, num_heads: int, biases: bool = False):
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width, bias=biases)
        self.key = nn.Linear(width, width, bias=biases)
        self.value = nn.Linear(width, width, bias=biases)
        self.output = nn.Linear(width, width, bias=biases)

    def _heads(self, x: Tensor, rotary: Rotary | None = None) -> Tensor:
        """(B, T, E) -> (B, H, T, D), turned by the rotary tables if there are any."""
        x = x.unflatten(-1, (self.num_heads, -1))  # (B, T, H, D)
        if rotary is not None:
            # A copy of the small tables for each head: then they lie in memory as x does, and rotating runs through
            # both without a jump, in half the time on a CPU.
            tables = (table.to(x.dtype)[..., None, :].repeat_interleave(self.num_heads, dim=-2) for table in rotary)
            x = rotate(x, *tables)
        return x.transpose(1, 2)

    def _queries_and_keys(
        self, x: Tensor, source: Tensor, rotary: Rotary | None, query_rotary: Rotary | None
    ) -> tuple[Tensor, Tensor]:
        return self._heads(self.query(x), query_rotary or rotary), self._heads(self.key(source), rotary)

    def forward(
        self,
        x: Tensor,
        source: Tensor,
        mask: Tensor | None = None,
        rotary: Rotary | None = None,
        query_rotary: Rotary | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """Queries from x (B, T, E), keys and values from source (B, S, E) -> (B, T, E).

        `rotary` are the sources' tables; `query_rotary` the queries', where they differ. `bias` is added to the scores.
        """
        query, key = self._queries_and_keys(x, source, rotary, query_rotary)
        mixed = attention(query, key, self._heads(self.value(source)), mask, bias)
        return self.output(mixed.transpose(1, 2).flatten(2))

    def weights(
        self, x: Tensor, mask: Tensor | None = None, rotary: Rotary | None = None, bias: Tensor | None = None
    ) -> Tensor:
        """The attention maps of x (B, T, E) on itself, (B, H, T, T)."""
        query, key = self._queries_and_keys(x, x, rotary, None)
        return attention_weights(query, key, mask, bias)
