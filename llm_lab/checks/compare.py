"""Is what came out what should come out? If not: the first way in which it differs, and where.

Style is free: a tuple may be a list or a named tuple, a number may be a 0-dimensional tensor or NumPy's. A tensor must
be a tensor of the same shape, dtype and device, with the same values up to rounding.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

# relative and absolute tolerance: another order of summation may cost a few of the last digits
ROUNDING = {torch.float64: (1e-8, 1e-9), torch.float32: (1e-4, 1e-5)}
COARSE = (2e-2, 2e-2)  # half precision


@dataclass(frozen=True)
class Difference:
    """One difference: its kind (`type`, `shape`, `dtype`, `device` or `values`), in words, and the two values."""

    kind: str
    words: str
    expected: Any
    got: Any
    numbers_agree: bool = False  # only the form differs


def difference(
    expected: Any, got: Any, tolerance: float | None = None, where: str = "", form: bool = True
) -> Difference | None:
    """The first difference between two values, or None. `tolerance` is absolute and replaces the usual rounding.

    With `form=False` the same numbers in another shape, dtype or type make no difference.
    """
    found = _difference(expected, got, tolerance, where, form)
    return found if form or found is None or not found.numbers_agree else None


def _difference(expected: Any, got: Any, tolerance: float | None, where: str, form: bool) -> Difference | None:
    if isinstance(expected, Tensor) or isinstance(expected, np.ndarray):
        return _of_arrays(expected, got, tolerance, where)
    if isinstance(expected, Mapping):
        return _of_mappings(expected, got, tolerance, where, form)
    if isinstance(expected, Sequence) and not isinstance(expected, str):
        return _of_sequences(expected, got, tolerance, where, form)
    if not isinstance(expected, bool) and isinstance(expected, numbers.Number):
        return _of_numbers(expected, got, tolerance, where)
    if isinstance(expected, bool) and isinstance(got, np.bool_ | Tensor) and _numel(got) == 1:
        got = bool(got)
    if isinstance(expected, bool | str | type(None)) and type(expected) is not type(got):
        return Difference("type", f"{where}expected {show(expected)}, got {kind_of(got)}", expected, got)
    if expected == got:
        return None
    return Difference("values", f"{where}expected {show(expected)}, got {show(got)}", expected, got)


def _of_arrays(expected: Any, got: Any, tolerance: float | None, where: str) -> Difference | None:
    def differs(kind: str, words: str) -> Difference:
        return Difference(kind, where + words, expected, got, kind != "values" and numbers_agree(expected, got))

    if isinstance(expected, Tensor) != isinstance(got, Tensor) or isinstance(expected, np.ndarray) != isinstance(
        got, np.ndarray
    ):
        return differs("type", f"expected {kind_of(expected)}, got {kind_of(got)}")
    if isinstance(expected, Tensor) and expected.device != got.device:
        return differs("device", f"expected a tensor on {expected.device}, got one on {got.device}")
    if tuple(expected.shape) != tuple(got.shape):
        turned = ": the last two axes are exchanged" if transposed(expected, got) else ""
        return differs("shape", f"expected the shape {tuple(expected.shape)}, got {tuple(got.shape)}{turned}")
    if expected.dtype != got.dtype:
        return differs("dtype", f"expected {name_of(expected.dtype)}, got {name_of(got.dtype)}")
    apart = ~_close(torch.as_tensor(expected), torch.as_tensor(got), tolerance)
    if not apart.any():
        return None
    return differs("values", _values_in_words(torch.as_tensor(expected), torch.as_tensor(got), apart))


def _values_in_words(expected: Tensor, got: Tensor, apart: Tensor) -> str:
    if expected.numel() <= 12:
        return f"expected {show(expected)}, got {show(got)}"
    place = tuple(apart.nonzero()[0].tolist())
    count = f"{int(apart.sum()):,} of {apart.numel():,} places differ"
    return f"at {list(place)}: expected {show(expected[place].item())}, got {show(got[place].item())} ({count})"


def _close(expected: Tensor, got: Tensor, tolerance: float | None) -> Tensor:
    """True where two tensors agree up to rounding; NaN agrees with NaN."""
    if not expected.dtype.is_floating_point and not expected.dtype.is_complex:
        return expected == got
    relative, absolute = ROUNDING.get(expected.dtype, COARSE) if tolerance is None else (0.0, tolerance)
    return torch.isclose(expected.detach(), got.detach(), relative, absolute, equal_nan=True)


def _of_sequences(expected: Any, got: Any, tolerance: float | None, where: str, form: bool) -> Difference | None:
    if isinstance(got, Tensor | np.ndarray | str) or not isinstance(got, Sequence):
        what = f"{where}expected {len(expected)} values in a {_plain(expected)}, got {kind_of(got)}"
        return Difference("type", what, expected, got, numbers_agree(expected, got))
    if len(expected) != len(got):
        what = f"{where}expected {len(expected)} values, got {len(got)}"
        return Difference("shape", f"{what}: {show(got)}", expected, got)
    for number, (one, other) in enumerate(zip(expected, got, strict=True)):
        found = difference(one, other, tolerance, f"{where}value {number}: ", form)
        if found:
            return found
    return None


def _of_mappings(expected: Any, got: Any, tolerance: float | None, where: str, form: bool) -> Difference | None:
    if not isinstance(got, Mapping):
        return Difference("type", f"{where}expected a dictionary, got {kind_of(got)}", expected, got)
    for key in expected:
        if expected[key] is True and got.get(key) is False:  # a property, whose key says in words what must hold
            return Difference("values", f'{where}this does not hold: "{key}"', expected, got)
        found = difference(expected[key], got[key], tolerance, f"{where}{key}: ", form) if key in got else None
        if found:
            return found
    if set(expected) == set(got):
        return None
    what = f"{where}expected the keys {show(sorted(map(str, expected)))}, got {show(sorted(map(str, got)))}"
    return Difference("shape", what, expected, got)


def _of_numbers(expected: Any, got: Any, tolerance: float | None, where: str) -> Difference | None:
    number = as_number(got)
    if number is None:
        return Difference("type", f"{where}expected a number, got {kind_of(got)}", expected, got)
    relative, absolute = (1e-5, 1e-7) if tolerance is None else (0.0, tolerance)
    both_nan = isinstance(expected, float) and math.isnan(expected) and math.isnan(number)
    if both_nan or math.isclose(expected, number, rel_tol=relative, abs_tol=absolute):
        return None
    return Difference("values", f"{where}expected {show(expected)}, got {show(number)}", expected, got)


def as_number(value: Any) -> float | None:
    """A number in any form (Python's, NumPy's, a tensor with one element) as Python's; None for anything else."""
    if isinstance(value, bool | np.bool_):
        return None
    if isinstance(value, numbers.Real):
        return value  # type: ignore[return-value]
    if isinstance(value, Tensor | np.ndarray | np.generic) and _numel(value) == 1:
        only = value.item()
        return only if isinstance(only, int | float) and not isinstance(only, bool) else None
    return None


