"""How sure is a number, and are the probabilities honest? Intervals, paired comparisons, calibration.

Letters: N targets, C clusters, R resamples, V vocabulary. A cluster holds values that depend on each other, such as the
targets of one document: documents are drawn anew, never single targets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

RESAMPLES = 1000
BLOCK = 2_000_000  # numbers of a bootstrap in memory together
NORMAL_95 = 1.959963984540054  # the normal distribution has 95% of its weight within so many standard deviations


class Interval(NamedTuple):
    """A mean and the ends of its interval."""

    mean: float
    low: float
    high: float


class Bin(NamedTuple):
    """The answers that were given with similar confidence: from `low` (not included) to `high`."""

    low: float
    high: float
    confidence: float  # mean probability of the first word
    accuracy: float  # how often that word was right
    targets: int  # how many answers


# -- how sure is a mean -----------------------------------------------------------------------------------------------


def bootstrap(
    values: Tensor, cluster: Tensor, resamples: int = RESAMPLES, level: float = 0.95, seed: int = 0
) -> Interval:
    """The mean of values (N,) with its percentile interval over clusters (N,), whole numbers (Efron 1979).

    As many clusters as there are get drawn with replacement, each with all its values; the mean of what was drawn is
    one resample. Raises ValueError for fewer than two clusters, since one tells nothing of how much another would
    differ.
    """
    sums, counts = cluster_sums(values, cluster)
    if len(sums) < 2:
        raise ValueError("an interval needs at least two clusters, such as two documents: give more text.")
    random, means = np.random.default_rng(seed), []
    for start in range(0, resamples, step := max(1, BLOCK // len(sums))):
        drawn = random.integers(len(sums), size=(min(step, resamples - start), len(sums)))
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(sums.sum() / counts.sum()), float(low), float(high))


def cluster_sums(values: Tensor, cluster: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The sum of the values of each cluster that occurs, and how many they are, each (C,)."""
    _, place = np.unique(cluster.cpu().numpy(), return_inverse=True)
    return np.bincount(place, values.double().cpu().numpy()), np.bincount(place)


def paired(first: Tensor, second: Tensor, cluster: Tensor, resamples: int = RESAMPLES) -> Interval:
    """The mean of first - second, two models' values at the same targets (N,), with its interval over clusters.

    What is hard for both cancels, so this is far narrower than the intervals of the two means.
    """
    if first.shape != second.shape:
        raise ValueError(f"{len(first):,} values can't be paired with {len(second):,}: score both on the same masks.")
    return bootstrap(first.double() - second.double(), cluster, resamples)


def proportion(right: float, count: int) -> Interval:
    """A share of independent answers with Wilson's 95% interval (1927). Its ends are never outside of [0, 1], and not
    equal even where all answers are right. An undecided answer counts as half a right one.
    """
    z = NORMAL_95
    share, total = right / count, count + z * z
    middle = (right + z * z / 2) / total
    half = z * math.sqrt(count * share * (1 - share) + z * z / 4) / total
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))


# -- a loss in other units --------------------------------------------------------------------------------------------


def bits_per_byte(nats: float, tokens_per_byte: float) -> float:
    """A loss in nats a token as bits for each byte of text, which vocabularies of any size share."""
    return nats * tokens_per_byte / math.log(2)


# -- calibration: does 80% mean 80% -----------------------------------------------------------------------------------


def reliability(confidence: Tensor, right: Tensor, bins: int = 10) -> list[Bin]:
    """Answers sorted by confidence (N,) into equally wide bins, empty ones left out; right (N,) is True or False."""
    number = (confidence.double() * bins).ceil().long().clamp(1, bins)
    found = []
    for k in number.unique().tolist():
        mine = number == k
        share = right[mine].double().mean().item()
        found.append(Bin((k - 1) / bins, k / bins, confidence[mine].double().mean().item(), share, int(mine.sum())))
    return found


def calibration_error(bins: Sequence[Bin]) -> float:
    """The expected calibration error: by how much confidence and accuracy differ in a bin, on average over answers
    (Guo et al. 2017, arXiv 1706.04599). Chance alone makes it larger than 0.
    """
    return sum(b.targets * abs(b.confidence - b.accuracy) for b in bins) / sum(b.targets for b in bins)


def fit_temperature(logits: Tensor, targets: Tensor, steps: int = 50) -> float:
    """The temperature t for which softmax(logits / t) has the lowest loss, by Newton's method; logits (N, V), targets
    (N,).

    Above 1 the model is too sure of itself. The loss has one minimum in 1 / t: its slope is the mean of E[z] minus z at
    the target, its curvature the mean variance of z, both under softmax(z / t). Raises ValueError when no t is best.
    """
    inverse = 1.0
    z = logits.double() - logits.gather(1, targets[:, None]).double()  # 0 at the target
    for _ in range(steps):
        p = (z * inverse).softmax(dim=-1)
        mean = (p * z).sum(dim=-1, keepdim=True)
        slope, curvature = mean.mean().item(), (p * (z - mean).square()).sum(dim=-1).mean().item()
        if curvature <= 0:
            break
        moved = min(max(inverse - slope / curvature, inverse / 4), inverse * 4)  # no leap out of the useful range
        if abs(moved - inverse) < 1e-10 * inverse:
            return 1 / moved
        inverse = moved
    raise ValueError("no temperature is best for these answers: give targets that are neither all right nor all wrong.")
