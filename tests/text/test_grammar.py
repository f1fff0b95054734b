"""The grammar against itself written out slowly: expansion to all short sentences, trees, charts in plain loops."""

import math

import numpy as np
import pytest
import torch

from llm_lab.text.dependencies import KINDS, flip_number, label
from llm_lab.text.grammar import Grammar, easy_language, hard_language
from llm_lab.text.language import PAD
from tests.text.by_hand import TINY_RULES, TINY_WORDS, plain_english, tiny

MAX_WORDS = 7  # of the tiny grammar


@pytest.fixture(scope="module")
def small():
    """A grammar with ambiguity, chains of unary rules and words in several categories."""
    return Grammar("tiny", TINY_RULES, TINY_WORDS, MAX_WORDS)


@pytest.fixture(scope="module")
def hard():
    return hard_language()


def ones(language, length):
    return torch.ones(1, length, len(language.vocabulary), dtype=torch.float64)


def split_of(language, ids):
    return language.text_of(ids).split()


# -- probabilities ----------------------------------------------------------------------------------------------------


def test_every_sentence_of_the_tiny_grammar_has_the_probability_of_its_derivations(small):
    spelled = {text: p for n in range(1, MAX_WORDS + 1) for text, p in tiny().expand(n).items()}
    assert len(spelled) == 25_952
    assert any(len(tiny().trees(text)) > 1 for text in tiny().expand(5))  # some are ambiguous
    total = math.fsum(spelled.values())  # longer sentences are never said
    assert small.log_normalizer == pytest.approx(math.log(total), abs=1e-13)
    found = small.log_probability(small.ids_of([" ".join(text) for text in spelled])).exp()
    expected = torch.tensor(list(spelled.values()), dtype=torch.float64) / total
    assert (found - expected).abs().max() < 1e-15 and (found / expected - 1).abs().max() < 1e-12
    assert found.sum() == pytest.approx(1, abs=1e-12)


def test_what_is_no_sentence_has_probability_0(small, hard):
    wrong = small.ids_of(["duck", "she she .", ". she saw", "she saw saw saw saw", "near she saw ."])
    assert small.log_probability(wrong).tolist() == [-math.inf] * 5
    assert small.log_probability(np.zeros((1, MAX_WORDS), int)).tolist() == [-math.inf]
    wrong = hard.ids_of(["the king sleep .", "a kings sleeps .", "the king sees herself .", "either the king sleeps ."])
    assert hard.log_probability(wrong).tolist() == [-math.inf] * 4


def test_unary_rules_in_a_circle_are_summed_for_ever():
    """A -> B 1/4, B -> A 1/4: the chance that A becomes one word is 3/4 + 1/4 (1/4 + 1/4 of itself) = 13/15."""
    rules = [("Root", ("A",), 1), ("A", ("B",), 1), ("A", ("W",), 3)]
    rules += [("B", ("A",), 1), ("B", ("W",), 1), ("B", ("W", "W"), 2)]
    circle = Grammar("circle", rules, {"W": {"x": 1, "y": 2}}, 2)
    found = circle.log_probability(circle.ids_of(["x", "y", "x y"])).exp()
    assert found.tolist() == pytest.approx([13 / 15 / 3, 13 / 15 * 2 / 3, 2 / 15 * 2 / 9], abs=1e-14)
    assert circle.log_normalizer == pytest.approx(0, abs=1e-14)


def test_every_short_sentence_of_the_hard_language_has_the_probability_of_its_derivations(hard):
    normalizer = math.log(math.fsum(plain_english().lengths(hard.max_words)))
    for length, count in ((1, 0), (2, 0), (3, 0), (4, 1480), (5, 18_176)):
        spelled = plain_english().expand(length)
        assert len(spelled) == count
        if count:
            parts = torch.from_numpy(hard.ids_of([" ".join(text) for text in spelled])).split(1000)
            found = torch.cat([hard.log_probability(part) for part in parts])
            expected = torch.tensor([math.log(p) - normalizer for p in spelled.values()], dtype=torch.float64)
            assert (found - expected).abs().max() < 1e-12


def test_long_sentences_have_the_probability_of_a_chart_in_plain_loops(hard):
    ids = hard.sample(60, 1)
    found = hard.log_probability(ids) + hard.log_normalizer
    expected = [math.log(plain_english().probability(split_of(hard, row))) for row in ids]
    assert max((ids != PAD).sum(axis=1)) > 20
    assert found.tolist() == pytest.approx(expected, abs=1e-11)


