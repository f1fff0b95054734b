"""The schedule against its corners, its slopes and every step of many runs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_lab.train.schedule import learning_rate_factor


@given(st.integers(1, 400), st.floats(0, 1), st.floats(0, 1))
def test_every_run_climbs_stays_and_falls_between_0_and_1(steps, warmup, decay):
    decay = min(decay, 1 - warmup)
    factors = [learning_rate_factor(step, steps, warmup, decay) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)  # each step moves the weights
    turn = factors.index(max(factors))
    assert factors[: turn + 1] == sorted(factors[: turn + 1])
    assert factors[turn:] == sorted(factors[turn:], reverse=True)


def test_the_corners_of_a_run_of_1000():
    factor = lambda step: learning_rate_factor(step, 1000, warmup=0.05, decay=0.4)  # noqa: E731
    assert factor(0) == pytest.approx(1 / 50)
    assert factor(24) == pytest.approx(0.5)
    assert [factor(step) for step in (49, 50, 300, 599, 600)] == [1.0] * 5
    assert factor(601) == pytest.approx(399 / 400)
    assert factor(800) == pytest.approx(0.5)
    assert factor(999) == pytest.approx(1 / 400)


@pytest.mark.parametrize("step", [1000, 1001, 5000])
def test_past_the_end_it_is_zero_and_never_negative(step):
    assert learning_rate_factor(step, 1000, 0.05, 0.4) == 0


def test_without_warmup_or_decay_it_is_flat():
    assert [learning_rate_factor(step, 10, 0.0, 0.0) for step in range(10)] == [1.0] * 10


def test_its_sum_is_the_area_of_the_trapezium():
    """Warm-up and decay each cost half of their share of the run."""
    total = sum(learning_rate_factor(step, 10_000, 0.1, 0.3) for step in range(10_000))
    assert total / 10_000 == pytest.approx(1 - 0.1 / 2 - 0.3 / 2, abs=1e-3)
