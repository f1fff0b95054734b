"""The share of an exam that stood in the training text: by hand, by string search, and for planted documents."""

import random

import pytest

from llm_lab.text.contamination import contamination, grams
from llm_lab.text.documents import WORDS, eight_grams
from tests import samples


def test_by_hand():
    held_out = ["the cat sat down", "a dog ran off today", "hm"]
    training = ["Today the cat sat, and a dog ran.", "off today"]
    # pairs: the-cat cat-sat | sat-down -- a-dog dog-ran | ran-off off-today -- none
    found = contamination(held_out, training, n=2)
    assert found.grams == (2 + 3) / 7  # the cat, cat sat; a dog, dog ran; off today
    assert found.documents == 2 / 3
    assert contamination(held_out, training, n=3) == (2 / 5, 1 / 3)  # the cat sat; a dog ran: half of 2, a third of 3


def test_a_run_does_not_reach_from_one_document_into_the_next():
    assert contamination(["one two three"], ["one two", "three one"], n=3) == (0, 0)
    assert contamination(["one two", "three four"], ["two three"], n=2) == (0, 0)


def test_with_eight_words_it_is_what_the_split_of_a_corpus_drops(tiny_corpus):
    text = [document.text for document in tiny_corpus.documents]
    assert [list(grams(t, 8)) for t in text] == [list(eight_grams(t)) for t in text]
    train, held_out = ([d.text for d in tiny_corpus.split(part)] for part in ("train", "held_out"))
    assert contamination(held_out, train).documents == tiny_corpus.leak_shares()[1] == 0
    assert contamination(held_out + train[:7], train).documents == 7 / (len(held_out) + 7)


@pytest.mark.parametrize("n", [1, 3, 8])
def test_the_grams_that_are_found_are_those_that_a_string_search_finds(n):
    held_out, training = samples.sentences(40, 1), samples.sentences(40, 2) + samples.sentences(4, 1)
    plain = [" " + " ".join(WORDS.findall(text.lower())) + " " for text in training]
    hits, total, copies = 0, 0, 0
    for text in held_out:
        words = WORDS.findall(text.lower())
        runs = [" " + " ".join(words[i : i + n]) + " " for i in range(len(words) - n + 1)]
        found = [any(run in text for text in plain) for run in runs]
        hits, total, copies = hits + sum(found), total + len(runs), copies + (2 * sum(found) >= len(runs))
    assert contamination(held_out, training, n) == (hits / total, copies / 40)
    assert 0 < hits < total or n == 1


def test_a_document_counts_from_half_of_its_runs_on():
    words = [f"w{i}" for i in range(21)]  # 20 pairs
    for kept in (9, 10, 11):
        found = contamination([" ".join(words)], [" ".join(words[: kept + 1])], n=2)
        assert found == (kept / 20, float(kept >= 10))


def test_nothing_can_leak_into_nothing():
    assert contamination([], ["some text"]) == (0, 0)
    assert contamination(["too short", ""], ["too short"]) == (0, 0)
    assert contamination(samples.sentences(3), []) == (0, 0)


def test_the_order_and_number_of_copies_do_not_matter():
    held_out, training = samples.sentences(30, 1), samples.sentences(30, 1)[:12] + samples.sentences(30, 2)
    once = contamination(held_out, training)
    random.Random(0).shuffle(training)
    assert contamination(held_out, training * 3) == once and once.documents == pytest.approx(0.4)
