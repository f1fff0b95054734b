"""The judge of code: names, general mistakes, the smallest input, and answers that are nearly known."""

import threading
import time

import pytest
import torch

from llm_lab.checks.exercise import NOT_STARTED
from tests.checks.samples_of_exercises import DOUBLE, SCALE, scale, with_seconds


def test_the_smallest_input_is_shown_for_an_unknown_mistake():
    verdict = SCALE.judge(lambda x, factor: x * factor + (x.numel() > 3) * 0.5)
    assert not verdict.passed and verdict.mistake is None
    assert verdict.inputs["x"].shape == (2, 4) and verdict.inputs["factor"] == 3  # not the largest that fails
    assert "no mistake that I know" in verdict.message and "factor = 3" in verdict.message
    assert verdict.difference.kind == "values"


def test_unusual_inputs_are_named():
    verdict = SCALE.judge(lambda x, factor: scale(x, factor) + (x.dtype == torch.float64) * 0.1)
    assert "(float64)" in verdict.message
    verdict = SCALE.judge(lambda x, factor: scale(x, factor) + (not x.is_contiguous()) * 0.1)
    assert "tensors that are not contiguous" in verdict.message


def test_a_mistake_made_on_most_inputs_is_hinted_at_but_not_named():
    verdict = SCALE.judge(lambda x, factor: x + factor if x.numel() > 1 else x * 7)
    assert verdict.mistake is None and 'the same as "adds": You add the factor.' in verdict.message


def test_an_error_names_the_line_of_the_reader():
    def answer(x, factor):
        rows = x.tolist()
        return torch.tensor(rows[99])

    verdict = SCALE.judge(answer)
    assert verdict.mistake == "raises"
    assert "IndexError: list index out of range, in line" in verdict.message
    assert "return torch.tensor(rows[99])" in verdict.message


def test_wrong_arguments_are_no_mystery():
    verdict = SCALE.judge(lambda x: x)
    assert verdict.mistake == "wrong arguments" and "1 positional argument but 2 were given" in verdict.message


def test_a_path_without_a_return():
    verdict = SCALE.judge(lambda x, factor: x * factor if x.numel() > 1 else None)
    assert verdict.mistake == "returns nothing" and "None" in verdict.message


def test_prints_and_warnings_are_swallowed(capsys):
    assert SCALE.judge(lambda x, factor: print("here") or x * factor).passed
    assert not capsys.readouterr().out


@pytest.mark.parametrize("wrap", [lambda call: call(), lambda call: _in_a_thread(call)], ids=["main", "thread"])
def test_an_endless_loop_ends(wrap):
    def loops(x, factor):
        while True:
            try:
                time.sleep(0.01)
            except Exception:
                continue

    begin = time.perf_counter()
    verdict = wrap(lambda: with_seconds(SCALE, 0.4).judge(loops))
    assert verdict.mistake == "no end" and "at the smallest input already" in verdict.message
    assert time.perf_counter() - begin < 5


def _in_a_thread(call):
    box = []
    thread = threading.Thread(target=lambda: box.append(call()))
    thread.start()
    thread.join()
    return box[0]


def test_an_answer_that_is_too_slow_for_all_inputs():
    verdict = with_seconds(SCALE, 0.3).judge(lambda x, factor: time.sleep(0.05) or x * factor)
    assert verdict.mistake == "no end" and "of 24" in verdict.message


def test_the_code_that_was_handed_out_is_no_try():
    namespace = {}
    exec(DOUBLE.stub, namespace)
    assert DOUBLE.judge(namespace["double"]).mistake == NOT_STARTED
    assert DOUBLE.judge(lambda x, factor: x / factor).mistake == "upside down"
    assert DOUBLE.judge(scale).passed


def test_a_global_generator_does_not_hide_another_mistake():
    def answer(x, factor):
        torch.manual_seed(0)
        x += 1
        return x + factor - 1

    verdict = SCALE.judge(answer)
    assert verdict.mistake == "adds" and "It changes its input, too." in verdict.message
    assert "It draws from a global generator, too." in verdict.message


def test_own_chance_in_place_of_the_given_one():
    assert SCALE.judge(lambda x, factor: torch.rand_like(x)).mistake == "draws from the global generator"


def test_the_catalogue_is_built_from_the_right_answer():
    assert [answer(torch.tensor(6.0), 3).item() for _, answer in SCALE.wrong_answers()] == [9.0, 2.0]
    assert SCALE.shown() == 'def scale(x, factor):\n    """The right answer."""\n    return x * factor'
    assert '"""A docstring."""' in SCALE.stub_cell
