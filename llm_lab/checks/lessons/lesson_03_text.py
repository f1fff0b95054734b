"""Exercises of lesson 03, corpus and batches, first part: leaks between the training text and the exam."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.code import Mend, Write
from llm_lab.checks.compare import kind_of
from llm_lab.checks.deck import Draw

INTRODUCTION = """\
# 03 - Corpus and batches: exercises

Seven exercises to [lesson 03](../notebooks/03_corpus_and_batches.ipynb). They climb, and none blocks the next. Two keep
an exam clean, four turn documents into rows and batches, and the last packs rows without cutting a document."""

# ------------------------------------------------------------------------------------------------------------- write

WORDS = "the train stops at every old station".split()


def exam_and_training(draw: Draw) -> tuple[Any, ...]:
    """Held-out texts, some of which repeat a part of a training text; training texts; and the length of a run."""
    n = draw.choice(2, 3, 3, 5)
    training = [_text(draw, 2 * draw.T + 3) for _ in range(draw.B + 1)]
    held_out = [_text(draw, draw.choice(1, 2, draw.T + 2)) for _ in range(draw.B + 1)]
    copied = draw.choice(*training).lower().rstrip(".").split()
    start = int(draw.integers(0, len(copied) - 1, 1))
    held_out.append(" ".join(copied[start : start + n + 2]).capitalize() + ".")
    borders = " ".join(training).lower().replace(".", "").split()
    held_out.append(" ".join(borders[draw.T + 2 : 3 * draw.T + 6]) + ".")  # over the end of the first training text
    held_out.append(" ".join([*copied[: 2 * n], *_text(draw, n).lower().rstrip(".").split()]) + ".")
    return held_out, training, n


def _text(draw: Draw, length: int) -> str:
    return " ".join(draw.choice(*WORDS, *draw.choice("abcd", "efgh")) for _ in range(length)).capitalize() + "."


def half_a_copy(draw: Draw) -> tuple[Any, ...]:
    """Of the first text exactly half of the runs are found, of the second one in three."""
    return ["One two three old new.", "One two nine ten, old."], ["Zero one two three.", "So one two."], 2


def short_texts(draw: Draw) -> tuple[Any, ...]:
    """No text is as long as a run."""
    return ["The train.", "Stops."], ["The train stops."], 3


def one_run(draw: Draw) -> tuple[Any, ...]:
    """One text of one run, which is found."""
    return ["The train stops."], ["Every train, the train stops."], 3


CONTAMINATION = Write(
    id="03.contamination",
    title="How much of the exam was known?",
    task="""\
Write `contamination(held_out, training, n)`. Both are lists of texts. The words of a text are `re.findall(r"\\w+",
text.lower())`, and its n-grams are all runs of n neighbouring words. Return two shares, a tuple: of all n-grams of
all held-out texts (each place counts), the share that occurs in a training text; and of all held-out texts, the
share of those that are copies, because half of their n-grams or more occur in a training text. A text without an
n-gram is no copy. Where there is no n-gram at all, the first share is 0.""",
    why="In the lesson an exam that had leaked looked 1.1 nats easier. GPT-3's authors ran this count, with n = 13.",
    difficulty=3,
    minutes=12,
    first="write a helper that gives the n-grams of one text as a list of tuples, and try it on five words with n = 3.",
    hints=(
        "A text of m words has m - n + 1 runs: `words[start : start + n]` for each start.",
        """Put the n-grams of all training texts into one set, text by text, so that no run crosses from one to the
        next.""",
        """For each held-out text count its n-grams and those found. Add up both for the first share; compare them
        for the second.""",
    ),
    explanation="""\
The package's own function. The first share is taken over all n-grams together, so that long texts count more; the
second gives each text one vote.""",
    setup="import re",
    stub="""
def contamination(held_out, training, n):
    '''(share of the n-grams, share of the texts) of `held_out` that occur in `training`.'''
    raise NotImplementedError
""",
    right=("llm_lab.text.contamination.contamination", "contamination_with_counters"),
    inputs=exam_and_training,
    more=(half_a_copy, short_texts, one_run),
    wrong=catalogue("""
# single words
You look for single words. Nearly all words of an exam occur in the training text; a run of n says more.
- list(grams(text, n)) for text in held_out
+ list(grams(text, 1)) for text in held_out
- intersection(grams(text, n))
+ intersection(grams(text, 1))

# letters in place of words
Your runs consist of letters. Split the text into words first.
- list(grams(text, n)) for text in held_out
+ list(zip(*(text.lower()[i:] for i in range(n)))) for text in held_out
- intersection(grams(text, n))
+ intersection(zip(*(text.lower()[i:] for i in range(n))))

