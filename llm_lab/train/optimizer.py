"""AdamW for every parameter, or Muon for the hidden matrices and AdamW for the rest.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon; scaled as in arXiv 2502.16982) takes the momentum of a
matrix and moves along the nearest orthogonal matrix: all its directions get the same step, the rare ones too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

ADAM_BETAS = (0.9, 0.98)
ADAM_EPSILON = 1e-8
MUON_MOMENTUM = 0.95
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # steep at zero: five rounds lift every singular value to about 1
NEWTON_SCHULZ_ROUNDS = 5


def orthogonalize(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The orthogonal factor of each matrix (U V^T of its SVD), nearly: singular values that are not tiny end near 1.

    `matrices` is (..., m, n) with m <= n. Five rounds of the Newton-Schulz iteration X <- a X + (b A + c A^2) X with
    A = X X^T, computed in `dtype`. `baddbmm` adds and multiplies in one call: a fifth less time on a CPU.
    """
    a, b, c = NEWTON_SCHULZ
    x = matrices.to(dtype).reshape(-1, *matrices.shape[-2:])
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(NEWTON_SCHULZ_ROUNDS):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.to(matrices.dtype).view_as(matrices)


class Muon(torch.optim.Optimizer):
    """Muon for matrices, with `torch.optim.Muon`'s rule (`match_rms_adamw`); the iteration runs in `dtype`.

    PyTorch's always runs in bf16, which is many times slower than fp32 on a CPU without bf16 instructions.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = MUON_MOMENTUM,
        dtype: torch.dtype = torch.float32,
    ):
        parameters = list(parameters)
        if any(parameter.ndim != 2 for parameter in parameters):
            raise ValueError("Muon moves matrices only: give the other parameters to AdamW.")
        self.dtype = dtype
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move every matrix that has a gradient. Matrices of one shape are made orthogonal together."""
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            for shape in sorted({_wide(parameter).shape for parameter in moved}):
                alike = [parameter for parameter in moved if _wide(parameter).shape == shape]
                self._move(alike, group["lr"], group["weight_decay"], group["momentum"])

    def _move(self, parameters: list[Tensor], lr: float, weight_decay: float, momentum: float) -> None:
        ahead = []
        for parameter in parameters:
            gradient, state = parameter.grad, self.state[parameter]
            assert gradient is not None
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            average = state["momentum"].lerp_(gradient, 1 - momentum)
            ahead.append(_wide(gradient.lerp(average, momentum)))  # Nesterov: look one step ahead
        directions = orthogonalize(torch.stack(ahead), self.dtype)
        scale = 0.2 * max(directions.shape[1:]) ** 0.5  # as large as AdamW's updates: one learning rate serves both
        for parameter, direction in zip(parameters, directions, strict=True):
            _wide(parameter.mul_(1 - lr * weight_decay)).add_(direction, alpha=-lr * scale)


def _wide(matrix: Tensor) -> Tensor:
    """The matrix, lying: transposed (a view) if it has more rows than columns."""
    return matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix


class Optimizers:
    """Several optimizers behind the interface of one."""

    def __init__(self, members: list[torch.optim.Optimizer]):
        self.members = members
        self.peaks = [[group["lr"] for group in member.param_groups] for member in members]

    def __iter__(self) -> Iterator[torch.optim.Optimizer]:
        return iter(self.members)

    def set_factor(self, factor: float) -> None:
        """Set every learning rate to `factor` times its peak."""
        for member, peaks in zip(self.members, self.peaks, strict=True):
            for group, peak in zip(member.param_groups, peaks, strict=True):
                group["lr"] = peak * factor

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for member in self.members:
            member.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        """The state of each member, in order."""
        return [member.state_dict() for member in self.members]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Take up the states that `state_dict` gave."""
        for member, state in zip(self.members, states, strict=True):
            member.load_state_dict(state)


def build_optimizers(
    model: nn.Module, kind: str, learning_rate: float, weight_decay: float, muon_dtype: torch.dtype = torch.float32
) -> Optimizers:
    """`muon` or `adamw` for a model's parameters.

    Hidden matrices are the 2-D weights of linear layers. Embeddings, norms and biases go to AdamW in both cases;
    norms and biases are never decayed.
    """
    hidden = {id(layer.weight) for layer in model.modules() if isinstance(layer, nn.Linear)}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [p for p in trained if p.ndim == 2 and id(p) in hidden]
    others = [p for p in trained if p.ndim >= 2 and id(p) not in hidden]
    vectors = [p for p in trained if p.ndim < 2]
    groups = [{"params": others, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    if kind == "adamw":
        groups[0]["params"] = matrices + others
    groups = [group for group in groups if group["params"]]
    members: list[torch.optim.Optimizer] = []
    if groups:
        members.append(torch.optim.AdamW(groups, lr=learning_rate, betas=ADAM_BETAS, eps=ADAM_EPSILON, fused=True))
    if kind == "muon" and matrices:
        members.append(Muon(matrices, lr=learning_rate, weight_decay=weight_decay, dtype=muon_dtype))
    return Optimizers(members)
