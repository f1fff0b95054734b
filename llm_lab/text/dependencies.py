"""Which word decides which, in a sentence of the hard language: agreement, reflexives, paired conjunctions.

An attractor is a noun between a verb and its subject whose number is not the subject's: "the king near the *boys*
sleeps" (Linzen et al. 2016, arXiv 1611.01368).
"""

from __future__ import annotations

from typing import NamedTuple

from llm_lab.text import english
from llm_lab.text.tree import Tree

KINDS = (
    "full stop",
    "paired conjunction",  # the "or" of an "either", the "then" of an "if"
    "adjacent verb",  # right after its subject
    "distant verb, 0 attractors",
    "distant verb, 1 attractor",
    "distant verb, 2+ attractors",
    "near reflexive",  # no other noun since its subject
    "far reflexive",
    "determiner",
    "noun",
    "other",
)
SECOND_PARTS = ("OrC", "ThenC", "OrVP")  # phrases that a first part announced
SWAPPED = {"or": "then", "then": "or", "himself": "herself", "herself": "himself", "itself": "themselves"}


class Word(NamedTuple):
    """A word in its place: its category, the dependency that decides it, and the position of the word that it
    depends on (-1: none). A verb, a reflexive and a determiner depend on a noun.
    """

    text: str
    category: str
    kind: str
    partner: int


def label(tree: Tree) -> list[Word]:
    """The words of a tree from left to right, each with its dependency."""
    words: list[Word] = []
    _visit(tree, -1, words)
    return words


def _visit(node: Tree, partner: int, words: list[Word]) -> None:
    if node.word:
        kind = _kind(node.symbol, len(words), partner, words)
        depends = kind not in ("noun", "other", "full stop")
        words.append(Word(node.word, node.symbol, kind, partner if depends else -1))
        return
    start = len(words)
    if node.symbol.startswith("NP."):
        partner = _head(node, start)  # of the determiner, and of a verb whose subject is "who" or "that"
    for i, child in enumerate(node.children):
        if child.symbol.startswith(SECOND_PARTS):
            _visit_second(child, start, partner, words)
        elif i == 1 and node.symbol.startswith(("Clause", "Gap")):
            _visit(child, _head(node.children[0], start), words)
        else:
            _visit(child, partner, words)


def _visit_second(node: Tree, first: int, partner: int, words: list[Word]) -> None:
    conjunction, rest = node.children
    words.append(Word(conjunction.word, conjunction.symbol, "paired conjunction", first))
    _visit(rest, partner, words)


def _head(noun_phrase: Tree, start: int) -> int:
    """The position of its head: in this grammar always its first noun."""
    return start + next(i for i, leaf in enumerate(noun_phrase.leaves()) if leaf.symbol.startswith("Noun."))


def _kind(category: str, position: int, partner: int, words: list[Word]) -> str:
    family = category.split(".")[0]
    if family in ("Stop", "Noun", "Det"):
        return {"Stop": "full stop", "Noun": "noun", "Det": "determiner"}[family]
    between = [word.category[-1] for word in words[partner + 1 : position] if word.category.startswith("Noun.")]
    if family == "Self":
        return "far reflexive" if between else "near reflexive"
    if category.removesuffix(".s").removesuffix(".p") not in english.VERBS:
        return "other"
    if position == partner + 1:
        return "adjacent verb"
    attractors = sum(number != category[-1] for number in between)
    return f"distant verb, {('0 attractors', '1 attractor', '2+ attractors')[min(attractors, 2)]}"


def other_form(word: Word) -> str:
    """The word that the dependency forbids: a verb's other number, the other gender, the other conjunction."""
    if "verb" in word.kind:
        return _other_number(english.VERBS[word.category[:-2]], word.text)
    if word.text == "themselves":
        return "itself" if word.category == "Self.ap" else "himself"
    return SWAPPED.get(word.text, "")


def _other_number(lexemes: str, word: str) -> str:
    forms = next(forms for lexeme in lexemes.split() if word in (forms := english.forms(lexeme)))
    return forms[1 - forms.index(word)]


def flip_number(words: list[Word], noun: int) -> list[str]:
    """The sentence with one noun in its other number, and with it all that depends on it."""
    text = [word.text for word in words]
    kind = next(kind for kind, lexemes in english.NOUNS.items() if _holds(lexemes, words[noun].text, kind, words[noun]))
    text[noun] = _other_number(english.NOUNS[kind], words[noun].text)
    plural = words[noun].category[-1] == "p"
    singular_self = {"m": "himself", "x": "himself", "f": "herself", "a": "itself"}
    for i, word in enumerate(words):
        if word.partner != noun:
            continue
        if word.kind == "determiner":
            text[i] = _other_number(english.DETERMINERS, word.text)
        elif word.category.startswith("Self"):
            text[i] = singular_self[kind] if plural else "themselves"
        elif "verb" in word.kind:
            text[i] = other_form(word)
    return text


def _holds(lexemes: str, noun: str, kind: str, word: Word) -> bool:
    person = word.category[5:-1] in ("m", "f", "h")
    return kind in ("mfx" if person else word.category[5]) and any(
        noun in english.forms(lexeme) for lexeme in lexemes.split()
    )