# the last run lost
Each text has one run too few. Where does the last run begin?
- list(grams(text, n)) for text in held_out
+ list(grams(text, n))[:-1] for text in held_out
- intersection(grams(text, n))
+ intersection(list(grams(text, n))[:-1])

# each different run once
A run that stands in a text twice counts once. Each place counts.
- list(grams(text, n)) for text in held_out
+ sorted(set(grams(text, n))) for text in held_out

# runs across two texts
You joined the training texts. A run that ends in one and begins in another was never written by anybody.
- for text in training:
+ for text in [" ".join(training)]:

# capital letters kept
`The train` and `the train` are different for you. The card makes everything lower case.
- [list(grams(text, n)) for text in held_out]
+ [list(zip(*(WORDS.findall(text)[i:] for i in range(n)))) for text in held_out]
- intersection(grams(text, n))
+ intersection(zip(*(WORDS.findall(text)[i:] for i in range(n))))

# the full stop is part of a word
You split at spaces alone, so `station.` and `station` are two words.
- [list(grams(text, n)) for text in held_out]
+ [list(zip(*(text.lower().split()[i:] for i in range(n)))) for text in held_out]
- intersection(grams(text, n))
+ intersection(zip(*(text.lower().split()[i:] for i in range(n))))

# more than half
A text of which exactly half is known is a copy. Look at > and >=.
- hits >= LEAKED_SHARE * len(document)
+ hits > LEAKED_SHARE * len(document)

# a text without a run is a copy
Of no runs none is missing, so short texts count as copies with you. The card says that they are none.
-  if document)
+ )

# short texts left out
You leave texts without a run out of the second share. They are texts of the exam, and no copies.
- copies / max(1, len(own))
+ copies / max(1, sum(map(bool, own)))

# the mean of the texts
Your first share is a mean over texts. It shall be taken over all n-grams together.
- sum(found) / max(1, sum(map(len, own)))
+ sum(hits / max(1, len(document)) for hits, document in zip(found, own)) / max(1, len(own))

# the share of the training text
You divide by the n-grams of the training text. The question is how much of the *exam* was known.
- sum(found) / max(1, sum(map(len, own)))
+ sum(found) / max(1, sum(len(list(grams(text, n))) for text in training))

# the two shares exchanged
The share of the texts comes first with you.
- return Contamination(sum(found) / max(1, sum(map(len, own))), copies / max(1, len(own)))
+ return Contamination(copies / max(1, len(own)), sum(found) / max(1, sum(map(len, own))))

# the order of the words lost
A run is found when its words occur in another order. Compare tuples, and not sets.
- [list(grams(text, n)) for text in held_out]
+ [[tuple(sorted(gram)) for gram in grams(text, n)] for text in held_out]
- intersection(grams(text, n))
+ intersection(tuple(sorted(gram)) for gram in grams(text, n))
"""),
)

# -------------------------------------------------------------------------------------------------------------- mend


def modules_of_documents(draw: Draw) -> tuple[Any, ...]:
    """The module of each of many documents, siblings next to each other, and the share to hold out."""
    names = [f"{library}.part{number}" for library in draw.choice("abc", "xyz", "klm") for number in range(draw.V + 30)]
    return [name for name in names for _ in range(1 + int(draw.integers(0, 2, 1)))], draw.choice(0.05, 0.2, 0.4)


@contextmanager
def another_run_of_python() -> Iterator[None]:
    """Python's `hash` of a text is another one in each run: as it is here."""
    before = builtins.hash
    builtins.hash = lambda value: before(("another run", value))
    try:
        yield
    finally:
        builtins.hash = before


def look_at_sides(answer: Any, modules: list[str], share: float) -> dict[str, Any]:
    """What holds of a split, in words. It ends at the first fault, or soon after."""
    sides = answer(modules, share)
    fits = isinstance(sides, list | tuple | np.ndarray) and len(sides) == len(modules)
    fits = fits and all(side in (True, False) for side in sides)
    facts: dict[str, Any] = {"the result": "a list of True and False, one a document" if fits else kind_of(sides)}
    if not fits:
        return facts
    facts["asked twice, the same"] = list(sides) == list(answer(modules, share))
    if not facts["asked twice, the same"]:
        return facts
    side = dict(zip(modules, sides, strict=True))
    facts["siblings are on one side"] = all(bool(side[name] == here) for name, here in zip(modules, sides, strict=True))
    halves = np.array(answer(list(side), 0.5), dtype=bool)
    facts["about the share of the modules is held out"] = bool(abs(np.mean(list(side.values())) - share) < 0.18)
    facts["at share 0.5 about a half"] = bool(abs(halves.mean() - 0.5) < 0.22)
    if not all(facts.values()):
        return facts
    facts["the order of the documents plays no part"] = list(answer(modules[::-1], share)) == list(sides)[::-1]
    facts["a new module moves no other"] = list(answer(["aaa.new", *modules, "zzz.new"], share))[1:-1] == list(sides)
    facts["more documents move no module"] = list(answer([*modules, *modules], share)) == [*sides, *sides]
    with another_run_of_python():
        facts["the same in another run of Python"] = list(answer(modules, share)) == list(sides)
    both = [len({half for name, half in zip(side, halves, strict=True) if name[0] == library}) for library in "axk"]
    facts["a library may be on both sides"] = max(both) == 2
    facts["the names of neighbours tell nothing"] = bool(np.corrcoef(halves[1:], halves[:-1])[0, 1] < 0.4)
    return facts


