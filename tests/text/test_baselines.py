"""The ladder of baselines against counting with dictionaries, Bayes written out, and what a ladder must satisfy."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from llm_lab.config import EVALUATION_MASKING
from llm_lab.text import baselines
from llm_lab.text.baselines import WEIGHT, PairCounts, ladder
from llm_lab.text.batches import Batch, fixed_batches
from llm_lab.text.masking import IGNORED


@pytest.fixture(scope="module")
def batches(tiny_dataset):
    return fixed_batches(tiny_dataset.held_out, tiny_dataset.tokenizer, EVALUATION_MASKING, 16)


@pytest.fixture(scope="module")
def pairs(tiny_dataset):
    """(word, next word) of all training rows, counted."""
    return Counter(pair for row in tiny_dataset.train.tolist() for pair in zip(row[:-1], row[1:], strict=True))


def given_left(dataset, pairs, left):
    """p(word | word before), with dictionaries."""
    followers = {word: count for (first, word), count in pairs.items() if first == left}
    if left in (-1, dataset.tokenizer.mask_id) or not followers:
        return dataset.unigram
    total = sum(followers.values())
    counted = np.array([followers.get(word, 0) / total for word in range(len(dataset.unigram))])
    return WEIGHT * counted + (1 - WEIGHT) * dataset.unigram


def given_both(dataset, pairs, left, right):
    """p(word | before) p(after | word) over the sum of this product: Bayes, if before and after are independent."""
    prior = given_left(dataset, pairs, left)
    if right in (-1, dataset.tokenizer.mask_id):
        return prior
    starts = Counter()
    for (first, _), count in pairs.items():
        starts[first] += count
    likelihood = np.array(
        [
            WEIGHT * pairs[word, right] / max(1, starts[word]) + (1 - WEIGHT) * max(dataset.unigram[right], 1e-9)
            for word in range(len(prior))
        ]
    )
    return prior * likelihood / (prior * likelihood).sum()


def test_conditional_probabilities_are_those_of_dictionaries(tiny_dataset, pairs):
    counts = PairCounts(tiny_dataset)
    mask = tiny_dataset.tokenizer.mask_id
    words = [-1, mask, 0, 2, 3, 5, 40, 60, 150, 299]
    for left in words:
        expected = given_left(tiny_dataset, pairs, left)
        assert counts.given_left(np.array([left]))[0] == pytest.approx(expected, abs=1e-12)
        for right in words:
            expected = given_both(tiny_dataset, pairs, left, right)
            p = counts.given_both(np.array([left]), np.array([right]))[0]
            assert p == pytest.approx(expected, abs=1e-12)
            assert p.sum() == pytest.approx(1)


def test_the_ladder_is_the_mean_over_all_targets(tiny_dataset, batches, pairs, monkeypatch):
    monkeypatch.setattr(baselines, "CHUNK", 7)  # the cut into pieces must not show
    nats, right, count = Counter(), Counter(), 0
    for batch in batches[:2]:
        for row, places, targets in zip(
            batch.inputs.tolist(), batch.positions.tolist(), batch.targets.tolist(), strict=True
        ):
            for place, target in zip(places, targets, strict=True):
                if target == IGNORED:
                    continue
                count += 1
                left = row[place - 1] if place > 0 else -1
                after = row[place + 1] if place + 1 < len(row) else -1
                guesses = {
                    "unigram": tiny_dataset.unigram,
                    "left neighbour": given_left(tiny_dataset, pairs, left),
                    "both neighbours": given_both(tiny_dataset, pairs, left, after),
                }
                for name, p in guesses.items():
                    nats[name] -= math.log(p[target])
                    right[name] += int(p.argmax()) == target
    measured = {step.name: step for step in ladder(tiny_dataset, batches[:2])}
    size = tiny_dataset.tokenizer.vocabulary_size
    assert measured["uniform"][1:] == pytest.approx((math.log(size), 1 / size))
    for name in nats:
        assert measured[name][1:] == pytest.approx((nats[name] / count, right[name] / count), abs=1e-9)


def test_each_step_of_the_ladder_knows_more(tiny_dataset, batches):
    steps = ladder(tiny_dataset, batches)
    assert [step.name for step in steps] == ["uniform", "unigram", "left neighbour", "both neighbours"]
    losses, accuracies = [step.loss for step in steps], [step.accuracy for step in steps]
    assert losses == sorted(losses, reverse=True) and accuracies == sorted(accuracies)
    assert losses[0] - losses[-1] > 2


def test_unigram_loss_on_its_own_text_is_the_closed_form(tiny_dataset):
    """Every word of the training text asked once: the sum of c/N ln((N + V)/(c + 1)) over the words' counts c."""
    ids = torch.from_numpy(tiny_dataset.train.astype(np.int64))
    special = torch.isin(ids, torch.tensor(tiny_dataset.tokenizer.special_ids))
    positions = torch.arange(16).expand(len(ids), 16)
    unigram = ladder(tiny_dataset, [Batch(ids, positions, ids.masked_fill(special, IGNORED))])[1]
    counts = Counter(ids[~special].tolist())
    n, v = sum(counts.values()), tiny_dataset.tokenizer.vocabulary_size - 5
    assert unigram.loss == pytest.approx(sum(c / n * math.log((n + v) / (c + 1)) for c in counts.values()))
    assert unigram.accuracy == pytest.approx(max(counts.values()) / n)
