"""The streams' examination: against streams broken on purpose, and counts by hand."""

from __future__ import annotations

from dataclasses import replace

import torch

from llm_lab.train.doctor.streams import alike, examine_streams, row_set, same
from llm_lab.ward import DATASET, TrainingRun
from llm_lab.ward.data_bugs import OwnMasking
from llm_lab.ward.run import StreamOf
from tests.train.doctor.runs import SMALL, batch_of, names, small


def test_same_looks_at_inputs_positions_and_targets():
    batch = batch_of([[2, 4, 7, 3]], [[1, 0]], [[9, -100]])
    assert same(batch, batch_of([[2, 4, 7, 3]], [[1, 0]], [[9, -100]]))
    for other in (
        batch_of([[2, 4, 8, 3]], [[1, 0]], [[9, -100]]),
        batch_of([[2, 4, 7, 3]], [[2, 0]], [[9, -100]]),
        batch_of([[2, 4, 7, 3]], [[1, 0]], [[8, -100]]),
        batch_of([[2, 4, 7, 3]], [[1]], [[9]]),
    ):
        assert not same(batch, other)


def test_the_rows_are_those_before_words_were_hidden():
    subject = small()
    batch = batch_of([[2, 4, 7, 3], [2, 8, 3, 0]], [[1, 0], [0, 0]], [[9, -100], [-100, -100]])
    expected = {torch.tensor(ids).numpy().tobytes() for ids in ([2, 9, 7, 3], [2, 8, 3])}
    assert row_set(subject, [batch]) == expected


def test_alike_counts_places_hidden_in_both():
    # Hidden: places 1, 2 and 1, 3; words up to place 3 in both; place 4 is padding in the second.
    one = batch_of([[2, 4, 4, 9, 4, 3]], [[1, 2, 4]], [[7, 7, 7]])
    other = batch_of([[2, 4, 9, 4, 0, 0]], [[1, 3, 0]], [[8, 8, -100]])
    assert alike([(one, other)]) == 1 / 3
    assert alike([(one, one)]) == 1 and alike([(one, other), (one, one)]) == (1 + 3) / (3 + 3)


def test_healthy_streams():
    assert examine_streams(small()) == []
    assert examine_streams(small(batch_rows=2)) == []
    assert examine_streams(OwnMasking(**SMALL).subject()) == []


def test_one_batch_for_ever():
    subject = small()
    same_always = replace(subject, stream=StreamOf(lambda step: subject.stream.batch(0)))
    assert names(examine_streams(same_always)) == ["one batch for ever"]


def test_ranks_that_read_the_same_rows_with_the_same_or_with_other_masks():
    run = TrainingRun(**SMALL)
    shared = replace(run.subject(), stream_of=lambda rank, world: DATASET.stream(run.masking, 8, 0))
    assert names(examine_streams(shared)) == ["ranks read the same data"]

    class OtherMasks(OwnMasking):
        def seed_of(self, step, ids):
            return self.salt + super().seed_of(step, ids)

    def stream_of(rank, world):
        run = OtherMasks(**SMALL)
        run.salt = rank
        return run.stream_of(0, 1)

    OtherMasks.salt = 0
    assert not same(stream_of(0, 2).batch(0), stream_of(1, 2).batch(0))
    assert names(examine_streams(replace(shared, stream_of=stream_of))) == ["ranks read the same data"]


def test_a_resumed_run_that_reads_an_older_batch_or_anything_else():
    subject = small()
    for lag, words in ((1, "reads batch 4 again"), (-7, "reads other data")):
        late = StreamOf(lambda step, lag=lag: subject.stream.batch(step - lag))
        (finding,) = examine_streams(replace(subject, resumed=lambda step, late=late: late))
        assert finding.name == "resume loses its place" and words in finding.sentence


def test_what_is_not_given_is_not_examined():
    assert examine_streams(replace(small(), stream_of=None, resumed=None)) == []
