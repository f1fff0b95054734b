"""The easy language: its tables read again, sums over all its tags and topics, forward and backward in plain loops."""

import itertools
import math

import numpy as np
import pytest
import torch

from llm_lab.text import markov
from llm_lab.text.grammar import easy_language
from llm_lab.text.markov import FIRST_TAG, NEXT_TAG, NUM_WORDS, TAGS, TOPICS, HiddenMarkovLanguage
from llm_lab.text.optimum import posterior
from tests.text.test_optimum import channel_by_hand

MASK = 4


@pytest.fixture(scope="module")
def easy():
    return easy_language()


def emission_by_hand(tag, topic):
    """P(word | tag, topic), from the lists: of each list the k-th word has a share of 1/(k+1), k = 1, 2, ..."""
    if tag in markov.SHARED_WORDS:
        lists, shares = [markov.SHARED_WORDS[tag]], [1.0]
    else:
        lists = list(markov.TOPIC_WORDS[tag])
        shares = [0.96 if other == topic else 0.02 for other in range(3)]
    weights = {}
    for words, share in zip(lists, shares, strict=True):
        for rank, word in enumerate(words.split(), start=1):
            weights[word] = weights.get(word, 0) + share / (rank + 1)
    total = sum(weights.values())
    return {word: weight / total for word, weight in weights.items()}


@pytest.fixture(scope="module")
def tables(easy):
    """(first, next, words) as nested lists: P(tag), P(tag | tag before), P(word | topic, tag) by id."""
    first = [p / sum(FIRST_TAG) for p in FIRST_TAG]
    after = [[p / sum(NEXT_TAG[tag]) for p in NEXT_TAG[tag]] for tag in TAGS]
    words = [[[0.0] * len(easy.vocabulary) for _ in TAGS] for _ in TOPICS]
    for topic, (t, tag) in itertools.product(range(3), enumerate(TAGS)):
        for word, p in emission_by_hand(tag, topic).items():
            words[topic][t][easy.vocabulary.index(word)] = p
    return first, after, words


def test_the_tables_are_probabilities(easy, tables):
    first, after, words = tables
    assert easy.initial.sum() == pytest.approx(1) and np.allclose(easy.transition.sum(axis=1), 1, rtol=0, atol=1e-15)
    assert np.allclose(easy.initial, np.tile(first, 3) / 3, rtol=0, atol=1e-15)
    assert np.allclose(easy.emission, np.array(words).reshape(24, -1), rtol=0, atol=1e-15)
    for a, b in itertools.product(range(24), range(24)):
        expected = after[a % 8][b % 8] if a // 8 == b // 8 else 0.0
        assert easy.transition[a, b] == pytest.approx(expected, abs=1e-15)
    assert len(easy.words) == 50 and (easy.emission[:, :5] == 0).all()


def all_paths(tables, length):
    """(topic, tags, probability) of every way to choose a topic and tags."""
    first, after, _ = tables
    for tags in itertools.product(range(8), repeat=length):
        p = first[tags[0]] / 3
        for a, b in itertools.pairwise(tags):
            p *= after[a][b]
        if p:
            yield from ((topic, tags, p) for topic in range(3))


def by_enumeration(tables, seen, scored, position):
    """The posterior at one position: `seen` and `scored` (T, V) are likelihoods of the words."""
    words = np.array(tables[2])
    fits = np.einsum("gtv,sv->sgt", words, seen)  # (T, topic, tag)
    total = np.zeros(seen.shape[1])
    for topic, tags, p in all_paths(tables, len(seen)):
        for other, tag in enumerate(tags):
            if other != position:
                p *= fits[other, topic, tag]
        total += p * words[topic, tags[position]]
    total *= scored[position]
    return total / total.sum()


@pytest.mark.parametrize("scheme", ["pure", "80/10/10"])
@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_the_posterior_is_the_sum_over_all_topics_and_tags(easy, tables, length, scheme):
    ids = easy.sample(4, length)[:, :length]
    hidden = np.random.default_rng(length).random(ids.shape) < 0.5
    hidden[0], hidden[1] = True, False
    observed = np.where(hidden, MASK, ids)
    found = posterior(easy, np.pad(observed, ((0, 0), (0, 3))), 0.3, scheme).numpy()
    assert (found[:, length:] == 0).all()
    for row in range(4):
        seen = channel_by_hand(easy, observed[row], 0.3, scheme)
        scored = channel_by_hand(easy, observed[row], 1.0, scheme)
        for position in range(length):
            if scheme == "pure" and not hidden[row, position]:
                assert found[row, position].argmax() == ids[row, position] and found[row, position].max() == 1
                continue
            expected = by_enumeration(tables, seen, scored, position)
            assert np.abs(found[row, position] - expected).max() < 1e-12


@pytest.mark.parametrize("length", [1, 2, 3])
def test_all_rows_of_words_together_have_probability_1(easy, tables, length):
    """Of the first two words all pairs are listed, of longer rows the sum is the evidence of seeing nothing."""
    unseen = torch.ones(1, length, len(easy.vocabulary), dtype=torch.float64)
    assert easy.evidence(unseen).item() == pytest.approx(0, abs=1e-13)
    if length > 2:
        return
    rows = np.array(list(itertools.product(range(5, 55), repeat=length)))  # impossible ones as well
    probability = easy.log_probability(rows).exp().numpy()
    assert probability.sum() == pytest.approx(1, abs=1e-12) and (probability == 0).any()
    words = np.array(tables[2])
    for row, p in list(zip(rows, probability, strict=True))[::37]:
        paths = ((topic, tags, q) for topic, tags, q in all_paths(tables, length))
        expected = sum(q * math.prod(words[g, t, i] for t, i in zip(tags, row, strict=True)) for g, tags, q in paths)
        assert p == pytest.approx(expected, abs=1e-15)


