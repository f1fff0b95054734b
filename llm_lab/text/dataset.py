"""A corpus made ready for training: tokenizer, packed rows, and where they come from. Kept in the cache.

Letters: N rows, T tokens of a row, V vocabulary.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from llm_lab import home
from llm_lab.config import EVALUATION_MASKING, MaskingConfig
from llm_lab.text.batches import BatchStream
from llm_lab.text.corpus import Corpus
from llm_lab.text.packing import pack
from llm_lab.text.tokenizer import Tokenizer, train_tokenizer

FORMAT = 2  # raise it when the way of making the files below changes
DIGEST_BYTES = 32


@dataclass(frozen=True)
class Dataset:
    """Rows of token ids from one corpus, and the tokenizer that made them."""

    corpus: Corpus
    tokenizer: Tokenizer
    train: np.ndarray  # (N, T) uint16 or int64
    held_out: np.ndarray  # (N', T)

    evaluation_masking = EVALUATION_MASKING

    @property
    def about(self) -> dict[str, Any]:
        """What the rows were made of: two datasets with equal `sha` and `tokenizer` ask for the same training."""
        corpus = self.corpus
        about = {"name": corpus.name, "words": corpus.num_words, "versions": corpus.versions}
        return about | {"sha": corpus.sha, "tokenizer": self.tokenizer.sha}

    def stream(
        self, masking: MaskingConfig, batch_rows: int, seed: int, rank: int = 0, world_size: int = 1
    ) -> BatchStream:
        """Masked batches of the training rows, for ever."""
        return BatchStream(self.train, self.tokenizer, masking, batch_rows, seed, rank, world_size)

    @property
    def tokens_per_byte(self) -> float:
        """Tokens, without special ones, for each byte of held-out text: it turns nats a token into bits a byte."""
        return tokens_per_byte(self.held_out_texts, self.tokenizer)

    @property
    def held_out_texts(self) -> list[str]:
        """The held-out documents."""
        return [document.text for document in self.corpus.split("held_out")]

    @property
    def unigram(self) -> np.ndarray:
        """The probability of each token in the training rows, (V,): counts plus one, special tokens left out."""
        return unigram(self.train, self.tokenizer)


def tokens_per_byte(texts: list[str], tokenizer: Tokenizer) -> float:
    """Tokens, without special ones, for each byte of some texts."""
    return sum(len(ids) - 2 for ids in tokenizer.encode_many(texts)) / sum(len(text.encode()) for text in texts)


def unigram(rows: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    """The probability of each token in rows, (V,): counts plus one, special tokens left out."""
    counts = np.bincount(rows.ravel(), minlength=tokenizer.vocabulary_size) + 1.0
    counts[list(tokenizer.special_ids)] = 0.0
    return counts / counts.sum()


def train_corpus_tokenizer(corpus: Corpus, vocabulary_size: int) -> Tokenizer:
    """The lowercase WordPiece tokenizer of a corpus' training part, from the cache where it was trained before."""
    path = home.cache_folder() / f"tokenizer-{_key(corpus.sha, vocabulary_size)}.json"
    stored = _stored(path)
    if stored is not None:
        return Tokenizer(tokenizers.Tokenizer.from_buffer(stored))
    tokenizer = train_tokenizer((document.text for document in corpus.split("train")), vocabulary_size)
    _keep(path, tokenizer.to_json().encode())
    return tokenizer


def prepare(corpus: Corpus, vocabulary_size: int, row_length: int, tokenizer: Tokenizer | None = None) -> Dataset:
    """Tokenize and pack a corpus. Without a `tokenizer` the corpus gets its own.

    Raises ValueError, with the remedy, when a part of the corpus is shorter than one row.
    """
    tokenizer = tokenizer or train_corpus_tokenizer(corpus, vocabulary_size)
    path = home.cache_folder() / f"rows-{_key(corpus.sha, row_length, tokenizer.to_json())}.npz"
    stored = _stored(path)
    if stored is not None:
        with np.load(io.BytesIO(stored)) as rows:
            return Dataset(corpus, tokenizer, rows["train"], rows["held_out"])
    parts = {part: _pack_part(corpus, part, tokenizer, row_length) for part in ("train", "held_out")}
    buffer = io.BytesIO()
    np.savez(buffer, train=parts["train"], held_out=parts["held_out"])
    _keep(path, buffer.getvalue())
    return Dataset(corpus, tokenizer, **parts)


def _pack_part(corpus: Corpus, part: str, tokenizer: Tokenizer, row_length: int) -> np.ndarray:
    documents = tokenizer.encode_many([document.text for document in corpus.split(part)])
    try:
        rows = pack(documents, row_length)
    except ValueError as error:
        raise ValueError(f"the {part} part of {corpus.name!r} is too small: {error}") from error
    return rows.astype(np.uint16) if tokenizer.vocabulary_size <= 2**16 else rows  # a quarter of the memory


def _key(*parts: object) -> str:
    return hashlib.sha256(json.dumps([FORMAT, *parts]).encode()).hexdigest()[:16]


def _stored(path: Path) -> bytes | None:
    """What `_keep` wrote, or None if nothing is there or a byte of it has changed since."""
    with contextlib.suppress(OSError):
        data = path.read_bytes()
        if hashlib.sha256(data[:-DIGEST_BYTES]).digest() == data[-DIGEST_BYTES:]:
            return data[:-DIGEST_BYTES]
    return None


def _keep(path: Path, data: bytes) -> None:
    """Try to write to the cache, with a SHA-256 at the end. A full disk costs time at the next start, not this run."""
    try:
        home.write_atomically(path, data + hashlib.sha256(data).digest())
    except OSError as error:
        why = f"  Not kept in the cache ({error.strerror}): the next start does this again."
        print(why, file=sys.stderr)  # the standard output belongs to results
