"""Minimal pairs: the scores token by token, the oracle's against whole sentences, and our own pairs held to rules."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from llm_lab import home
from llm_lab.config import ModelConfig
from llm_lab.lessons import SHIPPED
from llm_lab.model.heads import MaskedLanguageModel
from llm_lab.tasks import minimal_pairs as module
from llm_lab.tasks.masked_language_model import pseudo_perplexity
from llm_lab.tasks.minimal_pairs import (
    Pair,
    log_guesses_at,
    model_scores,
    oracle_scores,
    pairs_of,
    place_of_difference,
    preferred,
    probes_by_kind,
    pseudo_log_likelihoods,
    read_pairs,
    scores_at_place,
    scores_by_sentence,
    spelled,
)
from llm_lab.text.grammar import easy_language, hard_language
from llm_lab.text.tokenizer import load_tokenizer

PAIRS = [
    Pair("a", "The old lamp is red.", "The old boat is red."),
    Pair("b", "A green boat near the river.", "A green near boat the river."),
    Pair("a", "One child paints the lamp.", "One child paints the clock."),
    Pair("c", "The lamp.", "The lamp near the river."),
]


def random_model(size):
    torch.manual_seed(0)
    built = MaskedLanguageModel(ModelConfig(size, 16, 2, 2, 24, max_length=64, dropout=0.3))
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return built


@pytest.fixture(scope="module")
def model(tiny_tokenizer):
    return random_model(tiny_tokenizer.vocabulary_size)


@pytest.fixture(scope="module")
def language():
    return hard_language()


@pytest.fixture(scope="module")
def probes(language):
    """A dozen of each kind: the rare ones take a while to find."""
    return probes_by_kind(language, 12, 3)


def log_p_at(model, ids, place, mask_id):
    """log-probabilities at one hidden place of one row, with nobody else in the batch."""
    hidden = [*ids[:place], mask_id, *ids[place + 1 :]]
    with torch.no_grad():
        return model.eval()(torch.tensor([hidden]))[0, place].double().log_softmax(dim=-1)


# -- our own pairs ----------------------------------------------------------------------------------------------------


def test_the_english_pairs_keep_their_rules():
    tokenizer, pairs = load_tokenizer(SHIPPED / "tokenizer.json"), read_pairs()
    count = Counter(pair.phenomenon for pair in pairs)
    assert len(count) >= 10 and min(count.values()) >= 6 and 60 <= len(pairs) <= 80
    assert len({pair.right for pair in pairs} | {pair.wrong for pair in pairs}) == 2 * len(pairs)
    assert spelled(pairs, tokenizer) == pairs
    for pair in pairs:
        right, wrong = tokenizer.encode(pair.right), tokenizer.encode(pair.wrong)
        assert len(right) == len(wrong), pair
        if pair.phenomenon == "word order":
            assert sorted(right) == sorted(wrong) and place_of_difference(right, wrong) is None
        else:
            assert place_of_difference(right, wrong) is not None, pair
        assert all(text[0].isupper() and text.endswith(".") for text in pair[1:])


def test_the_readme_of_the_data_says_where_they_come_from():
    readme = (home.REPOSITORY / "data" / "README.md").read_text(encoding="utf-8")
    (line,) = [line for line in readme.splitlines() if "minimal_pairs.csv" in line]
    assert "written for this course" in line and str(len(read_pairs())) in line


def test_the_checkpoint_of_the_course_prefers_right_english():
    """A chance score would be a half; a reversed one near 0."""
    from llm_lab.tasks.pretrained import load_pretrained

    shipped, pairs = load_pretrained(SHIPPED), read_pairs()
    scores = scores_at_place(shipped.model, shipped.tokenizer, pairs)
    assert preferred(scores[~scores.isnan()]) >= 0.85 * int((~scores.isnan()).sum())
    assert int(scores.isnan().sum()) == sum(pair.phenomenon == "word order" for pair in pairs)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("phenomenon,right\na,b\n", r"has the columns \['phenomenon', 'right'\]: give it phenomenon, right, wrong"),
        ("", "has the columns None"),
        ("phenomenon,right,wrong\na,b,c\na,b,b\n", "line 3, is no pair: give two sentences that differ"),
        ("phenomenon,right,wrong\na,b\n", "line 2, is no pair"),
        ("phenomenon,right,wrong\na,b,c,d\n", "line 2, is no pair"),
    ],
)
def test_a_file_that_holds_no_pairs(tmp_path, content, words):
    (tmp_path / "pairs.csv").write_text(content)
    with pytest.raises(ValueError, match=words):
        read_pairs(tmp_path / "pairs.csv")


def test_pairs_with_commas_and_quotes_are_read(tmp_path):
    (tmp_path / "pairs.csv").write_text('phenomenon,right,wrong\na,"If so, go.","If so, ""go""."\n', encoding="utf-8")
    assert read_pairs(tmp_path / "pairs.csv") == [Pair("a", "If so, go.", 'If so, "go".')]


def test_what_the_vocabulary_can_not_spell_is_left_out(tiny_tokenizer):
    odd = [
        Pair("a", "The лампа.", "The lamp."),
        Pair("a", "The lamp.", "The лампа."),
        Pair("a", "The Lamp.", "the lamp."),
    ]
    assert spelled([*odd, *PAIRS], tiny_tokenizer) == PAIRS


@pytest.mark.parametrize(
    ("right", "wrong", "place"), [([2, 7, 3], [2, 8, 3], 1), ([2, 7, 3], [2, 7, 9, 3], None), ([5, 6], [6, 5], None)]
)
def test_the_place_of_the_difference(right, wrong, place):
    assert place_of_difference(right, wrong) == place and place_of_difference(right, right) is None


# -- scores -----------------------------------------------------------------------------------------------------------


def test_the_score_at_the_place_is_a_difference_of_two_log_probabilities(model, tiny_tokenizer):
    found = scores_at_place(model.train(), tiny_tokenizer, PAIRS)
    assert found[[1, 3]].isnan().all()
    for i in (0, 2):
        right, wrong = tiny_tokenizer.encode(PAIRS[i].right), tiny_tokenizer.encode(PAIRS[i].wrong)
        place = place_of_difference(right, wrong)
        log_p = log_p_at(model, right, place, tiny_tokenizer.mask_id)
        assert found[i].item() == pytest.approx((log_p[right[place]] - log_p[wrong[place]]).item(), abs=1e-4)
    swapped = scores_at_place(model, tiny_tokenizer, [Pair(p.phenomenon, p.wrong, p.right) for p in PAIRS])
    assert torch.allclose(swapped[[0, 2]], -found[[0, 2]], atol=1e-5)


def test_the_score_by_sentence_adds_up_every_token(model, tiny_tokenizer, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 3)  # rows of one length are read in several parts
    found = scores_by_sentence(model.train(), tiny_tokenizer, PAIRS)
    for score, pair in zip(found.tolist(), PAIRS, strict=True):
        sums = []
        for text in pair[1:]:
            ids = tiny_tokenizer.encode(text)
            parts = [log_p_at(model, ids, i, tiny_tokenizer.mask_id)[ids[i]].item() for i in range(1, len(ids) - 1)]
            sums.append(sum(parts))
        assert score == pytest.approx(sums[0] - sums[1], abs=1e-4)


def test_pseudo_log_likelihood_and_pseudo_perplexity_are_one(model, tiny_tokenizer):
    texts = [text for pair in PAIRS for text in pair[1:]]
    rows = [tiny_tokenizer.encode(text) for text in texts]
    total = pseudo_log_likelihoods(model, rows, tiny_tokenizer).sum().item()
    tokens = sum(len(row) - 2 for row in rows)
    assert math.exp(-total / tokens) == pytest.approx(pseudo_perplexity(model, tiny_tokenizer, texts), rel=1e-5)


def test_guesses_come_back_in_the_order_they_were_asked(model, tiny_tokenizer, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 2)
    rows = [np.array(tiny_tokenizer.encode(pair.right)) for pair in PAIRS]
    places = [2, 1, 3, 1]
    found = log_guesses_at(model, rows, places)
    alone = torch.cat([log_guesses_at(model, [row], [place]) for row, place in zip(rows, places, strict=True)])
    assert torch.allclose(found, alone, atol=1e-5) and torch.allclose(
        found.exp().sum(dim=1), torch.ones(4).double(), atol=1e-5
    )
    tokens = [7, 8, 9, 10]
    assert torch.allclose(log_guesses_at(model, rows, places, tokens), found[range(4), tokens], atol=1e-6)
    assert len(log_guesses_at(model, [], [])) == 0 and not found.requires_grad


def test_an_undecided_score_is_half_a_preference():
    assert preferred(torch.tensor([0.1, 3.0, torch.inf, 0.0, -0.2, -torch.inf])) == 3.5
    assert preferred(torch.zeros(0)) == 0


# -- the known language -----------------------------------------------------------------------------------------------


def test_each_kind_with_a_wrong_word_has_its_pairs(language, probes):
    assert set(probes) == {kind for kind in language.kinds if kind not in ("full stop", "noun", "other")}
    for kind, some in probes.items():
        assert len(some) == 12 or kind == "determiner"
        for pair, probe in zip(pairs_of(some, language, kind), some, strict=True):
            right, wrong = pair.right.split(), pair.wrong.split()
            assert [i for i, (a, b) in enumerate(zip(right, wrong, strict=True)) if a != b] == [probe.position]
            assert language.vocabulary[probe.right] == right[probe.position] and pair.phenomenon == kind
    assert probes_by_kind(easy_language(), 5) == {}


def test_the_oracles_score_is_the_difference_of_two_whole_sentences(language, probes):
    """The posterior of one hidden word against the probability of each sentence, summed over all its trees."""
    for kind, some in probes.items():
        pairs = pairs_of(some, language, kind)
        right = language.log_probability(language.ids_of([pair.right for pair in pairs]))
        wrong = language.log_probability(language.ids_of([pair.wrong for pair in pairs]))
        found = oracle_scores(language, some)
        possible = wrong.isfinite()
        assert torch.allclose(found[possible], (right - wrong)[possible], atol=1e-8)
        assert (found[~possible] > 25).all()  # up to rounding, never


def test_a_model_of_the_language_is_scored_by_the_same_rule_as_on_text(language, probes):
    model = random_model(len(language.vocabulary))
    for kind, some in probes.items():
        expected = scores_at_place(model, language.tokenizer, pairs_of(some, language, kind))
        assert torch.allclose(model_scores(model, language, some), expected, atol=1e-5)
