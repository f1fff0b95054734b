"""Masking: exact counts and proportions against the binomial law, noise against the uniform law, and its invariants."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llm_lab.config import MaskingConfig
from llm_lab.text.masking import (
    IGNORED,
    choose_targets,
    corrupt,
    gather_targets,
    mask_tokens,
    random_noise,
    row_noise,
)

MASK, SPECIALS, SIZE = 4, (0, 1, 2, 3, 4), 50


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rows_with_specials(rows, length, seed=0):
    """Ids of which about a fifth are special tokens."""
    draw = generator(seed)
    ids = torch.randint(5, SIZE, (rows, length), generator=draw)
    special = torch.rand(rows, length, generator=draw) < 0.2
    return torch.where(special, torch.randint(0, 5, (rows, length), generator=draw), ids)


def standard_score(count, draws, probability):
    """How many standard deviations a binomial count lies from its mean."""
    return (count - draws * probability) / math.sqrt(draws * probability * (1 - probability))


@given(
    st.integers(1, 40),
    st.floats(0.01, 0.99),
    st.sampled_from(["pure", "80/10/10"]),
    st.sampled_from(["exact", "bernoulli"]),
    st.integers(0, 10**6),
)
def test_what_holds_for_every_masking(length, rate, scheme, selection, seed):
    ids = rows_with_specials(6, length, seed)
    before = ids.clone()
    noise = random_noise(ids.shape, generator(seed + 1))
    config = MaskingConfig(rate, scheme, selection)
    inputs, labels = mask_tokens(ids, config, MASK, SPECIALS, SIZE, noise)
    special = torch.isin(ids, torch.tensor(SPECIALS))
    chosen = labels != IGNORED
    assert torch.equal(ids, before)  # pure: the caller's ids are as they were
    assert not (chosen & special).any()
    assert torch.equal(inputs[~chosen], ids[~chosen])
    assert torch.equal(labels[chosen], ids[chosen])
    replaced = inputs[chosen]
    assert not torch.isin(replaced, torch.tensor([0, 1, 2, 3])).any()  # [MASK] or a word
    if scheme == "pure":
        assert (replaced == MASK).all()
    again = mask_tokens(ids, config, MASK, SPECIALS, SIZE, noise)
    assert torch.equal(again.inputs, inputs) and torch.equal(again.labels, labels)
    if selection == "exact":
        for row in range(6):
            words = int((~special[row]).sum())
            assert int(chosen[row].sum()) == (max(1, round(words * rate)) if words else 0)


COUNTS = [(100, 0.15, 15), (64, 0.3, 19), (3, 0.15, 1), (1, 0.9, 1), (0, 0.5, 0)]


@pytest.mark.parametrize(("words", "rate", "count"), COUNTS)
def test_exact_counts(words, rate, count):
    ids = torch.cat((torch.full((words,), 9), torch.full((7,), 3)))[None]
    chosen = choose_targets(ids, MaskingConfig(rate), SPECIALS, torch.rand(1, words + 7, generator=generator()))
    assert int(chosen.sum()) == count


def test_exact_selection_takes_every_set_of_positions_equally_often():
    """2 of 4 positions: each of the 6 pairs has probability 1/6."""
    ids = torch.full((12_000, 4), 7)
    chosen = choose_targets(ids, MaskingConfig(0.5), SPECIALS, torch.rand(12_000, 4, generator=generator(1)))
    codes = (chosen.long() * torch.tensor([8, 4, 2, 1])).sum(dim=1)
    counts = torch.bincount(codes, minlength=16)
    pairs = counts[counts > 0]
    assert len(pairs) == 6
    assert float(((pairs - 2000) ** 2 / 2000).sum()) < 20.5  # chi-square, 5 degrees of freedom, p = 0.001


def test_bernoulli_takes_each_word_by_itself_with_its_rate():
    ids = torch.full((4000, 50), 7)
    noise = torch.rand(4000, 50, generator=generator(2))
    chosen = choose_targets(ids, MaskingConfig(0.15, selection="bernoulli"), SPECIALS, noise)
    assert abs(standard_score(int(chosen.sum()), chosen.numel(), 0.15)) < 3.5
    per_row = chosen.sum(dim=1).double()
    variance = 50 * 0.15 * 0.85  # of a binomial count; an exact count has none
    assert per_row.var() == pytest.approx(variance, rel=4 * math.sqrt(2 / 4000))


def test_the_mixture_is_80_10_10():
    """Of the replacements a 45th part equals the hidden word by chance: counted by what was put there, not by looks."""
    shape = (2000, 100)
    ids = torch.full(shape, 7)
    targets = torch.ones(shape, dtype=torch.bool)
    seen = corrupt(ids, targets, "80/10/10", MASK, SPECIALS, SIZE, random_noise(shape, generator(3))[1:])
    draws, words = seen.numel(), SIZE - len(SPECIALS)
    expected = {MASK: 0.8, 7: 0.1 + 0.1 / words, 5: 0.1 / words, SIZE - 1: 0.1 / words}
    for value, probability in expected.items():
        assert abs(standard_score(int((seen == value).sum()), draws, probability)) < 3.5, value
    counts = torch.bincount(seen.flatten(), minlength=SIZE).double()
    assert counts[:4].sum() == 0 and len(counts) == SIZE  # no other special token, nothing outside the vocabulary
    others = torch.cat((counts[5:7], counts[8:]))
    expected = draws * 0.1 / words
    assert float(((others - expected) ** 2 / expected).sum()) < 78.8  # chi-square, 44 words, p = 0.001


@pytest.mark.parametrize("selection", ["exact", "bernoulli"])
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_what_replaces_a_word_does_not_depend_on_why_it_was_chosen(selection, rate):
    """One draw for both would show [MASK] at every target: the chosen are those with little noise."""
    ids = torch.full((4000, 50), 7)
    config = MaskingConfig(rate, "80/10/10", selection)
    inputs, labels = mask_tokens(ids, config, MASK, SPECIALS, SIZE, random_noise(ids.shape, generator(8)))
    seen = inputs[labels != IGNORED]
    words = SIZE - len(SPECIALS)
    assert abs(standard_score(len(seen), ids.numel(), rate)) < 3.5
    assert abs(standard_score(int((seen == MASK).sum()), len(seen), 0.8)) < 3.5
    assert abs(standard_score(int((seen == 7).sum()), len(seen), 0.1 + 0.1 / words)) < 3.5
    assert abs(standard_score(int(((seen >= 5) & (seen < 20) & (seen != 7)).sum()), len(seen), 0.1 * 14 / words)) < 3.5


def test_random_words_skip_special_tokens_wherever_their_ids_are():
    ids = torch.full((200, 50), 7)
    everywhere = (0, 3, 20, SIZE - 1)
    seen = corrupt(ids, ids == 7, "80/10/10", 20, everywhere, SIZE, random_noise((200, 50), generator(4))[1:])
    assert set(seen.unique().tolist()) == set(range(SIZE)) - {0, 3, SIZE - 1}


def test_only_targets_are_touched_by_the_mixture():
    ids = rows_with_specials(100, 50)
    targets = choose_targets(ids, MaskingConfig(0.3), SPECIALS, torch.rand(100, 50, generator=generator(5)))
    seen = corrupt(ids, targets, "80/10/10", MASK, SPECIALS, SIZE, random_noise((100, 50), generator(6))[1:])
    assert torch.equal(seen[~targets], ids[~targets])
    assert (seen[targets] != ids[targets]).float().mean() > 0.8


def test_the_three_kinds_of_noise_are_drawn_from_the_generator_and_differ():
    noise = random_noise((4, 5), generator(7))
    assert torch.equal(noise, torch.rand(3, 4, 5, generator=generator(7)))


# -- noise that is a function of (seed, epoch, row) -------------------------------------------------------------------


def noise_of(seed, epoch, row, length=64):
    row = np.atleast_1d(row)
    return row_noise(seed, np.full_like(row, epoch), row, length)


def split_mix_64(state):
    """SplitMix64 of one number, with Python's integers."""
    full = 2**64 - 1
    z = (state + 0x9E3779B97F4A7C15) & full
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & full
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & full
    return z ^ (z >> 31)