HELD_OUT = Mend(
    id="03.held_out",
    title="The split that leaks",
    task="""\
`held_out(modules, share)` takes the name of the module of each document, and says of each document whether it is
held out for the exam: a list of True and False. The code below decides document by document, so the siblings of
one module end up on both sides. Mend it: a module is held out as a whole. About the given share of the modules is
held out. Which side a module is on depends on its name and the share alone: not on the other documents or their
order, not on chance, and it is the same in the next run of Python.""",
    why="In the lesson a split by document repeated several times as much training text as a split by module.",
    difficulty=3,
    minutes=15,
    first="run the code on `['a.b', 'a.b', 'c.d']` with share 0.5 until two siblings part. Then ask who should decide.",
    hints=(
        """You need a number between 0 and 1 that looks random and is a function of the name. Then compare it with
        the share.""",
        "Python's `hash` of a text changes from run to run. `hashlib.sha256(name.encode()).digest()` does not.",
        """The first eight bytes of the digest as a number, `int.from_bytes(digest[:8], "big")`, divided by 2**64, lie
        in
        [0, 1).""",
    ),
    explanation="""\
A hash of the name decides, so nothing has to be kept, and a module never changes sides when others come.
`random.Random(name)` does as well: Python seeds it with a hash that is the same in every run.""",
    setup="import hashlib",
    stub="""
def held_out(modules, share):
    '''For the module of each document: is the document held out? A list of True and False.'''
    chance = np.random.default_rng(0)
    return [bool(chance.random() < share) for module in modules]
""",
    right=("held_out", "held_out_by_seeding", "held_out_by_remainder"),
    inputs=modules_of_documents,
    probe=look_at_sides,
    wrong=catalogue("""
# Python's hash
In the next run of Python the split is another one: `hash` of a text is salted anew each time. Then yesterday's
training text is in today's exam.
def wrong(modules, share):
    return [hash(module) % 1000 < 1000 * share for module in modules]

# the other way round
You hold out what should be trained on. With a share of 0.05 most modules are in your exam.
- < share
+ >= share

# the share plays no part
About 5% are held out, whatever share is asked for.
- < share
+ < 0.05

# drawn in the order in which they come
You draw a number for each module when you first meet it. A new module moves all that come after it, and so does
another order.
def wrong(modules, share):
    chance, side = np.random.default_rng(0), {}
    for module in modules:
        if module not in side:
            side[module] = bool(chance.random() < share)
    return [side[module] for module in modules]

# drawn for the sorted names
You draw a number for each name in alphabetical order. A new name moves all that come after it.
def wrong(modules, share):
    names = sorted(set(modules))
    chance = np.random.default_rng(0).random(len(names))
    side = dict(zip(names, chance))
    return [bool(side[module] < share) for module in modules]

# whole libraries
You decide by the library. A whole library in the exam is an honest test, too, but it is not what the card asks for.
- module.encode()
+ module.split(".")[0].encode()

# new chance each time
Asked twice, your split is not the same. A model that goes on tomorrow would train on its own exam.
def wrong(modules, share):
    chance = np.random.default_rng()
    side = {module: bool(chance.random() < share) for module in modules}
    return [side[module] for module in modules]

# the first names of the alphabet
You hold out the first names in alphabetical order. They are no sample, and a new name moves the border.
def wrong(modules, share):
    names = sorted(set(modules))
    first = set(names[: round(share * len(names))])
    return [module in first for module in modules]

# the letters added up
You add up the letters of a name. `part12` and `part13` then stand next to each other, and so do whole blocks of
modules: stir.
def wrong(modules, share):
    return [sum(module.encode()) % 100 < 100 * share for module in modules]

# how often a module occurs
You look at how often a module occurs. A module with one more document would change sides.
def wrong(modules, share):
    number = {module: modules.count(module) for module in set(modules)}
    return [random.Random(f"{module} {number[module]}").random() < share for module in modules]
"""),
)

EXERCISES = (CONTAMINATION, HELD_OUT)