def numbers_agree(expected: Any, got: Any) -> bool:
    """Tell whether the numbers are the same in reading order, whatever their form."""
    one, other = _as_numbers(expected), _as_numbers(got)
    if one is None or other is None or one.numel() != other.numel() or one.numel() == 0:
        return False
    return torch.allclose(one.flatten(), other.flatten(), 1e-4, 1e-5, equal_nan=True)


def transposed(expected: Any, got: Any) -> bool:
    """Tell whether the last two axes are exchanged, and nothing else."""
    one, other = _as_numbers(expected), _as_numbers(got)
    if one is None or other is None or one.ndim < 2 or one.shape[-1] == one.shape[-2]:
        return False
    return one.transpose(-1, -2).shape == other.shape and numbers_agree(one.transpose(-1, -2), other)


def _as_numbers(value: Any) -> Tensor | None:
    try:
        return torch.as_tensor(np.asarray(_host(value))).double()
    except (TypeError, ValueError, RuntimeError, NotImplementedError):
        return None


def _host(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy()
    return [_host(part) for part in value] if isinstance(value, list | tuple) else value


def _numel(value: Any) -> int:
    return value.numel() if isinstance(value, Tensor) else int(np.size(value))


def name_of(dtype: Any) -> str:
    """The name of a dtype, without the library's.

    >>> name_of(torch.float32)
    'float32'
    """
    return str(dtype).removeprefix("torch.")


def _plain(value: Any) -> str:
    return "tuple" if isinstance(value, tuple) else type(value).__name__


def kind_of(value: Any) -> str:
    """What a value is, in words: "a tensor of int64 with shape (2, 3)"."""
    if isinstance(value, Tensor | np.ndarray):
        kind = "a tensor" if isinstance(value, Tensor) else "a NumPy array"
        return f"{kind} of {name_of(value.dtype)} with shape {tuple(value.shape)}"
    if value is None:
        return "None"
    if callable(value):
        return "a function"
    simple = isinstance(value, bool | int | float | str)
    return f"{show(value)} ({type(value).__name__})" if simple else f"a value of type {type(value).__name__}"


def show(value: Any, limit: int = 160) -> str:
    """A value as a reader would write it, cut to `limit` letters; large tensors by their shape."""
    if isinstance(value, Tensor | np.ndarray):
        if _numel(value) > 40 or (isinstance(value, Tensor) and value.device.type == "meta"):
            return kind_of(value)
        return _cut(_digits(value.tolist()), limit) + ("" if _numel(value) else f" with shape {tuple(value.shape)}")
    if isinstance(value, torch.Generator):
        return "a generator"
    if isinstance(value, str) and " " in value:  # a description, from a probe
        return value
    return _cut(_digits(value), limit)


def _digits(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e6 else repr(value)
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        inside = ", ".join(_digits(part) if not isinstance(part, Tensor) else show(part) for part in value)
        return f"[{inside}]" if isinstance(value, list) else f"({inside}{',' if len(value) == 1 else ''})"
    return repr(value)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 4] + " ..."
