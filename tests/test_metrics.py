"""Intervals against closed forms, enumeration and repeated experiments; calibration where the truth is known."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llm_lab import metrics
from llm_lab.config import MaskingConfig
from llm_lab.metrics import (
    Bin,
    bits_per_byte,
    bootstrap,
    calibration_error,
    cluster_sums,
    fit_temperature,
    paired,
    proportion,
    reliability,
)
from llm_lab.text.grammar import hard_language
from llm_lab.text.masking import IGNORED
from llm_lab.text.optimum import best_guesses, clustered, masked_sample


def normal(n, seed=0):
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# -- bootstrap --------------------------------------------------------------------------------------------------------


def test_for_single_values_it_is_the_closed_form_of_a_mean():
    values = 3 + 2 * normal(3000)
    found = bootstrap(values, torch.arange(3000), resamples=4000)
    half = 1.96 * values.std().item() / math.sqrt(3000)
    assert found.mean == pytest.approx(values.mean().item(), rel=1e-12)
    assert found.low == pytest.approx(found.mean - half, abs=0.06 * half)
    assert found.high == pytest.approx(found.mean + half, abs=0.06 * half)


def test_for_clusters_it_is_the_closed_form_of_clusters():
    """Unequal clusters whose values share their luck: the error by Liang and Zeger, which lesson 09 knows."""
    size = torch.from_numpy(np.random.default_rng(1).integers(1, 12, 800))
    cluster = torch.repeat_interleave(torch.arange(800) * 3 + 7, size)  # numbers with gaps
    values = torch.repeat_interleave(normal(800, 2), size) + 0.5 * normal(len(cluster), 3)
    found, expected = bootstrap(values, cluster, resamples=4000), clustered(values, cluster)
    assert found.mean == pytest.approx(expected.mean, rel=1e-12)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * expected.standard_error, rel=0.05)
    alone = bootstrap(values, torch.arange(len(values)))
    assert found.high - found.low > 2 * (alone.high - alone.low)


def test_copies_within_a_cluster_tell_nothing_new():
    values, copies = normal(100), normal(100).repeat_interleave(9)
    assert bootstrap(copies, torch.arange(100).repeat_interleave(9)) == pytest.approx(
        bootstrap(values, torch.arange(100))
    )


def test_its_quantiles_are_those_of_all_possible_resamples():
    """Four clusters can be drawn in 256 ways. Of these 2.5% and 97.5% are between two means, or at one."""
    values, cluster = torch.tensor([1.0, 2, 8, 16, 16, 40]), torch.tensor([0, 0, 1, 2, 2, 3])
    sums, counts = (3, 8, 32, 40), (2, 1, 2, 1)
    means = sorted(
        sum(sums[i] for i in drawn) / sum(counts[i] for i in drawn) for drawn in itertools.product(range(4), repeat=4)
    )
    found = bootstrap(values, cluster, resamples=200_000, level=0.9)
    assert found.mean == 83 / 6
    assert means[int(256 * 0.045)] <= found.low <= means[int(256 * 0.055)]
    assert means[int(256 * 0.945)] <= found.high <= means[int(256 * 0.955)]


def test_it_holds_the_truth_as_often_as_it_says():
    """400 experiments with 80 clusters of 3: the true mean, 0, must be inside in about 95% of them."""
    inside = 0
    for number in range(400):
        values = normal(80, number).repeat_interleave(3) + normal(240, 1000 + number)
        found = bootstrap(values, torch.arange(80).repeat_interleave(3), resamples=400)
        inside += found.low < 0 < found.high
    assert 0.91 < inside / 400 < 0.98


def test_it_repeats_and_its_memory_is_bounded(monkeypatch):
    values, cluster = normal(60), torch.arange(60)
    once = bootstrap(values, cluster)
    assert bootstrap(values, cluster) == once and bootstrap(values, cluster, seed=1) != once
    monkeypatch.setattr(metrics, "BLOCK", 1000)  # 16 resamples at a time
    assert bootstrap(values, cluster) == pytest.approx(once, abs=0.05)


@pytest.mark.parametrize("cluster", [[], [5, 5, 5]])
def test_one_cluster_has_no_interval(cluster):
    with pytest.raises(ValueError, match="at least two clusters, such as two documents: give more text"):
        bootstrap(torch.ones(len(cluster)), torch.tensor(cluster, dtype=torch.long))


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-100, 100)), min_size=1))
def test_cluster_sums_are_sums(pairs):
    sums, counts = cluster_sums(torch.tensor([v for _, v in pairs]), torch.tensor([c for c, _ in pairs]))
    names = sorted({c for c, _ in pairs})
    assert sums.tolist() == [sum(v for c, v in pairs if c == name) for name in names]
    assert counts.tolist() == [sum(c == name for c, _ in pairs) for name in names]


def test_a_paired_difference_is_sharper_than_two_means():
    hard, cluster = 3 * normal(2000), torch.arange(2000)
    first, second = hard + 0.1 * normal(2000, 1), hard - 0.02 + 0.1 * normal(2000, 2)
    difference = paired(first, second, cluster)
    assert difference == bootstrap(first - second, cluster)
    assert difference.low > 0 and difference.mean == pytest.approx((first - second).mean().item())
    assert bootstrap(first, cluster).low < bootstrap(second, cluster).high  # apart they overlap
    with pytest.raises(ValueError, match="2,000 values can't be paired with 1,999: score both on the same masks"):
        paired(first, second[1:], cluster)


# -- proportions and units --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("right", "count"), [(0, 10), (3, 10), (3.5, 10), (10, 10), (190, 200), (1, 1)])
def test_wilsons_ends_are_as_far_from_the_share_as_a_true_share_there_allows(right, count):
    """By definition: a true share p at either end would be 1.96 of *its own* standard deviations away."""
    share, low, high = proportion(right, count)
    assert share == right / count and 0 <= low <= share <= high <= 1
    for end in (low, high):
        if 0 < end < 1:
            assert abs(share - end) == pytest.approx(1.95996 * math.sqrt(end * (1 - end) / count), rel=1e-4)
    if right == count:
        assert low == pytest.approx(count / (count + 1.95996**2), rel=1e-5)


def test_a_byte_has_eight_bits():
    assert bits_per_byte(math.log(256), 1.0) == pytest.approx(8)  # each byte a token, all alike
    assert bits_per_byte(math.log(65_536), 0.5) == pytest.approx(8)  # each pair of bytes


# -- calibration ------------------------------------------------------------------------------------------------------


def answers_with(shares):
    """Answers that are exactly as often right as they are sure: `shares` are (right, of how many)."""
    confidence = [right / count for right, count in shares for _ in range(count)]
    right = [i < right for right, count in shares for i in range(count)]
    return torch.tensor(confidence, dtype=torch.float64), torch.tensor(right)


def test_a_perfectly_calibrated_predictor_has_no_error():
    confidence, right = answers_with([(1, 20), (1, 8), (9, 30), (7, 10), (1, 1)])
    shuffled = torch.randperm(len(right), generator=torch.Generator().manual_seed(0))
    bins = reliability(confidence[shuffled], right[shuffled])
    assert [b.targets for b in bins] == [20, 8, 30, 10, 1]
    assert [b.confidence for b in bins] == pytest.approx([0.05, 0.125, 0.3, 0.7, 1])
    assert [b.accuracy for b in bins] == pytest.approx([b.confidence for b in bins])
    assert calibration_error(bins) == pytest.approx(0, abs=1e-12)


def test_by_how_much_one_is_too_sure_is_the_error():
    confidence = torch.full((1000,), 0.9)
    assert calibration_error(reliability(confidence, torch.arange(1000) < 600)) == pytest.approx(0.3)
    both = (
        torch.cat((confidence, torch.full((1000,), 0.25))),
        torch.cat((torch.arange(1000) < 600, torch.arange(1000) < 450)),
    )
    assert calibration_error(reliability(*both)) == pytest.approx((0.3 + 0.2) / 2)


def test_the_edges_of_the_bins():
    sure = torch.tensor([0.0, 0.1, 0.1000001, 0.2, 1.0], dtype=torch.float64)
    bins = reliability(sure, torch.tensor([False, True, True, False, True]))
    assert [(b.low, b.high, b.targets) for b in bins] == [(0, 0.1, 2), (0.1, 0.2, 2), (0.9, 1.0, 1)]
    (one,) = reliability(torch.tensor([0.3, 0.9]), torch.tensor([True, False]), bins=1)
    assert one == Bin(0, 1, pytest.approx(0.6), 0.5, 2)


@given(st.lists(st.tuples(st.floats(0.001, 0.999), st.booleans()), min_size=1), st.integers(1, 12))
def test_bins_by_loops(answered, number):
    bins = reliability(
        torch.tensor([c for c, _ in answered], dtype=torch.float64), torch.tensor([r for _, r in answered]), number
    )
    total = 0.0
    for k in range(number):
        mine = [(c, r) for c, r in answered if k < c * number <= k + 1]
        total += abs(sum(c for c, _ in mine) - sum(r for _, r in mine)) / len(answered)
        assert len(mine) == sum(b.targets for b in bins if round(b.low * number) == k)
    assert calibration_error(bins) == pytest.approx(total, abs=1e-9)


@pytest.fixture(scope="module")
def oracle():
    """The oracle's guesses on the hard language, and what was hidden: (N, V), (N,)."""
    language = hard_language()
    inputs, labels = masked_sample(language, MaskingConfig(0.15, selection="bernoulli"), 1500, 5)
    return best_guesses(language, inputs, labels, 0.15, "pure"), labels[labels != IGNORED]


