"""Where right answers come from, and how wrong ones are made."""

import inspect

import pytest
import torch

from llm_lab.checks import solutions
from llm_lab.text.masking import corrupt


def test_right_answers_come_from_the_package_or_from_the_file():
    assert solutions.find("04", "llm_lab.text.masking.corrupt") is corrupt
    assert solutions.find("04", "labels").__module__ == "llm_lab_solutions_04"
    assert solutions.source_of("04", "labels").startswith("def labels(ids")
    with pytest.raises(FileNotFoundError, match=r"no file 99_\*\.py"):
        solutions.module_of("99")


def test_a_built_function_sees_the_names_of_the_right_answer_and_has_a_source():
    built = solutions.build("def other(ids):\n    return torch.zeros_like(ids)\n", "04", "labels", "a label")
    assert built(torch.ones(2)).sum() == 0 and "zeros_like" in inspect.getsource(built)
    package = solutions.build("def other(): return IGNORED", "04", "llm_lab.text.masking.corrupt", "another")
    assert package() == -100


def test_swaps_must_be_unique():
    assert solutions.swapped("a + b", (("+", "-"), ("b", "c"))) == "a - c"
    with pytest.raises(ValueError, match="'b' stands 2 times"):
        solutions.swapped("b + b", (("b", "c"),))
    with pytest.raises(ValueError, match="stands 0 times"):
        solutions.swapped("b + b", (("x", "c"),))


def test_the_name_that_is_defined_last():
    assert solutions.defined_in("def a(): ...\nclass B: ...\nx = 1") == "B"
    with pytest.raises(ValueError, match="defines no function"):
        solutions.defined_in("x = 1")
