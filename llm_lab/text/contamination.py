"""How much of an exam stood in the training text: the share of its n-grams and of its documents.

An n-gram is a run of n words, in lower case and without punctuation. Makers of large models look for leaks in the same
way, with 13-grams for GPT-3 (Brown et al. 2020, arXiv 2005.14165, appendix C).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from llm_lab.text.documents import GRAM, LEAKED_SHARE, WORDS


class Contamination(NamedTuple):
    """Shares between 0 and 1. A document counts when half of its n-grams or more occur in the training text."""

    grams: float
    documents: float


def contamination(held_out: Sequence[str], training: Iterable[str], n: int = GRAM) -> Contamination:
    """Measure which share of held-out texts stands in training texts. A text shorter than n words has no n-gram."""
    own = [list(grams(text, n)) for text in held_out]
    wanted = {gram for document in own for gram in document}
    seen: set[tuple[str, ...]] = set()
    for text in training:
        seen.update(wanted.intersection(grams(text, n)))
    found = [sum(gram in seen for gram in document) for document in own]
    copies = sum(hits >= LEAKED_SHARE * len(document) for hits, document in zip(found, own, strict=True) if document)
    return Contamination(sum(found) / max(1, sum(map(len, own))), copies / max(1, len(own)))


def grams(text: str, n: int) -> Iterator[tuple[str, ...]]:
    """Every run of n words of a text.

    >>> list(grams("Returns a copy.", 2))
    [('returns', 'a'), ('a', 'copy')]
    """
    words = WORDS.findall(text.lower())
    return zip(*(words[i:] for i in range(n)), strict=False)
