"""LoRA (arXiv 2106.09685): a frozen matrix W learns a correction of low rank beside it, W + (alpha / r) B A.

Letters: N rows, I inputs, O outputs, r rank. A matrix of O x I numbers is trained by r (O + I). Afterwards the
correction is added into W: the model is then as small and as fast as before.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

ALPHA = 16.0  # the correction's size for any rank: its rows are scaled by alpha / r


class LoraLinear(nn.Module):
    """A frozen linear layer and its correction. It starts as the layer alone, since B is zero."""

    def __init__(self, layer: nn.Linear, rank: int, alpha: float = ALPHA):
        super().__init__()
        self.layer, self.scale = layer.requires_grad_(False), alpha / rank
        self.a = nn.Parameter(layer.weight.new_empty(rank, layer.in_features))  # (r, I)
        self.b = nn.Parameter(layer.weight.new_zeros(layer.out_features, rank))  # (O, r)
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))  # as nn.Linear draws its own weights

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., O): W x + (alpha / r) B (A x), never the large product B A."""
        return self.layer(x) + F.linear(F.linear(x, self.a), self.b) * self.scale

    def merged(self) -> nn.Linear:
        """The layer with the correction in its weights: the same output from one matrix."""
        self.layer.weight.data += self.scale * (self.b @ self.a).detach()
        return self.layer


def add_lora(module: nn.Module, rank: int) -> nn.Module:
    """Freeze a module and put a LoraLinear in the place of every linear layer in it; only these learn.

    Raises ValueError for a rank below 1, or when there is no linear layer.
    """
    if rank < 1:
        raise ValueError(f"the rank is {rank}: give at least 1.")
    module.requires_grad_(False)
    found = [
        (parent, name, child)
        for parent in module.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Linear)
    ]
    if not found:
        raise ValueError("there is no linear layer to correct: train all of the model instead.")
    for parent, name, child in found:
        setattr(parent, name, LoraLinear(child, rank))
    return module


def merge_lora(module: nn.Module) -> nn.Module:
    """Turn every LoraLinear back into one linear layer that gives the same output."""
    found = [
        (parent, name, child)
        for parent in module.modules()
        for name, child in parent.named_children()
        if isinstance(child, LoraLinear)
    ]
    for parent, name, child in found:
        setattr(parent, name, child.merged())
    return module
