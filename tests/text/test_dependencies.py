"""Dependencies: hand-written sentences with known labels, their counterfactuals, and what the oracle makes of both."""

import numpy as np
import pytest
import torch

from llm_lab.text import english
from llm_lab.text.dependencies import KINDS, flip_number, label, other_form
from llm_lab.text.grammar import hard_language
from llm_lab.text.language import MASK
from llm_lab.text.optimum import posterior
from tests.text.by_hand import plain_english

# Marks after a word: its kind, and the word on which it depends (its number in the sentence, from 0).
SHORT = {
    "adj": "adjacent verb",
    "v0": "distant verb, 0 attractors",
    "v1": "distant verb, 1 attractor",
    "v2": "distant verb, 2+ attractors",
    "near": "near reflexive",
    "far": "far reflexive",
    "pair": "paired conjunction",
    "det": "determiner",
}
LABELLED = [
    "the/det1 king sleeps/adj1 .",
    "the/det2 young king sleeps/adj2 .",
    "the/det1 king near the/det4 river sleeps/v0.1 .",
    "the/det1 king near the/det4 rivers sleeps/v1.1 .",
    "two/det1 nuns near a/det4 dog behind this/det7 house sleep/v2.1 .",
    "the/det1 king near the/det4 rivers behind the/det7 house sleeps/v1.1 .",
    "the/det1 kings that sing/v0.1 see/v0.1 a/det6 cat .",
    "the/det1 king who the/det4 nuns love/adj4 laughs/v1.1 .",
    "the/det1 king who the/det4 nuns near the/det7 dog love/v1.4 laughs/v1.1 .",
    "the/det1 king sees/adj1 himself/near1 .",
    "the/det1 king near the/det4 nun sees/v0.1 himself/far1 .",
    "two/det1 cats near the/det4 dog chase/v1.1 themselves/far1 .",
    "a/det1 nun who the/det4 king loves/adj4 sees/v0.1 herself/far1 .",
    "if the/det2 king sings/adj2 then/pair0 the/det6 nuns dance/adj6 .",
    "either the/det2 dog growls/adj2 or/pair0 the/det6 ship rolls/adj6 .",
    "the/det1 king either sings/v0.1 or/pair2 sees/v0.1 himself/near1 .",
    "the/det1 king sings/adj1 and sees/v0.1 himself/near1 .",
    "the/det1 nuns bake/adj1 the/det4 cake that smells/v0.4 .",
    "the/det1 cake that the/det4 nuns bake/adj4 smells/v1.1 .",
    "the/det1 king knows/adj1 that the/det5 nuns love/adj5 themselves/near5 .",
    "the/det1 king knows/adj1 that the/det5 nuns near the/det8 dog love/v1.5 themselves/far5 .",
]


def only_tree(sentence):
    ((tree, _),) = plain_english().trees(sentence.split())
    return tree


def parsed(marked):
    """A marked sentence -> its words, and {position: (kind, partner)} of the marked ones."""
    words, marks = [], {}
    for position, piece in enumerate(marked.split()):
        word, _, mark = piece.partition("/")
        words.append(word)
        if mark:
            number = mark.split(".")[1] if "." in mark else mark.lstrip("adjnerfpit")
            name = mark.split(".")[0] if "." in mark else mark[: -len(number)]
            marks[position] = (SHORT[name], int(number))
    return " ".join(words), marks


@pytest.mark.parametrize("marked", LABELLED)
def test_hand_written_sentences_have_these_labels(marked):
    sentence, marks = parsed(marked)
    words = label(only_tree(sentence))
    assert " ".join(word.text for word in words) == sentence
    for position, word in enumerate(words):
        if position in marks:
            assert (word.kind, word.partner) == marks[position], word
        else:
            expected = "full stop" if word.text == "." else "noun" if word.category.startswith("Noun") else "other"
            assert (word.kind, word.partner) == (expected, -1), word


FLIPS = [  # sentence, the noun, the sentence with this noun in its other number
    ("the king sleeps .", 1, "the kings sleep ."),
    ("a young king near the rivers sleeps .", 2, "two young kings near the rivers sleep ."),
    ("a young king near the rivers sleeps .", 5, "a young king near the river sleeps ."),
    ("these nuns see themselves .", 1, "this nun sees herself ."),
    ("many judges see themselves .", 1, "every judge sees himself ."),  # of either gender: himself
    ("every judge sees herself .", 1, "many judges see themselves ."),
    ("the cat chases itself .", 1, "the cats chase themselves ."),
    ("two cats chase themselves .", 1, "a cat chases itself ."),
    ("a fish chases itself .", 1, "two fish chase themselves ."),  # one form for both
    ("the cake that the nuns bake smells .", 1, "the cakes that the nuns bake smell ."),
    ("the cake that the nuns bake smells .", 4, "the cake that the nun bakes smells ."),
    ("the king near the dog that growls sees himself .", 1, "the kings near the dog that growls see themselves ."),
    ("the king either sings or sees himself .", 1, "the kings either sing or see themselves ."),
    ("the train that stops rolls .", 1, "the trains that stop roll ."),
]


