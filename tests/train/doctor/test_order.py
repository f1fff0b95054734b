"""Shuffled or not: sorted rows, rows in the order of the corpus, repeated rows, masks drawn once."""

from __future__ import annotations

import numpy as np
import torch

from llm_lab.config import MaskingConfig
from llm_lab.text.batches import BatchStream
from llm_lab.train.doctor import Remark
from llm_lab.train.doctor.order import examine_order, surprise
from llm_lab.train.doctor.streams import examine_streams
from llm_lab.ward import DATASET, TrainingRun
from llm_lab.ward.run import StreamOf
from tests.train.doctor.runs import SMALL, changed, names, small

ROWS = DATASET.train[:600]


class InOrder(BatchStream):
    def _shuffled(self, epoch):
        return np.arange(len(self.rows))


def on(rows, kind=InOrder, batch_rows=8):
    class Run(TrainingRun):
        def stream_of(self, rank, world_size):
            masking = MaskingConfig(rate=0.3, selection="bernoulli")
            return kind(rows, DATASET.tokenizer, masking, self.batch_rows, self.seed, rank, world_size)

    return Run(**{**SMALL, "batch_rows": batch_rows}).subject()


def test_sound_orders():
    for seed in range(5):
        assert examine_order(small(seed=seed)) == []
    assert examine_order(on(ROWS)) == []  # each sentence drawn by itself: nothing to shuffle
    assert examine_order(small(batch_rows=1)) == []


def test_sorted_rows_and_documents_one_after_the_other():
    by_length = ROWS[np.argsort((ROWS != 0).sum(axis=1), kind="stable")]
    assert names(examine_order(on(by_length))) == ["rows not shuffled"]
    by_first_word = ROWS[np.argsort(ROWS[:, 1], kind="stable")]
    assert names(examine_order(on(by_first_word))) == ["rows not shuffled"]
    assert examine_order(on(by_length, BatchStream)) == []


def test_batches_of_like_lengths_in_random_order_are_no_mistake():
    by_length = ROWS[np.argsort((ROWS != 0).sum(axis=1), kind="stable")].reshape(75, 8, -1)
    assert examine_order(on(by_length[np.random.default_rng(0).permutation(75)].reshape(600, -1))) == []


def test_rows_that_repeat_in_their_batch():
    assert names(examine_order(on(np.repeat(ROWS, 4, axis=0)))) == ["rows repeat in a batch"]


def test_masks_drawn_once_are_a_remark():
    subject = on(ROWS[:160], BatchStream)
    assert examine_order(subject) == []
    static = on(ROWS[:160], Static)
    (finding,) = examine_order(static)
    assert finding.name == "masks drawn once" and isinstance(finding, Remark)


class Static(BatchStream):
    """Every epoch has the masks of the first."""

    def rows_of(self, step):
        epoch, row = super().rows_of(step)
        return 0 * epoch, row


def test_few_batches_over_and_over():
    plain = small()
    assert names(examine_streams(changed(plain, lambda s, b: plain.stream.batch(s % 10)))) == [
        "few batches over and over"
    ]
    assert StreamOf(plain.stream.batch).batch(0).inputs.shape[0] == 8


def test_the_statistic_of_chance_and_of_a_walk():
    draw = torch.Generator().manual_seed(1)
    noise = torch.randn(48, 10, generator=draw)
    assert abs(surprise(noise[::2], noise[1::2])) < 4
    walk = noise.cumsum(dim=0)
    assert surprise(walk[::2], walk[1::2]) > 6
