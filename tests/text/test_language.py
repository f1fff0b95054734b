"""What both languages share: ids and text, rows by their length, probes as questions, and refused sentences."""

import math

import numpy as np
import pytest
import torch

from llm_lab.text.grammar import easy_language, hard_language
from llm_lab.text.language import MASK, PAD, Probe, log_sum
from llm_lab.text.tokenizer import SPECIAL_TOKENS


@pytest.fixture(params=["easy", "hard"])
def language(request):
    return easy_language() if request.param == "easy" else hard_language()


def test_words_follow_the_special_tokens_in_the_order_of_the_alphabet(language):
    assert language.vocabulary[:5] == SPECIAL_TOKENS and language.vocabulary[5:] == language.words
    assert list(language.words) == sorted(set(language.words))
    assert [language.tokenizer.id_of(word) for word in language.vocabulary] == list(range(len(language.vocabulary)))
    assert (PAD, MASK) == (language.tokenizer.pad_id, language.tokenizer.mask_id) == (0, 4)


def test_text_comes_back(language):
    ids = language.sample(40, 3)
    texts = [language.text_of(row) for row in ids]
    assert np.array_equal(language.ids_of(texts), ids)
    assert texts[0].split() == [language.vocabulary[i] for i in ids[0] if i]
    assert language.ids_of(iter(texts)).shape == (40, language.max_words)
    assert language.ids_of([]).shape == (0, language.max_words)


def test_a_mask_is_a_token(language):
    word = language.words[0]
    assert language.ids_of([f"{word} [MASK] {word}"])[0, :4].tolist() == [5, MASK, 5, PAD]


def test_what_the_language_can_not_hold_is_refused(language):
    with pytest.raises(ValueError, match="'zebras dance' has a word that is not in the vocabulary of the language"):
        language.ids_of(["zebras dance"])
    long = " ".join([language.words[0]] * 25)
    with pytest.raises(ValueError, match="has 25 words, this language has at most 24"):
        language.ids_of([long])


def test_rows_by_length():
    ids = torch.tensor([[5, 6, 0, 0], [5, 0, 0, 0], [7, 8, 0, 0], [5, 5, 5, 5], [0, 0, 0, 0]])
    found = {length: rows.tolist() for length, rows in hard_language().by_length(ids)}
    assert found == {0: [4], 1: [1], 2: [0, 2], 4: [3]}


def test_probability_of_a_row_does_not_depend_on_the_others(language):
    ids = language.sample(30, 5)
    together = language.log_probability(ids)
    alone = torch.cat([language.log_probability(row[None]) for row in ids])
    assert torch.allclose(together, alone, rtol=0, atol=1e-11)
    assert torch.equal(language.log_probability(torch.from_numpy(ids)), together)
    assert (together < 0).all() and together.isfinite().all() and together.dtype == torch.float64
    assert language.log_probability(np.zeros((1, 24), int)).item() == -math.inf


def test_a_question_hides_one_word():
    probe = Probe(np.array([5, 6, 7]), 1, 6, 8, np.array([9, 8, 7]))
    assert probe.asked().tolist() == [5, MASK, 7]
    assert probe.asked(flipped=True).tolist() == [9, MASK, 7]
    assert probe.ids.tolist() == [5, 6, 7]  # as it was
    assert Probe(np.array([5, 6]), 0, 5).asked(flipped=True).tolist() == [MASK, 6]


def test_log_sum():
    assert log_sum([math.log(0.25), math.log(0.5)]) == pytest.approx(math.log(0.75), abs=1e-15)
    assert log_sum(iter([-math.inf, 0.0])) == 0