@pytest.mark.parametrize(("sentence", "noun", "expected"), FLIPS)
def test_a_noun_in_its_other_number_takes_what_agrees_with_it(sentence, noun, expected):
    words = label(plain_english().trees(sentence.split())[0][0])
    assert " ".join(flip_number(words, noun)) == expected
    back = label(plain_english().trees(expected.split())[0][0])
    if "herself" not in sentence or "judge" not in sentence:  # "himself" comes back for nouns of either gender
        assert " ".join(flip_number(back, noun)) == sentence


def test_flipping_a_sampled_sentence_twice_changes_reflexives_alone():
    """Which sentence has the flipped one as its own tree: the flipped words in the same categories, but for number."""
    language = hard_language()
    compared = 0
    for tree in language.trees(200, 5):
        words = label(tree)
        for noun in [i for i, word in enumerate(words) if word.kind == "noun"]:
            once = flip_number(words, noun)
            turned = []
            for i, (word, text) in enumerate(zip(words, once, strict=True)):
                category = word.category
                if i == noun or word.partner == noun and word.kind != "noun":
                    category = turned_category(category, words[noun].text)
                turned.append(word._replace(text=text, category=category))
            twice = flip_number(turned, noun)
            original = [word.text for word in words]
            differ = [(a, b) for a, b in zip(original, twice, strict=True) if a != b]
            assert set(differ) <= {("herself", "himself")}
            compared += 1
    assert compared > 300


def turned_category(category, noun):
    """The category in the other number; a noun's class changes with it."""
    stem, number = category[:-1], category[-1]
    if category.startswith("Noun.") and stem[-1] in "mfh":
        female = any(noun in english.forms(lexeme) for lexeme in english.NOUNS["f"].split())
        return "Noun.hp" if number == "s" else ("Noun.fs" if female else "Noun.ms")
    if category.startswith("Self."):
        return "Self.ap" if category == "Self.as" else "Self.as" if category == "Self.ap" else "Self.hp"
    return stem + ("p" if number == "s" else "s")


OTHER_FORMS = [
    ("the king sleeps .", 2, "sleep"),
    ("the kings sleep .", 2, "sleeps"),
    ("the king sees himself .", 3, "herself"),
    ("the nun sees herself .", 3, "himself"),
    ("the cat chases itself .", 3, "themselves"),
    ("the cats chase themselves .", 3, "itself"),
    ("the nuns see themselves .", 3, "himself"),
    ("if the king sings then the nuns dance .", 4, "or"),
    ("either the king sings or the nuns dance .", 4, "then"),
    ("the king sleeps .", 3, ""),
    ("the king sleeps .", 0, ""),
]


@pytest.mark.parametrize(("sentence", "position", "expected"), OTHER_FORMS)
def test_the_word_that_a_dependency_forbids(sentence, position, expected):
    assert other_form(label(only_tree(sentence))[position]) == expected


def test_labels_of_a_thousand_sentences_are_consistent():
    """Reflexives and verbs have the number of the noun on which they depend; pairs are of one kind."""
    seen = set()
    for tree in hard_language().trees(1000, 3):
        words = label(tree)
        for position, word in enumerate(words):
            seen.add(word.kind)
            assert (word.partner >= 0) == (word.kind not in ("noun", "other", "full stop"))
            if word.partner < 0:
                continue
            partner = words[word.partner]
            if word.kind == "paired conjunction":
                assert (partner.text, word.text) in (("either", "or"), ("if", "then")) and word.partner < position
                continue
            assert partner.kind == "noun" and partner.category[-1] == word.category[-1]
            between = [w for w in words[word.partner + 1 : position] if w.kind == "noun"]
            if word.kind == "determiner":
                assert word.partner > position and not [w for w in words[position : word.partner] if w.kind == "noun"]
            elif "reflexive" in word.kind:
                assert word.kind.startswith("far" if between else "near")
            elif word.kind == "adjacent verb":
                assert position == word.partner + 1
            else:
                attractors = sum(w.category[-1] != word.category[-1] for w in between)
                assert word.kind.split(", ")[1].split()[0] == ("2+" if attractors > 1 else str(attractors))
    assert seen == set(KINDS)


AGREEING = [kind for kind in KINDS if "verb" in kind or "reflexive" in kind]


@pytest.mark.parametrize("kind", [*AGREEING, "paired conjunction"])
def test_the_oracle_knows_the_dependency_and_follows_the_flip(kind):
    """With the one word hidden, what is forbidden has probability 0 wherever the subject shows its number."""
    language = hard_language()
    probes = language.probes(kind, 60, seed=1)
    position = torch.tensor([probe.position for probe in probes])
    right, wrong = (torch.tensor([getattr(p, name) for p in probes]) for name in ("right", "wrong"))
    rows = torch.arange(len(probes))
    asked = np.stack([probe.asked() for probe in probes])
    assert (asked[rows, position] == MASK).all() and (asked == MASK).sum() == len(probes)
    before = posterior(language, asked, 0.15)[rows, position]
    assert (before[rows, right] > 0).all()
    assert (before[rows, wrong] < before[rows, right]).float().mean() > 0.9
    assert before[rows, wrong].mean() < 0.1 * before[rows, right].mean()
    if kind != "paired conjunction":
        after = posterior(language, np.stack([probe.asked(flipped=True) for probe in probes]), 0.15)[rows, position]
        assert (after[rows, wrong] > 0).all()
        assert after[rows, right].mean() < 0.2 * after[rows, wrong].mean()
