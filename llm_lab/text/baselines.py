"""What counting alone can guess: the ladder of cheap baselines that every curve on real text is held against.

Letters: V vocabulary, N targets, C targets of a chunk. Losses are nats a target, on the same fixed masks that models
are scored on. Uniform knows nothing; unigram knows how often each word occurs; neighbours knows which words stand
side by side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from llm_lab.text.batches import Batch
from llm_lab.text.masking import IGNORED
from llm_lab.text.tokenizer import Tokenizer

WEIGHT = 0.8  # of the neighbours' counts; the rest goes to the unigram, so that no word is impossible
CHUNK = 512  # targets at a time: C x V numbers must fit into memory


class Counted(Protocol):
    """A dataset in which words can be counted."""

    @property
    def tokenizer(self) -> Tokenizer:
        """V is its vocabulary's size."""

    @property
    def train(self) -> np.ndarray:
        """Rows of ids, (N, T)."""

    @property
    def unigram(self) -> np.ndarray:
        """The probability of each token, (V,)."""


class Baseline(NamedTuple):
    """A way of guessing without a network, and what it reaches on the held-out targets."""

    name: str
    loss: float
    accuracy: float


def ladder(dataset: Counted, batches: Sequence[Batch]) -> list[Baseline]:
    """Uniform, unigram, one neighbour (the left one) and two, in this order."""
    left, right, target = _contexts(batches)
    counts = PairCounts(dataset)
    uniform = Baseline("uniform", math.log(dataset.tokenizer.vocabulary_size), 1 / dataset.tokenizer.vocabulary_size)
    unigram = _score("unigram", [np.broadcast_to(dataset.unigram, (len(target), len(dataset.unigram)))], target)
    pieces = range(0, len(target), CHUNK)
    one = _score("left neighbour", (counts.given_left(left[i : i + CHUNK]) for i in pieces), target)
    two = _score(
        "both neighbours", (counts.given_both(left[i : i + CHUNK], right[i : i + CHUNK]) for i in pieces), target
    )
    return [uniform, unigram, one, two]


class PairCounts:
    """How often each word follows each other word in the training rows.

    Only pairs that occur are stored. A neighbour that is itself hidden, or missing at the edge of a row, tells nothing.
    """

    def __init__(self, dataset: Counted):
        self.unigram = dataset.unigram
        self.size = len(self.unigram)
        self.hidden = {dataset.tokenizer.mask_id, -1}
        rows = dataset.train.astype(np.int64)
        pairs, count = np.unique(rows[:, :-1] * self.size + rows[:, 1:], return_counts=True)
        self.first, self.second, self.count = pairs // self.size, pairs % self.size, count
        self.start = np.searchsorted(self.first, np.arange(self.size + 1))
        self.by_second = np.argsort(self.second, kind="stable")
        self.start_second = np.searchsorted(self.second[self.by_second], np.arange(self.size + 1))
        self.total = np.maximum(1, np.bincount(rows[:, :-1].ravel(), minlength=self.size))

    def given_left(self, left: np.ndarray) -> np.ndarray:
        """p(word | word before), (C, V), for C words before."""
        p = np.tile(self.unigram, (len(left), 1))
        for row, word in zip(p, left, strict=True):
            span = slice(self.start[word], self.start[word + 1]) if word not in self.hidden else slice(0)
            if span.start is not None and span.stop > span.start:
                row *= 1 - WEIGHT
                row[self.second[span]] += WEIGHT * self.count[span] / self.count[span].sum()
        return p

    def given_both(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """p(word | word before, word after), (C, V): p(word | before) p(after | word), brought to sum 1 (Bayes)."""
        p = self.given_left(left)
        for row, word in zip(p, right, strict=True):
            if word not in self.hidden:
                pairs = self.by_second[self.start_second[word] : self.start_second[word + 1]]
                likelihood = np.full(self.size, (1 - WEIGHT) * max(self.unigram[word], 1e-9))
                likelihood[self.first[pairs]] += WEIGHT * self.count[pairs] / self.total[self.first[pairs]]
                row *= likelihood
                row /= row.sum()
        return p


def _contexts(batches: Sequence[Batch]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What stands left and right of each target, and the target itself, each (N,); -1 past the edge of a row."""
    found = []
    for batch in batches:
        inputs = np.pad(batch.inputs.numpy(), ((0, 0), (1, 1)), constant_values=-1)
        positions, targets = batch.positions.numpy(), batch.targets.numpy()
        left, right = (np.take_along_axis(inputs, positions + shift, axis=1) for shift in (0, 2))
        keep = targets != IGNORED
        found.append(np.stack((left[keep], right[keep], targets[keep])))
    left, right, target = np.concatenate(found, axis=1)
    return left, right, target


def _score(name: str, chunks, target: np.ndarray) -> Baseline:
    nats, right, start = 0.0, 0, 0
    for p in chunks:
        wanted = target[start : start + len(p)]
        nats -= np.log(p[np.arange(len(p)), wanted]).sum()
        right += int((p.argmax(axis=1) == wanted).sum())
        start += len(p)
    return Baseline(name, float(nats / len(target)), right / len(target))
