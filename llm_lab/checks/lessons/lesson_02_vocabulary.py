"""Exercises of lesson 02, text to tokens, third part: cutting words with a vocabulary, and designing one."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from typing import Any

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.code import Write
from llm_lab.checks.deck import Draw
from llm_lab.checks.design import Design
from llm_lab.lessons import budget
from llm_lab.text.corpus import build_corpus

# ------------------------------------------------------------------------------------------------------------- write


def word_and_vocabulary(draw: Draw) -> tuple[Any, ...]:
    """A word of three letters, and a vocabulary in which a letter may be missing at the start, inside, or both."""
    entries = {mark + letter for mark in ("", "##") for letter in "abc" if draw.choice(*range(12))}
    for _ in range(24):
        piece = "".join(draw.choice(*"abc") for _ in range(draw.choice(2, 2, 3, 4)))
        entries.add(draw.choice("", "##") + piece)
    return "".join(draw.choice(*"abc") for _ in range(draw.T + 1)), entries


def word_of_long_pieces(draw: Draw) -> tuple[Any, ...]:
    """Every piece has two letters or more, and a longer entry stands further on in the word."""
    return "abbcabca", {"a", "ab", "##bc", "##ab", "##ca", "##bcab", "##cabc", "##b", "##a", "##c"}


def word_that_ends_unknown(draw: Draw) -> tuple[Any, ...]:
    """Only the last letter has no entry."""
    return "abbd", {"a", "ab", "##b", "##ba", "d", "b"}


LONGEST_MATCH = Write(
    id="02.longest_match",
    title="The longest entry first",
    task="""\
Write `longest_match(word, vocabulary)`. `word` is a string, `vocabulary` a set of entries; an entry that continues
a word begins with `##`. Cut the word as WordPiece does: take the longest entry that fits at the start, then the
longest that fits the rest, with its `##`, and so on to the end. Return the list of entries, with their marks. If
at some place nothing fits, the whole word is `["[UNK]"]`.""",
    why="BERT reads its words through this function, and so do the models of this course.",
    difficulty=3,
    minutes=15,
    first="""\
do it on paper for `kings`, with the vocabulary `{"king", "k", "##s", "##ing"}`: `["king", "##s"]`. Then for
`kingz`.""",
    hints=(
        "A loop over the starts of pieces, and in it a loop over their ends, from the end of the word backwards.",
        "At the start of a word an entry has no mark; at every other place look for `'##' + word[start:end]`.",
        "When no end is left, return the unknown word at once. Else keep the entry, and go on where it ended.",
    ),
    explanation="""\
The first end that fits is that of the longest entry, since the ends run backwards. One place without an entry
makes the whole word unknown: half a word would be a lie.""",
    stub="""
def longest_match(word, vocabulary):
    '''The entries into which a word is cut: longest_match("kings", {"king", "##s"}) is ["king", "##s"].'''
    raise NotImplementedError
""",
    right=("longest_match", "longest_match_of_the_rest", "longest_match_by_the_library"),
    inputs=word_and_vocabulary,
    more=(word_that_ends_unknown, word_of_long_pieces),
    wrong=catalogue("""
# from the end of the word
You begin at the end of the word and take the longest entry that fits there. The start comes first.
def wrong(word, vocabulary):
    pieces, end = [], len(word)
    while end:
        start = next((s for s in range(end) if ("##" if s else "") + word[s:end] in vocabulary), None)
        if start is None:
            return ["[UNK]"]
        pieces.insert(0, ("##" if start else "") + word[start:end])
        end = start
    return pieces

# no mark inside
You look for pieces without `##` inside of a word. `s` and `##s` are two entries, and the second is wanted there.
- "##" if start else ""
+ ""

# marked or not
Inside of the word you take entries without a mark, too. `s` begins words; what continues one has its `##`.
- mark + word[start:end] not in vocabulary
+ mark + word[start:end] not in vocabulary and word[start:end] not in vocabulary

# the mark is lost
You find the right entries, but return them without their marks. Then `s` could begin a word.
- pieces.append(mark + word[start:end])
+ pieces.append(word[start:end])