def test_the_oracle_of_a_known_language_is_calibrated(oracle):
    """In every bin its success is within four standard errors of its sureness; a sharpened oracle's is not."""
    p, target = oracle

    def surprises(p):
        confidence, word = p.max(dim=-1)
        bins = reliability(confidence, word == target)
        error = [math.sqrt(max(b.confidence * (1 - b.confidence), 1e-9) / b.targets) for b in bins]
        return [abs(b.accuracy - b.confidence) / e for b, e in zip(bins, error, strict=True)], calibration_error(bins)

    far, error = surprises(p)
    assert max(far) < 4 and error < 0.03
    far, error = surprises(p.square() / p.square().sum(dim=-1, keepdim=True))
    assert max(far) > 8 and error > 0.1


# -- temperature ------------------------------------------------------------------------------------------------------


def test_the_temperature_of_the_oracle_is_1_and_of_a_sharpened_one_its_sharpness(oracle):
    p, target = oracle
    logits = p.clamp(min=1e-30).log()
    natural = fit_temperature(logits, target)
    assert natural == pytest.approx(1, abs=0.05)
    for sharpness in (0.3, 2.0, 7.0):
        assert fit_temperature(sharpness * logits + 5, target) == pytest.approx(sharpness * natural, rel=1e-6)


def test_no_other_temperature_has_a_lower_loss():
    logits = 4 * torch.randn(500, 30, generator=torch.Generator().manual_seed(0))
    target = torch.randint(30, (500,), generator=torch.Generator().manual_seed(1))
    target[:250] = logits[:250].argmax(dim=-1)
    best = fit_temperature(logits, target)
    loss = lambda t: torch.nn.functional.cross_entropy(logits.double() / t, target).item()  # noqa: E731
    assert all(loss(best) <= loss(best * factor) for factor in (0.5, 0.99, 0.999, 1.001, 1.01, 2))


@pytest.mark.parametrize("right", [True, False])
def test_where_no_temperature_is_best_it_says_so(right):
    logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    target = logits.argmax(dim=-1) if right else logits.argmin(dim=-1)
    with pytest.raises(ValueError, match="no temperature is best for these answers"):
        fit_temperature(logits, target)
    with pytest.raises(ValueError, match="no temperature is best"):
        fit_temperature(torch.zeros(3, 4), torch.tensor([0, 1, 2]))