def test_the_finalizer_is_the_published_one():
    """The first numbers of SplitMix64 started at 1234567, from the reference implementation's test."""
    golden = 0x9E3779B97F4A7C15
    assert [split_mix_64((1234567 + i * golden) % 2**64) for i in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


@pytest.mark.parametrize(("seed", "epoch", "row"), [(0, 0, 0), (3, 2, 70_000), (2**40, 9, 2**33)])
def test_noise_is_the_hash_of_its_four_numbers(seed, epoch, row):
    noise = noise_of(seed, epoch, row, length=5)
    state = split_mix_64(split_mix_64(split_mix_64(seed) ^ epoch) ^ row)
    by_hand = [(split_mix_64(state ^ split_mix_64(i)) >> 40) / 2**24 for i in range(15)]
    assert noise.flatten().tolist() == by_hand


def test_noise_is_uniform():
    noise = noise_of(0, 0, np.arange(2000), 100).double().flatten()
    n = len(noise)
    assert noise.min() >= 0 and noise.max() < 1
    assert abs(noise.mean() - 0.5) < 4 * math.sqrt(1 / 12 / n)
    assert abs(noise.var() - 1 / 12) < 4 * math.sqrt(1 / 180 / n)
    counts = torch.histc(noise, bins=256, min=0, max=1)
    expected = n / 256
    assert float(((counts - expected) ** 2 / expected).sum()) < 330.5  # chi-square, 255 degrees of freedom, p = 0.001


@pytest.mark.parametrize("neighbour", ["position", "row", "epoch", "seed", "kind"])
def test_neighbours_are_not_correlated(neighbour):
    noise = noise_of(0, 0, np.arange(1000), 100)
    pairs = {
        "position": (noise[:, :, :-1], noise[:, :, 1:]),
        "row": (noise[:, :-1], noise[:, 1:]),
        "epoch": (noise, noise_of(0, 1, np.arange(1000), 100)),
        "seed": (noise, noise_of(1, 0, np.arange(1000), 100)),
        "kind": (noise[:-1], noise[1:]),
    }
    first, second = (half.double().flatten() for half in pairs[neighbour])
    correlation = torch.corrcoef(torch.stack((first, second)))[0, 1]
    assert abs(correlation) < 4 / math.sqrt(len(first))


def test_seed_epoch_and_row_do_not_stand_in_for_one_another():
    """A sum or an exclusive or of the three would give equal noise to some of these."""
    seen = {tuple(noise_of(s, e, r, 4).flatten().tolist()) for s in range(6) for e in range(6) for r in range(6)}
    assert len(seen) == 6**3


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=8), st.integers(0, 50), st.integers(0, 2**60))
def test_a_row_has_the_same_noise_whatever_stands_beside_it(rows, epoch, seed):
    together = noise_of(seed, epoch, np.array(rows), 12)
    for i, row in enumerate(rows):
        assert torch.equal(together[:, i], noise_of(seed, epoch, row, 12)[:, 0])
    longer = noise_of(seed, epoch, np.array(rows), 13)
    assert torch.equal(longer[0, :, :12], together[0])


