"""Documents: what every corpus consists of, and the split into a training and a held-out part that does not leak.

A document belongs to a module (of a package, or a block of a file). The split is by module, never by document, because
siblings share their wording. Even so a held-out document can repeat training text; those are left out of both parts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

HELD_OUT_SHARE = 0.05  # of the modules
GRAM = 8  # words
LEAKED_SHARE = 0.5  # of a document's 8-grams: from here on the document counts as a copy of training text

WORDS = re.compile(r"\w+(?:['’-]\w+)*")


class CorpusError(ValueError):
    """A corpus that can't be read, built or saved; the message says in one sentence what to change."""


class CorpusNotFoundError(CorpusError, FileNotFoundError):
    """A corpus, file or folder that does not exist."""


@dataclass(frozen=True)
class Document:
    """A piece of prose and where it comes from."""

    text: str  # clean prose, one paragraph a line
    library: str  # "python", "numpy", ...; "files" for the reader's own files
    module: str  # "numpy.linalg", or the file's relative path and the number of the block
    name: str  # qualified name, or the file's name
    kind: str  # "module" | "class" | "function" | "topic" | "file"
    part: str = "train"  # "train" | "held_out" | "dropped": a held-out document that repeats training text


def count_words(text: str) -> int:
    """Return the number of words, split at spaces, as `str.split` does."""
    return len(text.split())


def is_held_out(module: str) -> bool:
    """Say whether a module belongs to the held-out part: a hash of its name decides, so it never changes sides."""
    return _hash(module) < HELD_OUT_SHARE


def _hash(module: str) -> float:
    """Return a number in [0, 1) that depends on the module's name alone."""
    return int.from_bytes(hashlib.sha256(module.encode()).digest()[:8], "big") / 2**64


def mark_parts(documents: Sequence[Document]) -> tuple[Document, ...]:
    """Return the documents with their `part`: split by module, then copies of training text dropped from the held-out.

    When no module's hash falls into the held-out share, the module with the smallest hash is held out, so that two
    modules are enough for two parts.
    """
    held_out = {document.module for document in documents if is_held_out(document.module)}
    if not held_out and documents:
        held_out = {min((document.module for document in documents), key=_hash)}
    leaked = _leaked(documents, held_out)
    parts = ("held_out" if d.module in held_out else "train" for d in documents)
    return tuple(
        replace(document, part="dropped" if i in leaked else part)
        for i, (document, part) in enumerate(zip(documents, parts, strict=True))
    )


def _leaked(documents: Sequence[Document], held_out: set[str]) -> set[int]:
    """Return the indices of the held-out documents of which half of the 8-grams occur in the training documents."""
    grams = {i: list(eight_grams(d.text)) for i, d in enumerate(documents) if d.module in held_out}
    wanted = {gram for document_grams in grams.values() for gram in document_grams}
    seen: set[tuple[str, ...]] = set()
    for document in documents:
        if document.module not in held_out:
            seen.update(wanted.intersection(eight_grams(document.text)))
    return {i for i, own in grams.items() if own and sum(g in seen for g in own) >= LEAKED_SHARE * len(own)}


def eight_grams(text: str) -> Iterable[tuple[str, ...]]:
    """Yield every run of 8 words of a text, in lower case and without punctuation; none for a shorter text."""
    words = WORDS.findall(text.lower())
    return zip(*(words[i:] for i in range(GRAM)), strict=False)


def leak_shares(documents: Sequence[Document]) -> tuple[float, float]:
    """Return which share of the held-out documents repeats training text: before and after dropping them."""
    held_out = {document.module for document in documents if document.part != "train"}
    candidates = [i for i, document in enumerate(documents) if document.module in held_out]
    leaked = _leaked(documents, held_out)
    kept = [i for i in candidates if documents[i].part == "held_out"]
    after = sum(i in leaked for i in kept) / max(1, len(kept))
    return len(leaked) / max(1, len(candidates)), after
