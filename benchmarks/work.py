"""How many floating-point operations a training step executes: counted, and by a formula.

Letters: B rows, T tokens of a row, K targets of a row, E width, F feed-forward width, V vocabulary. A product of
(m, k) and (k, n) counts 2 m k n; its backward pass is two more of that size. Only products count: norms, activations
and softmaxes are memory traffic, not arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count


@dataclass(frozen=True)
class Size:
    """A model and its batches. `feed_forward` is the gated one's width, 2.75 E; without a gate it is 4 E."""

    name: str
    width: int
    layers: int
    heads: int
    vocabulary: int
    length: int
    rows: int
    mask_rate: float = 0.15

    @property
    def feed_forward(self) -> int:
        """Hidden units of a gated feed-forward part with about the parameters of a plain one of 4 E."""
        return 11 * self.width // 4

    @property
    def targets(self) -> int:
        """Hidden tokens of a full row."""
        return max(1, round(self.length * self.mask_rate))


SIZES = {
    size.name: size
    for size in (
        Size("M", 256, 4, 4, 8192, 128, 32),
        Size("S", 128, 2, 4, 4096, 64, 32),
        Size("wide", 384, 2, 6, 16384, 64, 64),
        Size("deep", 192, 8, 3, 4096, 256, 16),
        Size("5M", 256, 4, 4, 8192, 128, 512),
        Size("17M", 384, 8, 6, 8192, 128, 512),
        Size("34M", 512, 9, 8, 8192, 128, 512),
        Size("quick", 32, 2, 2, 256, 16, 4),
    )
}


@dataclass(frozen=True)
class Way:
    """Which products a model executes: what it leaves out, and what its attention kernel computes twice."""

    gated: bool = True  # three matrices in the feed-forward part instead of two
    sparse_head: bool = True  # logits at the targets only
    sparse_last: bool = True  # the last block at the targets only
    fused: bool = True  # a fused kernel stores no weights: its backward pass makes the scores again


def step_flops(size: Size, way: Way) -> int:
    """Operations of the forward and backward pass of one step on full rows, by the formula."""
    E, T, B = size.width, size.length, size.rows
    feed_forward = 3 * 2 * E * size.feed_forward if way.gated else 2 * 2 * E * 4 * E
    attention = 3.5 if way.fused else 3.0  # times the forward pass

    def block(queries: int) -> float:
        """One row through one block, of which `queries` tokens are computed to the end."""
        keys_values = 2 * 2 * E * E * T
        query_output = 2 * 2 * E * E * queries
        mixing = 2 * 2 * T * queries * E  # scores, and the mixture of the values
        return 3 * (keys_values + query_output + feed_forward * queries) + attention * mixing

    read = size.targets if way.sparse_last else T
    spoken = size.targets if way.sparse_head else T
    head = 3 * (2 * E * E + 2 * E * size.vocabulary) * spoken
    return round(B * ((size.layers - 1) * block(T) + block(read) + head))


def count_flops(work: Callable[[], Any]) -> int:
    """Operations that PyTorch's counter sees in a piece of work; the fused CPU attention, which it lacks, is added."""
    aten = torch.ops.aten
    mapping = {
        aten._scaled_dot_product_flash_attention_for_cpu: _fused_forward,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _fused_backward,
    }
    counter = FlopCounterMode(display=False, custom_mapping=mapping)
    with counter:
        work()
    return counter.get_total_flops()


def count_step(loss: Callable[[], Tensor]) -> int:
    """Operations of one forward and backward pass."""
    return count_flops(lambda: loss().backward())


def _fused_forward(query: Any, key: Any, value: Any, *rest: Any, out_shape: Any = None, **options: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _fused_backward(upstream: Any, query: Any, key: Any, value: Any, *rest: Any, **options: Any) -> int:
    return sdpa_backward_flop_count(upstream, query, key, value)
