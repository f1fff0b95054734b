"""Sources that stand alone: what a function uses comes with it, and what can't come is named."""

import math
from functools import partial

import numpy as np
import torch
from torch import nn

from llm_lab.checks.sources import Standalone, source_of
from llm_lab.text.masking import corrupt

SIZE, NAMES, TABLE = 3, ("a", "b"), torch.tensor([1.5, 2.5])
SESSION = object()


def helper(x):
    return math.sqrt(x) + len(NAMES)


def uses_much(x: torch.Tensor, factor=SIZE):
    """A docstring."""
    return helper(factor) * np.sum(TABLE.tolist()) + is_even(2) + corrupt.__code__.co_argcount + x


def is_even(n):
    return n == 0 or is_odd(n - 1)


def is_odd(n):
    return n > 0 and is_even(n - 1)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(TABLE * SIZE)

    def forward(self, x):
        return helper(4) * x + self.weight


def run(value, name):
    """Write a value down, execute the text, and return what the name stands for there."""
    writer = Standalone()
    assert writer.add(value, name) == name
    namespace = {"__name__": "elsewhere"}
    exec("from __future__ import annotations\n" + writer.text(), namespace)
    return namespace[name], writer


def test_a_function_comes_with_all_that_it_uses():
    other, writer = run(_unimportable(uses_much), "uses_much")
    assert other(1.0) == uses_much(1.0) and not writer.lost


def test_a_class_comes_along():
    other, writer = run(_unimportable(Layer), "Layer")
    assert torch.equal(other()(torch.ones(2)), Layer()(torch.ones(2))) and "import torch" in writer.text()


def test_lambdas_and_closures():
    factor = 4
    double = lambda x: x * factor  # noqa: E731
    other, _ = run(double, "double")
    assert other(2) == 8

    def inner(x):
        return x + factor

    assert run(_unimportable(inner), "inner")[0](1) == 5


def test_names_of_a_library_are_imported():
    other, writer = run(corrupt, "mixture")
    assert other is corrupt and writer.text() == "from llm_lab.text.masking import corrupt as mixture"
    assert run(np, "numpy")[1].text() == "import numpy" and run(np, "np")[1].text() == "import numpy as np"


def test_what_can_not_be_kept_is_named():
    def answer(x):
        return x, SESSION

    writer = Standalone()
    assert writer.add(_unimportable(answer), "answer") == "answer" and writer.lost == {"SESSION"}
    assert Standalone().add(partial(print, 1), "answer") is None and Standalone().add(len([]).bit_length, "a") is None
    assert source_of(eval("lambda x: x")) is None and source_of(partial(print)) is None


def _unimportable(value):
    """As if it had been defined in a notebook: no module holds it."""
    value.__module__ = "__main__"
    for part in (helper, is_even, is_odd):
        part.__module__ = "__main__"
    return value
