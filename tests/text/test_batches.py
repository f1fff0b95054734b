"""Batches: every row once an epoch, whoever reads and wherever they start; the masks belong to the row."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llm_lab.config import MaskingConfig
from llm_lab.text.batches import Batch, BatchStream, MaskedStream, fixed_batches, masked_batch
from llm_lab.text.masking import IGNORED, mask_tokens, random_noise, row_noise

MASKING = MaskingConfig(rate=0.3)


@pytest.fixture
def stream_of(tiny_dataset):
    """Make a stream over the first rows of the training part."""

    def make(num_rows=20, batch_rows=6, seed=0, masking=MASKING, **share):
        return BatchStream(tiny_dataset.train[:num_rows], tiny_dataset.tokenizer, masking, batch_rows, seed, **share)

    return make


def read(stream, steps):
    """(epoch, row) of all rows of the first `steps` batches, in order."""
    return [pair for s in range(steps) for pair in zip(*(a.tolist() for a in stream.rows_of(s)), strict=True)]


def original(batch):
    """The ids before masking, from a batch's inputs and targets."""
    ids = batch.inputs.clone()
    for row, places, targets in zip(ids, batch.positions, batch.targets, strict=True):
        for place, target in zip(places, targets, strict=True):
            if target != IGNORED:
                row[place] = target
    return ids


