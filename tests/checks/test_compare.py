"""Comparison: what agrees although it looks different, and the kind and place of each difference."""

from typing import NamedTuple

import numpy as np
import pytest
import torch

from llm_lab.checks.compare import as_number, difference, kind_of, numbers_agree, show, transposed


class Pair(NamedTuple):
    inputs: object
    labels: object


NAN = float("nan")
ROW = torch.tensor([1.0, 2.0])
AGREE = [
    (1.0, 1), (2, torch.tensor(2)), (2.0, np.float32(2)), (True, torch.tensor(True)), (True, np.bool_(True)),
    ((1, 2), [1, 2]), ([ROW, 3], Pair(ROW, 3)), (ROW, ROW + 1e-6), (ROW.double(), ROW.double() + 1e-10),
    (torch.tensor([NAN, float("inf")]), torch.tensor([NAN, float("inf")])), (NAN, NAN),
    ({"a": ROW}, {"a": ROW}), (np.arange(3), np.arange(3)), ("text", "text"), (None, None),
]  # fmt: skip
DIFFER = [
    (ROW, [1.0, 2.0], "type", True), (ROW, ROW.numpy(), "type", True), (ROW, None, "type", False),
    (ROW, ROW[None], "shape", True), (torch.ones(2, 3), torch.ones(3, 2), "shape", True),
    (ROW, ROW[:1], "shape", False),
    (ROW, ROW.double(), "dtype", True), (ROW, ROW.long(), "dtype", True), (ROW, ROW.to("meta"), "device", False),
    (ROW, ROW + 1e-3, "values", False), (ROW.double(), ROW.double() + 1e-6, "values", False),
    ((ROW, ROW), ROW, "type", False), ((1, 2), (1, 2, 3), "shape", False), ((1, 2), (1, 3), "values", False),
    (1.0, True, "type", False), (1.0, "1", "type", False), (1.0, 1.1, "values", False), (True, 1, "type", False),
    ({"a": 1}, {"b": 1}, "shape", False), ({"a": 1}, {"a": 2}, "values", False), ({"a": 1}, [1], "type", False),
    ("text", "texts", "values", False), ("text", 3, "type", False), (None, 0, "type", False),
]  # fmt: skip


@pytest.mark.parametrize(("expected", "got"), AGREE, ids=str)
def test_style_is_free(expected, got):
    assert difference(expected, got) is None


@pytest.mark.parametrize(("expected", "got", "kind", "same_numbers"), DIFFER, ids=str)
def test_the_kind_of_a_difference(expected, got, kind, same_numbers):
    found = difference(expected, got)
    assert found is not None and found.kind == kind and found.numbers_agree == same_numbers
    assert found.words and found.expected is not None or expected is None


def test_without_form_only_numbers_count_in_every_part():
    assert difference((ROW, ROW), [ROW[None], ROW.double()], form=False) is None
    assert difference((ROW, ROW), [ROW[None], ROW + 1], form=False).words == "value 1: expected [1, 2], got [2, 3]"
    assert difference({"a": ROW}, {"a": [1, 2]}, form=False) is None and difference(ROW, 3, form=False) is not None


def test_the_place_of_a_difference():
    expected = torch.zeros(4, 5)
    got = expected.clone()
    got[2, 3] = got[3, 0] = 1.5
    assert difference(expected, got).words == "at [2, 3]: expected 0, got 1.5 (2 of 20 places differ)"
    assert difference((1, {"a": expected}), (1, {"a": got})).words.startswith("value 1: a: at [2, 3]")
    assert difference(ROW, ROW + 1).words == "expected [1, 2], got [2, 3]"
    assert difference(torch.tensor([1, 2]), torch.tensor([1, 3])).words == "expected [1, 2], got [1, 3]"


def test_known_keys_are_compared_before_missing_ones():
    assert difference({"a": 1, "b": 2}, {"a": 3}).words == "a: expected 1, got 3"


def test_a_property_that_does_not_hold_is_said_in_its_own_words():
    found = difference({"asked twice, the same": True}, {"asked twice, the same": False})
    assert found.words == 'this does not hold: "asked twice, the same"' and found.kind == "values"


def test_a_stated_tolerance_is_absolute():
    assert difference(100.0, 100.4, tolerance=0.5) is None and difference(1e-9, 0.6, tolerance=0.5) is not None
    assert difference(ROW, ROW + 0.4, tolerance=0.5) is None


def test_numbers_in_any_form():
    assert [as_number(x) for x in (2, 2.5, np.int64(3), torch.tensor([4.0]))] == [2, 2.5, 3, 4.0]
    assert [as_number(x) for x in (True, "2", None, torch.zeros(2), torch.tensor(True))] == [None] * 5
    assert numbers_agree(torch.arange(4).view(2, 2), [0, 1, 2, 3]) and not numbers_agree(ROW, ROW + 1)
    assert transposed(torch.zeros(2, 3), torch.zeros(3, 2)) and not transposed(ROW, ROW)
    assert not numbers_agree(ROW, "a text") and not numbers_agree(torch.zeros(0), torch.zeros(0))


def test_how_values_are_shown():
    assert show(torch.tensor([[1.0, 0.33333], [2.0, 3.0]])) == "[[1, 0.3333], [2, 3]]"
    assert show(torch.zeros(9, 9)) == "a tensor of float32 with shape (9, 9)"
    assert show(torch.zeros(0, 2)) == "[] with shape (0, 2)" and show((1.0, [2])) == "(1, [2])" and show((3,)) == "(3,)"
    assert show("x" * 500).endswith(" ...") and show(torch.Generator()) == "a generator"
    assert kind_of(np.zeros(2)) == "a NumPy array of float64 with shape (2,)" and kind_of(print) == "a function"
    assert kind_of(None) == "None" and kind_of(2.5) == "2.5 (float)" and kind_of({}) == "a value of type dict"
