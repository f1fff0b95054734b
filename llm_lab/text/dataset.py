"""A corpus made ready for training: tokenizer, packed rows, and where they come from. Kept in the cache.

Letters: N rows, T tokens of a row, V vocabulary.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from llm_lab import home
from llm_lab.text.corpus import Corpus, Document
from llm_lab.text.packing import pack
from llm_lab.text.tokenizer import Tokenizer, TokenizerError, load_tokenizer, train_tokenizer

FORMAT = 2  # raise it when the way of making the files below changes


@dataclass(frozen=True)
class Dataset:
    """Rows of token ids from one corpus, and the tokenizer that made them."""

    corpus: Corpus
    tokenizer: Tokenizer
    train: np.ndarray  # (N, T) uint16 or int64
    held_out: np.ndarray  # (N', T)

    @property
    def tokens_per_byte(self) -> float:
        """Tokens, without special ones, for each byte of held-out text: it turns nats a token into bits a byte."""
        texts = [document.text for document in self.corpus.split("held_out")]
        num_bytes = sum(len(text.encode()) for text in texts)
        return sum(len(ids) - 2 for ids in self.tokenizer.encode_many(texts)) / num_bytes

    @property
    def unigram(self) -> np.ndarray:
        """The probability of each token in the training rows, (V,): counts plus one, special tokens left out."""
        counts = np.bincount(self.train.ravel(), minlength=self.tokenizer.vocabulary_size) + 1.0
        counts[list(self.tokenizer.special_ids)] = 0.0
        return counts / counts.sum()


def train_corpus_tokenizer(corpus: Corpus, vocabulary_size: int) -> Tokenizer:
    """The lowercase WordPiece tokenizer of a corpus' training part, from the cache where it was trained before."""
    key = _key(corpus.sha, vocabulary_size)
    path = home.cache_folder() / f"tokenizer-{key}.json"
    if path.is_file():
        try:
            return load_tokenizer(path)
        except TokenizerError:
            path.unlink()  # damaged: train it again
    tokenizer = train_tokenizer((document.text for document in corpus.split("train")), vocabulary_size)
    _keep(lambda: tokenizer.save(path))
    return tokenizer


def prepare(corpus: Corpus, vocabulary_size: int, row_length: int, tokenizer: Tokenizer | None = None) -> Dataset:
    """Tokenize and pack a corpus. Without a `tokenizer` the corpus gets its own.

    Raises ValueError, with the remedy, when a part of the corpus is shorter than one row.
    """
    tokenizer = tokenizer or train_corpus_tokenizer(corpus, vocabulary_size)
    key = _key(corpus.sha, row_length, tokenizer.to_json())
    path = home.cache_folder() / f"rows-{key}.npz"
    if path.is_file():
        try:
            with np.load(path) as stored:
                return Dataset(corpus, tokenizer, stored["train"], stored["held_out"])
        except (OSError, ValueError, KeyError, EOFError):
            path.unlink()  # damaged: pack again
    parts = {part: _pack_documents(corpus.split(part), tokenizer, row_length) for part in ("train", "held_out")}
    buffer = io.BytesIO()
    np.savez(buffer, train=parts["train"], held_out=parts["held_out"])
    _keep(lambda: home.write_atomically(path, buffer.getvalue()))
    return Dataset(corpus, tokenizer, **parts)


def _pack_documents(documents: Sequence[Document], tokenizer: Tokenizer, row_length: int) -> np.ndarray:
    rows = pack(tokenizer.encode_many([document.text for document in documents]), row_length)
    return rows.astype(np.uint16) if tokenizer.vocabulary_size <= 2**16 else rows  # a quarter of the memory


def _key(*parts: object) -> str:
    return hashlib.sha256(json.dumps([FORMAT, *parts]).encode()).hexdigest()[:16]


def _keep(write: Callable[[], None]) -> None:
    """Try to write to the cache. A full or read-only disk costs time at the next start, not this run."""
    try:
        write()
    except OSError as error:
        print(f"  Not kept in the cache ({error.strerror}): the next start does this again.")