@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 3), st.sampled_from([1, 2, 3]))
def test_every_row_is_read_once_an_epoch_by_one_rank(num_rows, rows_each, seed, ranks):
    rows = np.arange(num_rows * 8).reshape(num_rows, 8)
    total = rows_each * ranks
    make = lambda **share: BatchStream(rows, None, MASKING, total, seed, **share)  # noqa: E731
    steps = -(-3 * num_rows // total)
    alone = read(make(), steps)
    counts = Counter(alone)
    assert all(counts[epoch, row] == 1 for epoch in range(3) for row in range(num_rows))
    assert [epoch for epoch, _ in alone] == sorted(epoch for epoch, _ in alone)
    shares = [make(rank=rank, world_size=ranks) for rank in range(ranks)]
    for step in range(steps):
        parts = [pair for share in shares for pair in zip(*(a.tolist() for a in share.rows_of(step)), strict=True)]
        assert sorted(parts) == sorted(alone[step * total : (step + 1) * total])
        assert {len(share.rows_of(step)[1]) for share in shares} == {rows_each}


def test_epochs_and_seeds_have_their_own_orders(stream_of):
    orders = [[row for _, row in read(stream_of(batch_rows=20, seed=seed), 3)] for seed in (0, 1)]
    epochs = [order[i : i + 20] for order in orders for i in (0, 20, 40)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6
    assert list(range(20)) not in epochs  # shuffled


def test_a_batch_is_a_function_of_its_number(stream_of):
    """A resumed run starts at any step without having read what came before."""
    first = [stream_of().batch(step) for step in range(12)]
    for step in (11, 4, 0, 7):
        again = stream_of().batch(step)
        for name in ("inputs", "positions", "targets"):
            assert torch.equal(getattr(again, name), getattr(first[step], name))


def test_a_batch_holds_the_masked_rows_it_names(stream_of, tiny_dataset):
    stream = stream_of()
    for step in range(10):
        batch = stream.batch(step)
        _, row = stream.rows_of(step)
        ids = torch.from_numpy(tiny_dataset.train[row].astype(np.int64))
        assert torch.equal(original(batch), ids)
        hidden = batch.inputs == tiny_dataset.tokenizer.mask_id
        words = ~torch.isin(ids, torch.tensor(tiny_dataset.tokenizer.special_ids))
        assert hidden.sum(dim=1).tolist() == [max(1, round(n * 0.3)) for n in words.sum(dim=1).tolist()]
        assert batch.num_targets == int(hidden.sum())
        assert batch.num_tokens == 6 * 16
        assert batch.positions.shape == (6, round(16 * 0.3))  # one shape for all batches


def test_a_row_is_masked_alike_on_every_rank_and_in_every_batch_but_not_in_every_epoch(stream_of):
    def masked_rows(streams, steps):
        seen = {}
        for stream in streams:
            for step in range(steps):
                for key, inputs in zip(zip(*stream.rows_of(step), strict=True), stream.batch(step).inputs, strict=True):
                    seen[tuple(map(int, key))] = inputs.tolist()
        return seen

    one = masked_rows([stream_of(batch_rows=4)], 10)
    assert masked_rows([stream_of(batch_rows=4, rank=r, world_size=2) for r in (0, 1)], 10) == one
    assert masked_rows([stream_of(batch_rows=10)], 4) == one
    assert len(one) == 40
    assert sum(one[0, row] == one[1, row] for row in range(20)) <= 1
    other = masked_rows([stream_of(batch_rows=4, seed=5)], 10)
    assert sum(one[key] == other[key] for key in one) <= 2


def test_bernoulli_batches_keep_all_their_targets(stream_of, tiny_dataset):
    stream = stream_of(masking=MaskingConfig(rate=0.5, selection="bernoulli", scheme="80/10/10"))
    for step in range(10):
        batch = stream.batch(step)
        _, row = stream.rows_of(step)
        assert torch.equal(original(batch), torch.from_numpy(tiny_dataset.train[row].astype(np.int64)))


def test_parts_joined_are_the_batch(stream_of):
    batch = stream_of(batch_rows=12).batch(0)
    for parts in (1, 2, 3, 4, 12):
        pieces = batch.split(parts)
        assert len(pieces) == parts
        for name in ("inputs", "positions", "targets"):
            assert torch.equal(torch.cat([getattr(piece, name) for piece in pieces]), getattr(batch, name))
        assert sum(piece.num_targets for piece in pieces) == batch.num_targets
    moved = batch.to("cpu")
    assert isinstance(moved, Batch) and torch.equal(moved.inputs, batch.inputs)


def test_fixed_batches_read_all_rows_in_order_with_the_same_masks_always(tiny_dataset):
    rows, tokenizer = tiny_dataset.held_out, tiny_dataset.tokenizer
    batches = fixed_batches(rows, tokenizer, MaskingConfig(0.15), 16)
    assert torch.equal(torch.cat([original(batch) for batch in batches]), torch.from_numpy(rows.astype(np.int64)))
    assert [len(batch.inputs) for batch in batches[:-1]] == [16] * ((len(rows) - 1) // 16)
    inputs = torch.cat([batch.inputs for batch in batches])
    torch.manual_seed(99)
    np.random.seed(99)
    for batch_rows in (7, 16, 1000):  # neither chance nor the cut into batches changes a mask
        again = torch.cat([batch.inputs for batch in fixed_batches(rows, tokenizer, MaskingConfig(0.15), batch_rows)])
        assert torch.equal(again, inputs)
    other = torch.cat([batch.inputs for batch in fixed_batches(rows, tokenizer, MaskingConfig(0.15), 16, seed=1)])
    assert not torch.equal(other, inputs)


def test_what_can_not_be_read_is_refused(stream_of, tiny_dataset):
    with pytest.raises(ValueError, match="there are no rows to draw batches from"):
        stream_of(num_rows=0)
    with pytest.raises(ValueError, match="there are no rows"):
        BatchStream(np.arange(5), tiny_dataset.tokenizer, MASKING, 2, 0)
    with pytest.raises(ValueError, match="6 rows can't be shared by 4 processes"):
        stream_of(rank=0, world_size=4)


# -- rows of unequal length -------------------------------------------------------------------------------------------


def padded_rows(lengths, width=16):
    """Rows of words from 5 on, each of its own length, padded with 0."""
    rows = np.zeros((len(lengths), width), np.int64)
    for i, length in enumerate(lengths):
        rows[i, :length] = 5 + (np.arange(length) + i) % 40
    return rows


LENGTHS = st.lists(st.integers(1, 16), min_size=1, max_size=12)


@given(LENGTHS, st.sampled_from(["exact", "bernoulli"]), st.integers(0, 10**6))
def test_a_batch_is_as_long_as_its_longest_row_and_says_where_padding_is(tiny_tokenizer, lengths, selection, seed):
    rows, masking = padded_rows(lengths), MaskingConfig(0.3, "80/10/10", selection)
    noise = random_noise(rows.shape, torch.Generator().manual_seed(seed))
    batch = masked_batch(rows, noise, tiny_tokenizer, masking)
    longest = max(lengths)
    full = mask_tokens(
        torch.from_numpy(rows), masking, tiny_tokenizer.mask_id, range(5), tiny_tokenizer.vocabulary_size, noise
    )
    assert torch.equal(batch.inputs, full.inputs[:, :longest])  # the masks are those of the whole row
    assert torch.equal(original(batch), torch.from_numpy(rows[:, :longest]))
    assert batch.num_tokens == sum(lengths)
    if set(lengths) == {longest}:
        assert batch.mask is None
    else:
        assert batch.mask.tolist() == [[t < length for t in range(longest)] for length in lengths]
        kept = batch.to("cpu")
        assert torch.equal(kept.mask, batch.mask) and kept.num_tokens == batch.num_tokens


@given(st.lists(st.integers(1, 16), min_size=12, max_size=12), st.sampled_from([1, 2, 3, 4, 6, 12]))
def test_parts_are_as_long_as_their_own_longest_row(tiny_tokenizer, lengths, parts):
    rows = padded_rows(lengths)
    noise = random_noise(rows.shape, torch.Generator().manual_seed(0))
    batch = masked_batch(rows, noise, tiny_tokenizer, MaskingConfig(0.3, selection="bernoulli"))
    pieces, each = batch.split(parts), 12 // parts
    assert len(pieces) == parts
    for i, piece in enumerate(pieces):
        own = lengths[i * each : (i + 1) * each]
        if batch.mask is not None:
            assert piece.inputs.shape == (each, max(own)) and (piece.mask is None) == (len(set(own)) == 1)
        assert torch.equal(original(piece), torch.from_numpy(rows[i * each : (i + 1) * each, : max(own)]))
        assert torch.equal(piece.inputs, batch.inputs[i * each : (i + 1) * each, : max(own)])
        assert piece.num_tokens == sum(own)
    assert sum(piece.num_targets for piece in pieces) == batch.num_targets


class Counting(MaskedStream):
    """Rows that are a function of their number, endless."""

    def rows_of(self, step):
        place = self.places_of(step)
        return place * 0, place

    def ids_of(self, row):
        return np.stack([padded_rows([4 + i % 5])[0] for i in row])


def test_a_stream_of_ones_own_rows(tiny_tokenizer):
    with pytest.raises(TypeError, match="abstract"):
        MaskedStream(tiny_tokenizer, MASKING, 6, 0, 0, 1)
    masking = MaskingConfig(0.4, selection="bernoulli")
    whole = Counting(tiny_tokenizer, masking, 6, 9, 0, 1)
    assert whole.places_of(2).tolist() == [12, 13, 14, 15, 16, 17]
    share = Counting(tiny_tokenizer, masking, 6, 9, 1, 3)
    assert share.places_of(2).tolist() == [13, 16]
    batch, rows = whole.batch(2), whole.ids_of(np.arange(12, 18))
    assert torch.equal(original(batch), torch.from_numpy(rows[:, : batch.inputs.shape[1]]))
    expected = masked_batch(rows, row_noise(9, np.zeros(6, int), np.arange(12, 18), 16), tiny_tokenizer, masking)
    assert torch.equal(batch.inputs, expected.inputs)
    for mine, theirs in ((0, 1), (1, 4)):
        length = 4 + (12 + theirs) % 5
        assert torch.equal(share.batch(2).inputs[mine, :length], batch.inputs[theirs, :length])
    with pytest.raises(ValueError, match="7 rows can't be shared by 2 processes"):
        Counting(tiny_tokenizer, masking, 7, 0, 0, 2)
