"""The guard: what a reader's code can do, and what is left of it afterwards."""

import random
import signal
import sys
import threading
import time

import numpy as np
import pytest
import torch

from llm_lab.checks import guard

WAYS = [False, True] if hasattr(signal, "setitimer") else [True]  # the alarm, or a thread


def endless():
    while True:
        pass


def stubborn():
    """Catches everything, the alarm too."""
    while True:
        try:
            time.sleep(0.001)
        except BaseException:
            pass


@pytest.mark.parametrize("own_thread", WAYS)
@pytest.mark.parametrize("call", [endless, stubborn, lambda: time.sleep(20)], ids=["endless", "stubborn", "asleep"])
def test_the_clock_runs_out(call, own_thread):
    if own_thread and call is not endless:
        pytest.skip("a thread that sleeps in the system, or catches everything, is left alone")
    begin = time.perf_counter()
    outcome = guard.run(call, 0.2, own_thread)
    assert outcome.timed_out and time.perf_counter() - begin < 3


@pytest.mark.skipif(len(WAYS) == 1, reason="no alarm on this system")
def test_the_alarm_is_put_back():
    before = signal.getsignal(signal.SIGALRM)
    guard.run(endless, 0.1, False)
    assert signal.getsignal(signal.SIGALRM) is before and signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    time.sleep(0.3)  # and it does not ring any more


@pytest.mark.parametrize("own_thread", WAYS)
def test_values_and_errors_come_through(own_thread):
    assert guard.run(lambda: 5, 1, own_thread).value == 5
    assert isinstance(guard.run(lambda: 1 / 0, 1, own_thread).error, ZeroDivisionError)
    assert isinstance(guard.run(lambda: sys.exit(1), 1, own_thread).error, SystemExit)
    assert guard.run(lambda: print("a line"), 1, own_thread).printed == "a line\n"


def test_a_check_in_another_thread_uses_no_alarm():
    box = []
    thread = threading.Thread(target=lambda: box.append(guard.run(endless, 0.2)))
    thread.start()
    thread.join()
    assert box[0].timed_out


@pytest.mark.parametrize(
    "draw",
    [lambda: torch.rand(1), lambda: torch.manual_seed(0), lambda: np.random.rand(), lambda: np.random.seed(1),
     lambda: random.random(), lambda: random.seed(3), lambda: random.shuffle([1, 2, 3])],
)  # fmt: skip
def test_global_generators_are_watched_and_put_back(draw):
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    assert guard.run(draw, 1).drew
    assert torch.equal(torch.get_rng_state(), states[0]) and np.array_equal(np.random.get_state()[1], states[1])
    assert random.getstate() == states[2]
    assert not guard.run(lambda: torch.rand(3, generator=torch.Generator().manual_seed(1)), 1).drew
    assert not guard.run(lambda: np.random.default_rng(0).random(), 1).drew
    first, second = guard.run(lambda: torch.rand(3), 1).value, guard.run(lambda: torch.rand(3), 1).value
    assert torch.equal(first, second)  # seeded: a wrong answer gives the same result twice


def test_a_function_is_watched_and_can_not_harm_the_caller():
    x, rows = torch.zeros(2, 3), [1, 2]

    def answer(x, rows):
        x.add_(1)
        rows.append(3)
        return x

    watched = guard.Watched(answer)
    assert watched(x, rows).sum() == 6 and watched.spoiled
    assert x.sum() == 0 and rows == [1, 2]
    calm = guard.Watched(lambda x, rows: x + 1)
    assert calm(x, rows).sum() == 6 and not calm.spoiled
    with pytest.raises(NotImplementedError):
        guard.Watched(lambda: ...)()
    with pytest.raises(guard.ReturnsNothing):
        guard.Watched(lambda: None)()


def test_copies_keep_their_order_in_memory_and_their_graph():
    strided = torch.arange(6.0).view(2, 3).t()
    assert guard.copied(strided).stride() == strided.stride() and torch.equal(guard.copied(strided), strided)
    every_other = torch.arange(8)[::2]
    assert guard.copied(every_other).stride() == (2,)
    learnt = torch.zeros(2, requires_grad=True)
    assert guard.copied((learnt, {"a": learnt}))[0] is learnt
    expanded = torch.zeros(1, 3).expand(4, 3)
    assert torch.equal(guard.copied(expanded), expanded)


def test_what_counts_as_changed():
    nan = torch.tensor([float("nan")])
    assert not guard.changed(nan, nan.clone()) and not guard.changed(object(), object())
    assert guard.changed(torch.zeros(2), torch.zeros(2, 1)) and guard.changed(torch.zeros(2), torch.zeros(2).double())
    assert guard.changed({"a": [1]}, {"a": [2]}) and guard.changed({"a": 1}, {"b": 1}) and guard.changed([1], [1, 2])
    assert guard.changed(np.zeros(2), np.ones(2)) and guard.changed(3, 4) and not guard.changed(3, 3)


def test_results_are_kept_as_they_are():
    x = torch.zeros(2)
    kept = guard.kept({"a": (x, [x])})
    x.add_(1)
    assert kept["a"][0].sum() == 0 and kept["a"][1][0].sum() == 0
    assert guard.kept(np.zeros(2)).sum() == 0 and guard.kept("text") == "text"


def test_stubs_and_functions_that_look_like_them():
    def documented():
        """A docstring."""

    def five():
        return 5

    def nothing(x):
        x.append(1)

    assert guard.is_stub(documented, guard.Outcome()) and guard.is_stub(None, guard.Outcome(value=...))
    assert guard.is_stub(five, guard.Outcome(error=NotImplementedError()))
    assert not guard.is_stub(five, guard.Outcome(value=5)) and not guard.is_stub(nothing, guard.Outcome())
    assert not guard.in_kernel()
