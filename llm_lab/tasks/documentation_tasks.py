"""Two tasks whose answers the documentation itself holds: which library is this about, and which words are code.

Neither needs a person who labels. Parts are made by module, never by document or sentence: siblings share wording. What
is tested on is the held-out part of the corpus, so the course's pretrained models have not read it either.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from llm_lab.tasks.labelled import Example, balanced, words_of
from llm_lab.text import documentation
from llm_lab.text.cleaning import is_english, paragraphs, sentences
from llm_lab.text.corpus import Corpus, CorpusError
from llm_lab.text.documentation import File, raw_docstrings, source_files
from llm_lab.text.documents import is_held_out

LIBRARIES = ("python", "torch", "numpy", "matplotlib", "sympy", "networkx")  # those with 1,400 documents or more
NAMES = re.compile(  # a word that holds a library's name, or an alias by which it is imported, with all its dots
    r"(?<![\w.])(?:\w*(?:torch|numpy|matplotlib|sympy|networkx|pyplot|pylab|mplot3d|python)\w*|(?:np|plt|mpl|nx)(?!\w))"
    r"(?:\.\w+)*",
    re.IGNORECASE,
)
NEUTRAL = "library"  # stands for every name
SHORTEST = 6  # words: "Return the name." belongs to no library
VALIDATION_SHARE = 0.1  # of the modules
EXAMINED = 100  # documents of each library for validation, and for test, if there are so many


class Parts(NamedTuple):
    """Rows to learn from, rows to choose settings by, and rows that are looked at once."""

    train: list[Example]
    validation: list[Example]
    test: list[Example]


def masked_names(text: str) -> str:
    """A text in which no library is named.

    >>> masked_names("Like numpy.add, but for a PyTorch tensor; np.add is slower.")
    'Like library, but for a library tensor; library is slower.'
    """
    return NAMES.sub(NEUTRAL, text)


def library_task(corpus: Corpus) -> Parts:
    """Documents with the library that they come from as their label, its name masked.

    All that are left for training (draw from them with `labelled.balanced`); equally many of each library for
    validation and test. Raises CorpusError when the corpus has documents of one library at most.
    """
    parts: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
    for document in corpus.documents:
        text = masked_names(document.text)
        if document.library in LIBRARIES and document.part != "dropped" and len(text.split()) >= SHORTEST:
            part = "test" if document.part == "held_out" else _part_of(document.module)
            parts[part].append(Example(text, (document.library,)))
    counts = {name: Counter(example.answers[0] for example in examples) for name, examples in parts.items()}
    if len(counts["train"]) < 2:
        raise CorpusError(f"{corpus.name!r} has no two of the libraries {', '.join(LIBRARIES)}: take the corpus docs.")
    validation, test = (
        balanced(parts[name], min(EXAMINED, *counts[name].values()), seed=0) for name in ("validation", "test")
    )
    return Parts(parts["train"], validation, test)


def _part_of(module: str) -> str:
    """Whether a training module of the corpus serves for learning or for choosing: a hash of its name decides."""
    number = int.from_bytes(hashlib.sha256(f"validation {module}".encode()).digest()[:8], "big") / 2**64
    return "validation" if number < VALIDATION_SHARE else "train"


# -- which words are code ---------------------------------------------------------------------------------------------

CODE = re.compile(  # :role:`name`, ``code`` or `name`; no formula, citation or link
    r":(?!math|cite|footcite|ref|doc)[\w:+-]+:`[!~.]*([^`<]+?)(?:\s*<[^`>]*>)?`|``([^`]+?)``|(?<!`)`[!~.]*([^`<]+?)`(?![`_])"
)
EMPTY_CALL = re.compile(r"(?<=\w)\(\)")  # the corpus writes name() as name
STAND_IN = re.compile(r"Qz([a-j]+)q")  # for the code of a sentence, while it is cleaned


def code_task(
    libraries: Sequence[str] = ("numpy", "networkx"), most: int = 6000, most_held_out: int = 600, seed: int = 0
) -> Parts:
    """Sentences as tokens, tagged B-CODE, I-CODE or O by what stands in backticks in the docstring.

    At most so many, drawn at random, each with some code. The marks themselves are gone, and a sentence is one that the
    corpus keeps. The validation part is empty. Raises CorpusError when these libraries give no two parts.
    """
    train: dict[str, Example] = {}  # by sentence, so that none comes twice
    test: dict[str, Example] = {}
    known = [library for library in libraries if library in documentation.LIBRARIES]
    for file in (file for library in known for file in source_files(library)):
        part = test if is_held_out(file[2]) else train
        part.update({" ".join(example.content): example for example in code_sentences(file)})
    kept = [example for sentence, example in train.items() if sentence not in test]
    if not kept or not test:
        raise CorpusError(f"too little code is marked in {', '.join(libraries)}: name other or more libraries.")
    draw = random.Random(seed)
    return Parts(
        draw.sample(kept, min(most, len(kept))), [], draw.sample(list(test.values()), min(most_held_out, len(test)))
    )


def code_sentences(file: File) -> Iterator[Example]:
    """The tagged sentences with code of one Python file."""
    for _, _, docstring in raw_docstrings(file):
        for paragraph in paragraphs(docstring):
            yield from tagged_sentences(paragraph)


def tagged_sentences(paragraph: str) -> Iterator[Example]:
    """The sentences with code of a paragraph in which the backticks are still in place.

    >>> [example.answers for example in tagged_sentences("Returns the sum of ``x`` and of the others.")]
    [('O', 'O', 'O', 'O', 'B-CODE', 'O', 'O', 'O', 'O', 'O')]
    """
    code: list[str] = []

    def stand_in(match: re.Match[str]) -> str:
        code.append(EMPTY_CALL.sub("", next(group for group in match.groups() if group)))
        return f"Qz{_letters(len(code) - 1)}q"

    for sentence in sentences(CODE.sub(stand_in, paragraph)):
        pieces = STAND_IN.split(sentence)  # prose, number of a code, prose, ...
        pieces[1::2] = [code[_number(letters)] for letters in pieces[1::2]]
        if len(pieces) > 1 and is_english("".join(pieces)):
            yield _tagged(pieces)


def _tagged(pieces: Sequence[str]) -> Example:
    """Prose and code in turn, as tokens with their tags."""
    tokens: list[str] = []
    tags: list[str] = []
    for i, piece in enumerate(pieces):
        words = words_of(piece)
        tokens += words
        tags += ["B-CODE", *["I-CODE"] * (len(words) - 1)][: len(words)] if i % 2 else ["O"] * len(words)
    return Example(tuple(tokens), tuple(tags))


def _letters(number: int) -> str:
    """A number in letters, as a stand-in must be one plain word: 10 -> ba."""
    return "".join(chr(ord("a") + int(digit)) for digit in str(number))


def _number(letters: str) -> int:
    return int("".join(str(ord(letter) - ord("a")) for letter in letters))
