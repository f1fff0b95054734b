"""A drawn difference: the tensor that was expected, the one that came, and where they differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from llm_lab.checks.compare import Difference
from llm_lab.checks.guard import in_kernel

SMALLEST, LARGEST = 8, 4096  # numbers; fewer are read faster than seen


def can_draw(found: Difference) -> bool:
    """Tell whether a difference is one of two tensors, of one shape and a size worth a picture."""
    one, other = _numbers(found.expected), _numbers(found.got)
    return one is not None and other is not None and one.shape == other.shape and SMALLEST <= one.size <= LARGEST


def show_difference(found: Difference | None) -> bool:
    """Draw a difference of tensors in a notebook; do nothing elsewhere. Returns whether something was drawn."""
    if found is None or not can_draw(found) or not in_kernel():
        return False
    import matplotlib.pyplot as plt

    figure = draw_difference(found)
    plt.show()
    plt.close(figure)
    return True


def draw_difference(found: Difference) -> Any:
    """Three panels: expected, yours, and the difference. Only for a difference that can be drawn."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    one, other = _numbers(found.expected), _numbers(found.got)
    assert one is not None and other is not None  # can_draw says so

    one, other = _plane(one, one != other), _plane(other, one != other)
    apart = np.where(one == other, 0.0, other - one)
    bound = max(float(np.abs(np.nan_to_num(values)).max()) for values in (one, other)) or 1.0
    figure, panels = plt.subplots(1, 3, figsize=(8, 1.2 + 1.8 * min(1.2, one.shape[0] / one.shape[1])))
    for axes, values, title in zip(panels, (one, other, apart), ("expected", "yours", "yours - expected"), strict=True):
        limit = bound if values is not apart else float(np.abs(np.nan_to_num(apart)).max()) or 1.0
        axes.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
        axes.set_title(title)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(False)
    return figure


def _numbers(value: Any) -> np.ndarray | None:
    if not isinstance(value, torch.Tensor | np.ndarray) or getattr(value, "is_meta", False):
        return None
    values = torch.as_tensor(value).detach().cpu()
    return None if values.is_complex() else values.double().numpy()


def _plane(values: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """A tensor as rows and columns: of more than two axes, the first pair of them in which something differs."""
    if values.ndim < 2:
        return values.reshape(1, -1)
    planes, marks = values.reshape(-1, *values.shape[-2:]), apart.reshape(-1, *values.shape[-2:])
    return planes[int(np.argmax(marks.any(axis=(1, 2))))]