def forward_backward(tables, seen):
    """P(state at each position and all that is seen), (T, topic, tag), without what is seen at the position itself."""
    first, after, words = (np.array(table) for table in tables)
    fits = np.einsum("gtv,sv->sgt", words, seen)
    length = len(seen)
    before = np.zeros((length, 3, 8))  # from the left, the word here left out
    behind = np.ones((length, 3, 8))
    for topic in range(3):
        for t in range(length):
            for tag in range(8):
                if t == 0:
                    before[t, topic, tag] = first[tag] / 3
                else:
                    before[t, topic, tag] = sum(
                        before[t - 1, topic, a] * fits[t - 1, topic, a] * after[a, tag] for a in range(8)
                    )
        for t in range(length - 2, -1, -1):
            for tag in range(8):
                behind[t, topic, tag] = sum(
                    after[tag, b] * fits[t + 1, topic, b] * behind[t + 1, topic, b] for b in range(8)
                )
    return before * behind, fits


@pytest.mark.parametrize(("scheme", "rate"), [("pure", 0.15), ("80/10/10", 0.15), ("80/10/10", 0.4)])
def test_the_posterior_is_forward_times_backward(easy, tables, scheme, rate):
    ids = easy.sample(8, 5)
    hidden = np.random.default_rng(1).random(ids.shape) < rate
    observed = np.where(hidden, MASK, ids)
    found = posterior(easy, observed, rate, scheme).numpy()
    for row in range(8):
        seen = channel_by_hand(easy, observed[row], rate, scheme)
        states, fits = forward_backward(tables, seen)
        evidence = easy.evidence(torch.from_numpy(seen)[None]).item()
        for t in (0, 11, 23):
            assert math.log((states[t] * fits[t]).sum()) == pytest.approx(evidence, abs=1e-10)
        joint = np.einsum("sgt,gtv->sv", states, np.array(tables[2]))
        joint *= channel_by_hand(easy, observed[row], 1.0, scheme)
        places = hidden[row] if scheme == "pure" else np.full(NUM_WORDS, True)
        expected = joint[places] / joint[places].sum(axis=1, keepdims=True)
        assert np.abs(found[row][places] - expected).max() < 1e-12


def test_sampled_tags_and_words_follow_the_tables(easy, tables):
    first, after, words = tables
    n = 6000
    sample = easy.labelled(n, 3)
    tags = sample.kinds
    assert np.array_equal(sample.ids, easy.sample(n, 3)) and sample.ids.shape == (n, NUM_WORDS)

    def fits(counts, p):
        counts, p = np.asarray(counts, float), np.asarray(p)
        assert counts[p == 0].sum() == 0
        often = counts.sum() * p > 10
        z = (counts - counts.sum() * p)[often] / np.sqrt(counts.sum() * p * (1 - p) + 1e-12)[often]
        assert np.abs(z).max() < 4.5

    fits(np.bincount(tags[:, 0], minlength=8), first)
    for tag in range(8):
        fits(np.bincount(tags[:, 1:][tags[:, :-1] == tag], minlength=8), after[tag])
    for tag, name in enumerate(TAGS):
        if name in markov.SHARED_WORDS:
            fits(np.bincount(sample.ids[tags == tag], minlength=55), words[0][tag])
    # The topic stays: a sentence with two words that belong to a single topic has them from the same one, mostly.
    own = {"kitchen": "pot knife bread", "sea": "wave boat wind", "school": "lesson pencil book"}
    of = {easy.vocabulary.index(w): k for k, line in enumerate(own.values()) for w in line.split()}
    pairs = [[of[i] for i in row if i in of][:2] for row in sample.ids.tolist()]
    pairs = [pair for pair in pairs if len(pair) == 2]
    assert len(pairs) > 1000 and np.mean([a == b for a, b in pairs]) > 0.85


@pytest.mark.parametrize("seed", [5, (1, 7, 30)])
def test_a_seed_is_a_number_or_several(easy, seed):
    first = easy.sample(20, seed)
    assert np.array_equal(first, easy.sample(20, seed)) and first.shape == (20, NUM_WORDS)
    assert not np.array_equal(first, easy.sample(20, 6))


@pytest.mark.parametrize("kind", TAGS)
def test_a_probe_asks_for_a_word_of_its_tag(easy, kind):
    words = {w for topic in range(3) for w in emission_by_hand(kind, topic)}
    probes = easy.probes(kind, 25, seed=4)
    assert len(probes) == 25
    for probe in probes:
        assert probe.ids[probe.position] == probe.right and easy.vocabulary[probe.right] in words
        assert probe.wrong == -1 and probe.flipped is None


def test_an_unknown_tag_is_refused(easy):
    with pytest.raises(ValueError, match="'comma' is no kind of the language grammar-easy: choose from determiner"):
        easy.probes("comma")


def test_another_seed_is_another_language_of_the_same_words(easy):
    one, again, other = HiddenMarkovLanguage(3), HiddenMarkovLanguage(3), HiddenMarkovLanguage(4)
    assert one.words == easy.words and one.name == "grammar-easy:3" and easy.name == "grammar-easy"
    for name in ("initial", "transition", "emission"):
        a, b, c = (getattr(language, name) for language in (one, other, easy))
        assert np.array_equal(a, getattr(again, name))
        assert np.abs(a - b).max() > 0.01 and np.abs(a - c).max() > 0.01
        assert np.allclose(a.sum(axis=-1), 1, rtol=0, atol=1e-14)
        assert np.array_equal(a > 0, c > 0)  # what was possible still is, and nothing else
    assert one.emission[:, :5].max() == 0