# a mark at the start
You look for `##` at the start of the word, too. There an entry has no mark.
- "##" if start else ""
+ "##"

# the mark on the wrong side
You mark the piece that is continued. The mark belongs to the piece that continues.
- pieces.append(mark + word[start:end])
+ pieces.append(word[start:end] + ("##" if end < len(word) else ""))

# only a piece unknown
You write `[UNK]` for the place where nothing fits, and keep the rest. The whole word is one `[UNK]`.
- return ["[UNK]"]
+ pieces.append("[UNK]")
+             start += 1
+             continue

# the known part kept
You keep the pieces before the place where nothing fits. The whole word is one `[UNK]`, and nothing else.
- return ["[UNK]"]
+ return [*pieces, "[UNK]"]

# letters skipped
Where nothing fits you leave the letter out: the pieces no longer spell the word.
- return ["[UNK]"]
+ start += 1
+             continue

# the shortest match
You take the shortest entry that fits. In which direction do the ends run?
of longest_match_of_the_rest
- rest[: fitting[-1]], *cut(rest[fitting[-1] :]
+ rest[: fitting[0]], *cut(rest[fitting[0] :]

# whole words only
A word without an entry of its own is unknown for you. It may consist of pieces.
- while start < len(word):
+ if word not in vocabulary:
+         return ["[UNK]"]
+     while start < len(word):

# letters only
You cut every word into letters. A longer entry that fits goes first.
- end = len(word)
+ end = start + 1

# a single letter never fits
Your ends stop before a single letter: the last end to try is the place behind the start.
- while end > start and
+ while end > start + 1 and
- if end == start:
+ if end == start + 1:

# the longest entry anywhere
You look for the longest entry anywhere in the rest, and skip what stands before it. It must fit at the start of the
rest.
def wrong(word, vocabulary):
    pieces = []
    while word:
        mark, ends = "##" if pieces else "", range(len(word) + 1)
        found = [word[start:end] for end in ends for start in range(end) if mark + word[start:end] in vocabulary]
        if not found:
            return ["[UNK]"]
        pieces.append(mark + max(found, key=len))
        word = word[word.index(max(found, key=len)) + len(max(found, key=len)) :]
    return pieces
"""),
)

# ------------------------------------------------------------------------------------------------------------ design

SMALL = {"sing": 4, "king": 3, "ring": 2, "wing": 2, "song": 1, "songs": 1, "kings": 1, "quiz": 1}
ROOM = 20
LETTERS = {"s", "k", "r", "w", "q", "##i", "##n", "##g", "##o", "##s", "##u", "##z"}


def facts_of_vocabulary(answer: Any) -> dict[str, Any]:
    """What is seen of a vocabulary of 20 entries for a small text: how many, and of which kinds."""
    given = list(answer(dict(SMALL), ROOM))
    entries = {entry for entry in given if isinstance(entry, str)}
    long = {entry for entry in entries if len(entry.removeprefix("##")) > 1}
    return {
        "texts": len(entries) == len(set(given)),
        "number": len(entries),
        "marked": any(entry.startswith("##") for entry in entries),
        "missing": LETTERS - entries,
        "long": long,
        "pieces": long - SMALL.keys(),
    }


@cache
def counted_words(part: str, documents: int) -> Counter[str]:
    """The words of tornado's documentation, a to z alone: three documents in four to learn from, the others as exam."""
    texts = [document.text for document in build_corpus("docs:tornado", progress=lambda line: None).documents]
    chosen = [text for number, text in enumerate(texts[:documents]) if (number % 4 == 0) == (part == "exam")]
    return Counter(re.findall("[a-z]+", " ".join(chosen).lower()))


def tokens_a_word(answer: Any) -> float:
    """How many tokens a running word of other text has when it is cut with the vocabulary."""
    size, documents = budget(full=300, fast=90), budget(full=10_000, fast=40)
    entries = set(answer(dict(counted_words("train", documents)), size))
    if len(entries) > size:
        raise ValueError(f"{len(entries)} entries are more than {size}")
    exam = counted_words("exam", documents)
    return sum(count * _tokens(word, entries) for word, count in exam.items()) / exam.total()


def _tokens(word: str, entries: set[str]) -> int:
    """How many pieces the longest match makes of a word; a letter without an entry is a piece, too."""
    number = start = 0
    while start < len(word):
        ends = range(len(word), start + 1, -1)
        start = next((end for end in ends if ("##" if start else "") + word[start:end] in entries), start + 1)
        number += 1
    return number


VOCABULARY = Design(
    id="02.vocabulary",
    title="The best 300 entries",
    task="""\
Write `vocabulary(words, size)`. `words` is a dictionary, word -> how often it occurs; words consist of the letters
a to z. Return at most `size` entries, a set or a list of strings. An entry that continues a word begins with `##`.
Every letter that begins a word of `words`, and every `##` letter that stands inside of one, must be among them, so
that nothing is unknown. The check gives you the words of three quarters of tornado's documentation and 300
entries. It then cuts the words of the other quarter by the longest match, and counts tokens a word. Less is
better, letters alone need 4.87, whole words beside them about 2.5, and the goal is 2.4.""",
    why="Shorter rows are cheaper rows: the lesson's section 9 puts a price on every token.",
    difficulty=4,
    minutes=30,
    first="return the letters alone, with and without `##`, and see how many tokens a word has.",
    hints=(
        "Whole words are dear: each is of use to one word only. What do many words share?",
        """Count which pieces would save most tokens: how often a piece occurs, times the tokens that it saves each
        time.""",
        """A piece that is chosen changes what the others save, so choose a few and count again. Byte-pair encoding
        does it with pairs; your `learn_merges`, with marks, is nearly there.""",
    ),
    explanation="""\
Byte-pair encoding with marks: letters first, then the most frequent pair, again and again, until the room is used.
It reaches 2.29. Counting what a longer run of pieces would save, eight entries a time, reached 2.07.""",
    setup="from collections import Counter",
    stub="""
def vocabulary(words, size):
    '''At most `size` entries for words with their counts; a piece inside of a word begins with ##.'''
    raise NotImplementedError
""",
    right=("vocabulary", "vocabulary_by_savings"),
    facts=facts_of_vocabulary,
    measure=tokens_a_word,
    goal=2.4,
    unit="tokens a word",
    about="learning 300 entries from the documentation of tornado, as long as your code takes ...",
    when={
        "no texts": lambda facts: not facts["texts"],
        "over the budget": lambda facts: facts["number"] > ROOM,
        "no marks": lambda facts: not facts["marked"],
        "letters missing": lambda facts: bool(facts["missing"]),
        "letters alone": lambda facts: not facts["long"],
        "room left": lambda facts: facts["number"] < ROOM - 4,
        "whole words alone": lambda facts: not facts["pieces"],
    },
    wrong=catalogue("""
# no texts
Some entries are no strings. A pair of pieces is not an entry yet: what do the two make together?
def wrong(words, size):
    return [("##n", "##g"), ("##i", "##ng")]

# over the budget
There are more entries than `size`. Letters count, too.
def wrong(words, size):
    return vocabulary(words, size + 1)

# no marks
No entry begins with `##`, so nothing can continue a word.
def wrong(words, size):
    return {entry.removeprefix("##") for entry in vocabulary(words, size)}

# letters missing
Some letters have no entry, at the start of a word or inside of one. A word with such a letter can't be written.
def wrong(words, size):
    return {entry for entry in vocabulary(words, size) if len(entry) != 3}

# letters alone
Your entries are letters. There is room for more: what do words share?
def wrong(words, size):
    return vocabulary(words, 0)

# room left
You use little of the room. An entry that is not there saves nothing.
def wrong(words, size):
    return vocabulary(words, size * 7 // 10)

# whole words alone
Beside the letters your entries are whole words. Each serves one word only, and an ending like `##ing` serves many.
def wrong(words, size):
    letters = vocabulary(words, 0)
    return letters | set(sorted(words, key=words.get)[: len(letters) - size - 1 : -1])
"""),
)

EXERCISES = (LONGEST_MATCH, VOCABULARY)
