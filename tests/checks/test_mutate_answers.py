"""The command that mutates answers: the mutants it makes, and a sample of them against the checks."""

import ast
from dataclasses import replace

import pytest

from llm_lab.checks import exercises
from llm_lab.checks.code import Write
from llm_lab.checks.design import Design
from llm_lab.checks.registry import find
from tests.checks.samples_of_exercises import SCALE
from tools.mutate_answers import WANTED, Trial, mutants, try_answer, try_exercise

CODE = [one for one in exercises() if isinstance(one, Write) and not isinstance(one, Design)]
SAMPLE, INPUTS = 6, 40  # mutants of each right answer, and inputs on which they must differ


def test_one_change_each():
    source = "def f(x, n):\n    y = x.sum(dim=1) - 2 * n\n    return y if n < 3 and n != 1 else -y\n"
    found = list(mutants(source))
    assert len(found) == len(set(found)) >= 20
    changes = "x.sum(dim=2)|x.mean(dim=1)|x.sum()|+ 2 * n|3 * n|n <= 3|n > 3|or n != 1|n == 1|else y|return y\n|pass"
    for line in changes.split("|"):
        assert any(line in other + "\n" for other in found), line
    for other in found:
        ast.parse(other)


def test_docstrings_are_left_alone():
    assert not [other for other in mutants('def f(x):\n    """Words."""\n    return x\n') if "Words" not in other]


def test_survivors_are_listed_and_equal_mutants_are_not():
    lax = replace(SCALE, inputs=lambda draw: (draw.normal(1, 1) * 0 + 2, 2))  # 2 * 2 = 2 + 2
    name = SCALE.right[0]
    count = try_answer(lax, Trial(SCALE), name)
    assert count.survivors == ['def scale(x, factor):\n    """The right answer."""\n    return x + factor']
    assert count.share < 1 and count.equal == 0
    assert try_answer(SCALE, Trial(SCALE), name).share == 1


def test_a_mutant_is_compared_with_the_answer_that_it_was_made_of():
    """Attention in loops gives a constant, without slopes, where nobody may attend; so do its equal mutants."""
    attention, name = find("06.attention"), "llm_lab.model.attention.attention_loops"
    trial = Trial(attention, INPUTS)
    assert trial.is_equal(trial.right[name], name) and trial.is_equal(trial.right["attention"], "attention")
    assert not trial.is_equal(lambda *given: 2 * trial.right[name](*given), name)


@pytest.mark.parametrize("exercise", CODE, ids=lambda one: one.id)
def test_a_sample_of_mutants_is_rejected(exercise):
    counts = try_exercise(exercise, SAMPLE, INPUTS)
    differing = sum(count.made - count.equal for count in counts)
    survivors = [source for count in counts for source in count.survivors]
    assert sum(count.rejected for count in counts) >= WANTED * differing, "\n\n".join(survivors)
