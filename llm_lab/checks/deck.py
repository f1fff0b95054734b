"""The inputs on which every answer is tried, declared once: sizes away from the defaults, T = 1, odd heads, float32 and
float64, tensors that are not contiguous. An exercise only says how one input is made from a `Draw`.

Letters: B rows, T tokens, S source tokens, H heads, D head width, E = H D, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

Option = TypeVar("Option")


@dataclass(frozen=True)
class Size:
    """How large the tensors of one input are."""

    B: int
    T: int
    S: int
    H: int
    D: int
    V: int


SIZES = (
    Size(1, 1, 1, 1, 2, 9),
    Size(1, 3, 2, 1, 4, 10),
    Size(2, 4, 3, 3, 2, 12),
    Size(3, 7, 5, 2, 6, 17),
    Size(2, 12, 9, 5, 4, 30),
    Size(4, 16, 16, 3, 8, 50),
)
FORMS = ((torch.float32, False), (torch.float64, False), (torch.float32, True), (torch.float64, True))
FRESH = 1_000_000  # seeds from here on are never used by a check


class Draw:
    """The chance and the sizes of one input. Everything that it makes is a function of its seed."""

    def __init__(self, seed: int, size: Size, dtype: torch.dtype = torch.float32, strided: bool = False):
        self.seed, self.size, self.dtype, self.strided = seed, size, dtype, strided
        self.B, self.T, self.S, self.H, self.D, self.V = size.B, size.T, size.S, size.H, size.D, size.V
        self.E = size.H * size.D
        self.chance = torch.Generator().manual_seed(seed)

    def _form(self, x: Tensor) -> Tensor:
        """The same numbers, in memory in another order when this input is one of those that are not contiguous."""
        if not self.strided or x.ndim == 0:
            return x
        if x.ndim == 1:
            return x.repeat_interleave(2)[::2]
        return x.transpose(0, -1).contiguous().transpose(0, -1)

    def normal(self, *shape: int) -> Tensor:
        """Normal numbers of this input's dtype."""
        return self._form(torch.randn(*shape, generator=self.chance, dtype=torch.float64).to(self.dtype))

    def uniform(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1) of this input's dtype."""
        drawn = torch.rand(*shape, generator=self.chance, dtype=torch.float32)
        return self._form(drawn.to(self.dtype))

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Whole numbers from `low` up to, not including, `high`."""
        return self._form(torch.randint(low, high, shape, generator=self.chance))

    def flags(self, *shape: int, share: float = 0.5) -> Tensor:
        """True with the given probability."""
        return self._form(torch.rand(*shape, generator=self.chance) < share)

    def tokens(self, *shape: int, special_ids: Sequence[int] = (), share: float = 0.2) -> Tensor:
        """Token ids below V; with the given probability one of the special ones, which occur nowhere else."""
        words = torch.tensor([i for i in range(self.V) if i not in special_ids])
        ids = words[torch.randint(len(words), shape, generator=self.chance)]
        if special_ids:
            special = torch.tensor(tuple(special_ids))[torch.randint(len(special_ids), shape, generator=self.chance)]
            ids = torch.where(torch.rand(*shape, generator=self.chance) < share, special, ids)
        return self._form(ids)

    def choice(self, *options: Option) -> Option:
        """One of the options."""
        return options[int(torch.randint(len(options), (), generator=self.chance))]

    def generator(self) -> torch.Generator:
        """A generator to hand to the answer, with a seed of its own."""
        return torch.Generator().manual_seed(int(torch.randint(2**31, (), generator=self.chance)))


Maker = Callable[[Draw], tuple[Any, ...]]


@dataclass(frozen=True)
class Case:
    """One input: made anew by each call of `arguments`, so that nobody can spoil it for the next."""

    maker: Maker
    seed: int
    size: Size
    dtype: torch.dtype = torch.float32
    strided: bool = False

    def arguments(self) -> tuple[Any, ...]:
        """The arguments for the answer."""
        return self.maker(Draw(self.seed, self.size, self.dtype, self.strided))


def deck(maker: Maker, more: Sequence[Maker] = ()) -> list[Case]:
    """All cases of an exercise: every size in every form, and each special input once."""
    forms = [(size, *form) for size in SIZES for form in FORMS]
    cases = [Case(maker, seed, size, dtype, strided) for seed, (size, dtype, strided) in enumerate(forms)]
    return cases + [Case(special, 100 + number, SIZES[2]) for number, special in enumerate(more)]


def in_common(cases: Sequence[Case]) -> str:
    """What is unusual about all of some inputs: nothing when a usual one is among them."""
    marks = ["float64"] if all(case.dtype == torch.float64 for case in cases) else []
    marks += ["tensors that are not contiguous"] if all(case.strided for case in cases) else []
    return ", ".join([*marks, *(["T = 1"] if all(case.size.T == 1 for case in cases) else [])])


def fresh_cases(maker: Maker, more: Sequence[Maker] = (), count: int = 200) -> list[Case]:
    """Inputs that no check uses: random sizes and forms, every tenth made by one of the special makers."""
    cases = []
    for seed in range(FRESH, FRESH + count):
        chance = torch.Generator().manual_seed(seed)
        b, t, s, h, d, v = (int(torch.randint(1, top, (), generator=chance)) for top in (6, 18, 18, 6, 6, 40))
        special = bool(more) and seed % 10 == 0
        dtype, strided = FORMS[seed % len(FORMS)]
        chosen = more[seed // 10 % len(more)] if special else maker
        cases.append(Case(chosen, seed, Size(b, t, s, h, 2 * d, 8 + v), dtype, strided))
    return cases