def test_lengths_have_the_probabilities_of_power_series_and_sum_to_1(hard, small):
    for language, plain in ((hard, plain_english()), (small, tiny())):
        expected = np.array(plain.lengths(language.max_words))
        found = [language.evidence(ones(language, n)).exp().item() for n in range(1, language.max_words + 1)]
        assert found == pytest.approx(expected[1:], abs=1e-14)
        share = expected / expected.sum()
        assert language.log_normalizer == pytest.approx(math.log(expected.sum()), abs=1e-13)
        n = 20_000
        counts = np.bincount((language.sample(n, 3) != PAD).sum(axis=1), minlength=len(share))
        possible = share * n > 10
        z = (counts - n * share)[possible] / np.sqrt(n * share * (1 - share))[possible]
        assert np.abs(z).max() < 4 and counts[share == 0].sum() == 0


def test_evidence_survives_likelihoods_of_any_size(hard):
    """Each position's likelihood may be scaled at will: the logarithm moves by that of the scale."""
    seen = torch.nn.functional.one_hot(torch.from_numpy(hard.sample(1, 8)[:, :9]), len(hard.vocabulary)).double()
    seen = seen + 1e-3
    for scale in (1e-200, 1e100):
        assert hard.evidence(seen * scale).item() == pytest.approx(
            hard.evidence(seen).item() + 9 * math.log(scale), abs=1e-9
        )


# -- samples ----------------------------------------------------------------------------------------------------------


def test_sentences_are_said_as_often_as_their_probability_says(small):
    n = 40_000
    ids, counts = np.unique(small.sample(n, 1), axis=0, return_counts=True)
    expected = n * small.log_probability(ids).exp().numpy()
    assert (expected > 0).all()
    often = expected > 8
    z = (counts - expected)[often] / np.sqrt(expected * (1 - expected / n))[often]
    assert often.sum() > 200 and np.abs(z).max() < 4.5  # the largest of some hundred
    # A seldom sentence may be missing in `ids`: all of them together must still be as frequent as they should.
    rest = n - expected[often].sum()
    assert abs(n - counts[often].sum() - rest) < 4 * math.sqrt(rest * (1 - rest / n))


@pytest.mark.parametrize("seed", [5, (1, 7, 30), [2, 0]])
def test_a_seed_is_a_number_or_several(hard, seed):
    first, again = hard.sample(50, seed), hard.sample(50, seed)
    assert np.array_equal(first, again) and first.shape == (50, 24)
    assert not np.array_equal(first, hard.sample(50, 6))
    assert (np.diff((first != PAD).astype(int), axis=1) <= 0).all()  # padding is at the end
    assert set(first[first != PAD]) <= set(range(5, len(hard.vocabulary)))


def test_trees_spell_the_sentences_and_derive_them(hard):
    n, seed = 200, (4, 2)
    ids, trees, plain = hard.sample(n, seed), hard.trees(n, seed), plain_english()
    log_probability = hard.log_probability(ids) + hard.log_normalizer
    alone = 0
    for row, tree, log_p in zip(ids, trees, log_probability.tolist(), strict=True):
        words = [leaf.word for leaf in tree.leaves()]
        assert " ".join(words) == hard.text_of(row) and tree.symbol == "Root"
        p = plain.tree_probability(tree)
        assert 0 < p <= math.exp(log_p) * (1 + 1e-11)
        if len(words) < 10 and len(plain.trees(words)) == 1:
            assert math.log(p) == pytest.approx(log_p, abs=1e-12)
            alone += 1
    assert alone > 50


def test_the_parses_of_a_sentence_share_its_probability(hard):
    (words,) = [split_of(hard, row) for row in hard.ids_of(["the king sees a boy near the dog behind the cats ."])]
    trees = plain_english().trees(words)
    assert len(trees) == 3  # both phrases go with the noun before, or one with "sees"
    total = math.fsum(p for _, p in trees)
    assert math.log(total) - hard.log_normalizer == pytest.approx(
        hard.log_probability(hard.ids_of([" ".join(words)])).item(), abs=1e-12
    )
    assert [p for _, p in trees] == pytest.approx([plain_english().tree_probability(tree) for tree, _ in trees])


def test_labels_are_those_of_the_trees(hard):
    sample, trees = hard.labelled(100, 9), hard.trees(100, 9)
    assert np.array_equal(sample.ids, hard.sample(100, 9))
    for row, kinds, tree in zip(sample.ids, sample.kinds, trees, strict=True):
        words = label(tree)
        assert [KINDS[k] for k in kinds[: len(words)]] == [word.kind for word in words]
        assert (kinds[len(words) :] == -1).all() and (kinds >= 0).sum() == (row != PAD).sum()