# -- targets without the rest -----------------------------------------------------------------------------------------


@given(st.integers(1, 6), st.integers(1, 12), st.floats(0, 1), st.integers(0, 10**6))
def test_gathered_targets_put_back_are_the_labels(rows, length, share, seed):
    draw = generator(seed)
    ids = torch.randint(0, SIZE, (rows, length), generator=draw)
    labels = ids.masked_fill(torch.rand(rows, length, generator=draw) >= share, IGNORED)
    for width in (None, length):
        positions, targets = gather_targets(labels, width)
        assert positions.shape == targets.shape
        back = torch.full_like(labels, IGNORED)
        for row, place, value in zip(
            np.repeat(np.arange(rows), positions.shape[1]), positions.flatten(), targets.flatten(), strict=True
        ):
            if value != IGNORED:
                assert back[row, place] == IGNORED  # no position twice
                back[row, place] = value
        assert torch.equal(back, labels)
        assert ((positions >= 0) & (positions < length)).all()


def test_targets_stand_in_reading_order_and_filler_points_at_0():
    labels = torch.tensor([[IGNORED, 8, IGNORED, 9], [IGNORED, IGNORED, 6, IGNORED], [IGNORED] * 4])
    positions, targets = gather_targets(labels)
    assert positions.tolist() == [[1, 3], [2, 0], [0, 0]]
    assert targets.tolist() == [[8, 9], [6, IGNORED], [IGNORED, IGNORED]]
    assert gather_targets(labels, 3)[1].shape == (3, 3)
    assert gather_targets(labels[2:])[1].tolist() == [[IGNORED]]


def test_more_targets_than_room_is_an_error():
    with pytest.raises(ValueError, match="a row has 3 targets, but there is room for 2 only"):
        gather_targets(torch.tensor([[5, 6, 7]]), 2)
