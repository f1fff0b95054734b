"""The words and rules of the hard language: what a reader may expect of its English, in lists and in sampled text."""

import re
from collections import defaultdict

import numpy as np
import pytest

from llm_lab.text import english
from llm_lab.text.grammar import hard_language
from tests.text.by_hand import english_words, plain_english

VOWELS = "aeiou"
TAKES_A = ("Noun", "Trait", "Size", "Colour")  # what may stand after "a" and "every"
HOMOGRAPHS = {  # nouns that are verbs
    *"flies fly ducks duck guards guard trains train judges judge nurses nurse".split(),
    *"cooks cook parks park reports report".split(),
}


# -- rules ------------------------------------------------------------------------------------------------------------


def test_every_symbol_is_reached_and_ends_in_words():
    rules = list(english.rules())
    parents, categories = {parent for parent, *_ in rules}, set(english_words())
    assert not parents & categories
    assert all(len(children) in (1, 2) and weight > 0 for _, children, weight in rules)
    reached, waiting = set(), ["Root"]
    while waiting:
        symbol = waiting.pop()
        if symbol not in reached:
            reached.add(symbol)
            assert symbol in parents | categories, symbol
            waiting += [child for parent, children, _ in rules if parent == symbol for child in children]
    unused = (parents | categories) - reached
    assert unused == set()


def test_no_rule_is_there_twice():
    seen = [(parent, children) for parent, children, _ in english.rules()]
    assert len(seen) == len(set(seen)) == 338


def test_subject_and_verb_share_number_in_every_rule():
    pairs = [children for parent, children, _ in english.rules() if parent.startswith(("Clause", "Gap"))]
    assert len(pairs) > 20
    for subject, verb in pairs:
        assert subject[-1] == verb[-1]
        assert verb.startswith("VP") and subject[3:] == verb[3:] or verb[:-2] in english.VERBS


def test_forms_of_a_lexeme():
    assert english.forms("fox/foxes") == ("fox", "foxes") and english.forms("fish") == ("fish", "fish")
    families = english.lexemes()
    assert families["Det"] == [("the", "the"), ("a", "two"), ("this", "these"), ("every", "many")]
    assert families["Adverb"][0] == ("often", "often")
    assert len({*families}) == 1 + len(english.NOUNS) + len(english.VERBS) + len(english.OTHER_WORDS)


def test_categories_hold_the_right_forms():
    words = english_words()
    assert set(words["Noun.ms"]) & set(words["Noun.fs"]) == {"teacher", "farmer", "judge", "guard", "nurse", "cook"}
    assert set(words["Noun.hp"]) > {"kings", "queens", "nurses"} and "king" not in words["Noun.hp"]
    assert set(words["See.s"]) >= {"sees", "loves"} and set(words["See.p"]) >= {"see", "love"}
    assert {"fish", "sheep"} <= set(words["Noun.as"]) & set(words["Noun.ap"])
    for category, weights in words.items():
        first = list(weights.values())
        assert max(weights.values()) == 1 / 2, category  # rank 1
        assert first[0] == 1 / 2


# -- words ------------------------------------------------------------------------------------------------------------


def test_no_word_after_an_article_begins_with_a_vowel():
    words = {word for c, weights in english_words().items() if c.split(".")[0] in TAKES_A for word in weights}
    assert len(words) > 60
    assert not [word for word in words if word[0] in VOWELS]


def test_homographs_are_these():
    parts = defaultdict(set)
    for category, weights in english_words().items():
        part = "Verb" if category[:-2] in english.VERBS else category.split(".")[0]
        for word in weights:
            parts[word].add(part)
    assert {word for word, found in parts.items() if found == {"Noun", "Verb"}} == HOMOGRAPHS
    assert {word for word, found in parts.items() if len(found) > 1} == {*HOMOGRAPHS, "that"}  # a relative or a "that"
    families = defaultdict(set)
    for frame, lexemes in english.VERBS.items():
        for word in lexemes.replace("/", " ").split():
            families[word].add(frame)
    twice = {word for word, frames in families.items() if len(frames) > 1}
    assert twice == {"smells", "smell", "helps", "help"}  # verbs of two kinds


# -- text -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[0, 3, 11])
def text(request):
    """5,000 sentences as lists of words, of seed 0 and of two other languages."""
    language = hard_language(request.param)
    return [language.text_of(row).split() for row in language.sample(5000, 7)]


def test_articles_fit_and_sentences_end(text):
    for words in text:
        assert words[-1] == "." and words.count(".") == 1 and len(words) >= 4
        for word, after in zip(words, words[1:], strict=False):
            assert word not in ("a", "every") or after[0] not in VOWELS


def test_a_word_is_repeated_only_where_a_verb_begins(text):
    """As in "the girl who sings sings", or "the cats near every duck duck"; "old old" never stands there."""
    verbs = {word for category, words in english_words().items() if category[:-2] in english.VERBS for word in words}
    pairs = [(i, words) for words in text for i in range(1, len(words)) if words[i] == words[i - 1]]
    assert len(pairs) < 0.015 * len(text)
    for i, words in pairs:
        assert words[i] in verbs and (words[i] in HOMOGRAPHS or {"who", "that"} & set(words[:i])), " ".join(words)


def test_either_or_offers_two_different_things(text):
    joined = [" ".join(words) for words in text]
    assert sum("either" in line for line in joined) > 300
    assert not [line for line in joined if re.search(r"either (\w+) or \1 ", line)]
    assert not [line for line in joined if re.search(r"(\w+) and \1 ", line)]
    for line in joined:
        assert line.split().count("either") == line.split().count("or")
        assert line.split().count("if") == line.split().count("then")


def test_both_lengths_and_words_vary(text):
    lengths = np.array([len(words) for words in text])
    assert lengths.min() == 4 and lengths.max() == 24 and 9 < lengths.mean() < 12
    assert len({tuple(words) for words in text}) > 0.9 * len(text)
    assert len({word for words in text for word in words}) > 180  # of 188


def test_a_good_third_of_the_sentences_has_more_than_one_tree():
    language, counting = hard_language(), plain_english().counting()
    texts = [language.text_of(row).split() for row in language.sample(400, 2)]
    trees = np.array([counting.probability(words) for words in texts])
    assert trees.min() >= 1
    share, error = (trees > 1).mean(), np.sqrt(0.25 / len(trees))
    assert 0.2 < share - 2 * error and share + 2 * error < 0.5, f"{share:.0%} of the sentences have several trees"
    for words, count in zip(texts[:40], trees, strict=False):
        assert len(plain_english().trees(words)) == count if len(words) < 12 else True