# -- probes -----------------------------------------------------------------------------------------------------------

FLIPPED = [kind for kind in KINDS if "verb" in kind or "reflexive" in kind or kind == "determiner"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_probe_asks_for_a_word_of_its_kind(hard, kind):
    probes = hard.probes(kind, 30, seed=2)
    assert len(probes) == 30 and all(hard.labelled(1, 0).ids[0].shape == probe.ids.shape for probe in probes)
    possible = hard.log_probability(np.stack([probe.ids for probe in probes]))
    assert possible.isfinite().all()
    for probe in probes:
        assert probe.ids[probe.position] == probe.right != probe.wrong
        assert (probe.flipped is not None) == (kind in FLIPPED and hard.vocabulary[probe.right] != "the")
        if probe.flipped is not None:
            assert probe.flipped[probe.position] == probe.wrong
            assert ((probe.flipped != PAD) == (probe.ids != PAD)).all()
    flipped = [probe.flipped for probe in probes if probe.flipped is not None]
    if kind in FLIPPED:
        assert len(flipped) > 10 and hard.log_probability(np.stack(flipped)).isfinite().all()
    if kind == "paired conjunction":
        pairs = {(hard.vocabulary[probe.right], hard.vocabulary[probe.wrong]) for probe in probes}
        assert pairs == {("or", "then"), ("then", "or")}
    if kind in ("noun", "full stop", "other"):
        assert {probe.wrong for probe in probes} == {-1}
    again = hard.probes(kind, 30, seed=2)
    assert all(np.array_equal(a.ids, b.ids) and a.position == b.position for a, b in zip(probes, again, strict=True))
    assert any(not np.array_equal(a.ids, b.ids) for a, b in zip(probes, hard.probes(kind, 30, seed=3), strict=True))


def test_an_unknown_kind_is_refused(hard):
    with pytest.raises(ValueError, match="'verb' is no kind of the language grammar: choose from full stop, paired"):
        hard.probes("verb")


# -- other seeds ------------------------------------------------------------------------------------------------------


def test_a_seed_is_a_language_of_its_own_with_the_same_words(hard):
    other = hard_language(3)
    assert other.name == "grammar:3" and hard.name == "grammar"
    assert other.words == hard.words and other.symbols == hard.symbols
    again = hard_language.__wrapped__(3)
    assert again is not other and np.array_equal(again.sample(50, 0), other.sample(50, 0))
    ids = hard.sample(300, 0)
    assert torch.equal(again.log_probability(ids), other.log_probability(ids))
    assert other.log_probability(ids).isfinite().all()  # the same sentences are possible
    difference = (other.log_probability(ids) - hard.log_probability(ids)).abs()
    assert difference.min() > 1e-6 and difference.mean() > 1
    fourth = hard_language(4).log_probability(ids)
    assert (fourth - other.log_probability(ids)).abs().min() > 1e-6


def test_the_words_of_a_family_keep_their_weights_and_change_places():
    """Rank k has the weight 1/(k+1) in every language: the set of probabilities is the same for seeds 0 and 3."""
    for category in ("Noun.as", "Prep", "Read.p", "Det.s"):
        weights = []
        for seed in (0, 3):
            language = hard_language(seed)
            k = language.symbols.index(category)
            end = [*language._first, len(language._steps)][k + 1]
            weights.append({step.word: step.probability for step in language._steps[language._first[k] : end]})
        assert weights[0].keys() == weights[1].keys()
        assert sorted(weights[0].values()) == pytest.approx(sorted(weights[1].values()))


def test_both_languages_are_there():
    assert isinstance(hard_language(), Grammar) and hard_language() is hard_language()
    assert easy_language().name == "grammar-easy"


def test_flips_of_sampled_sentences_are_possible(hard):
    """A noun of any sentence in its other number, with all that agrees, is again a sentence."""
    texts = []
    for tree in hard.trees(150, 12):
        words = label(tree)
        texts += [" ".join(flip_number(words, i)) for i, word in enumerate(words) if word.kind == "noun"]
    assert len(texts) > 300
    possible = hard.log_probability(hard.ids_of(texts)).isfinite().tolist()
    impossible = [text for text, known in zip(texts, possible, strict=True) if not known]
    # "the pies that the kings eat" is a sentence, but of one person the grammar has no such clause.
    assert all(" eats" in text for text in impossible) and len(impossible) < 0.01 * len(texts), impossible[:5]
