"""A known language made ready for training: fresh sentences without end, and held-out ones that never change.

One sentence a row, as `[CLS] sentence [SEP]`, padded to T = longest sentence + 2. Letters: N rows, B rows of a batch.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from llm_lab.config import MaskingConfig
from llm_lab.text.batches import MaskedStream
from llm_lab.text.corpus import Corpus, Document, make_corpus
from llm_lab.text.dataset import tokens_per_byte, unigram
from llm_lab.text.language import PAD, Language
from llm_lab.text.tokenizer import SPECIAL_TOKENS, Tokenizer

NUM_HELD_OUT, NUM_COUNTED = 2000, 20_000  # sentences
BLOCK = 4096  # fresh sentences that are drawn together
TRAINING, HELD_OUT, COUNTED = 1, 2, 3  # first part of a seed, so that none of the three shares sentences


@dataclass(frozen=True)
class SentenceDataset:
    """A language as a trainer sees it; the same interface as `Dataset`."""

    language: Language
    evaluation_masking = MaskingConfig(rate=0.15, scheme="pure", selection="bernoulli")  # as the oracle assumes

    @property
    def tokenizer(self) -> Tokenizer:
        """One word, one token."""
        return self.language.tokenizer

    @cached_property
    def held_out(self) -> np.ndarray:
        """The sentences on which every model is measured, (N', T)."""
        return framed(self.language.sample(NUM_HELD_OUT, HELD_OUT), self.tokenizer)

    @cached_property
    def train(self) -> np.ndarray:
        """Sentences to count words in, for the baselines, (N, T). Training itself draws fresh ones."""
        return framed(self.language.sample(NUM_COUNTED, COUNTED), self.tokenizer)

    @property
    def held_out_texts(self) -> list[str]:
        """The held-out sentences as text."""
        return [self.language.text_of(row[row >= len(SPECIAL_TOKENS)]) for row in self.held_out]

    @property
    def tokens_per_byte(self) -> float:
        """Tokens for each byte of held-out text: it turns nats a token into bits a byte."""
        return tokens_per_byte(self.held_out_texts, self.tokenizer)

    @cached_property
    def unigram(self) -> np.ndarray:
        """The probability of each token, counted, (V,)."""
        return unigram(self.train, self.tokenizer)

    @property
    def row_length(self) -> int:
        """Tokens of a row (T)."""
        return self.language.max_words + 2

    @property
    def about(self) -> dict[str, Any]:
        """Which language it is; `sha` changes with any of its words and probabilities."""
        sha = hashlib.sha256(self.held_out.tobytes()).hexdigest()
        return {"name": self.language.name, "versions": {}, "sha": sha, "tokenizer": self.tokenizer.sha}

    def stream(
        self, masking: MaskingConfig, batch_rows: int, seed: int, rank: int = 0, world_size: int = 1
    ) -> SentenceStream:
        """Masked batches of fresh sentences, for ever."""
        return SentenceStream(self.language, masking, batch_rows, seed, rank, world_size)


class SentenceStream(MaskedStream):
    """Batches of sentences that were never seen before: sentence number i is a function of (seed, i)."""

    def __init__(
        self, language: Language, masking: MaskingConfig, batch_rows: int, seed: int, rank: int = 0, world_size: int = 1
    ):
        super().__init__(language.tokenizer, masking, batch_rows, seed, rank, world_size)
        self.language = language
        self._block = lru_cache(maxsize=2)(self._drawn)

    def _drawn(self, block: int) -> np.ndarray:
        return framed(self.language.sample(BLOCK, (TRAINING, self.seed, block)), self.tokenizer)

    def rows_of(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """(0, number of the sentence) of each row that this process reads at `step`: there is one endless epoch.

        Short sentences come first, so that the parts of a batch (`Batch.split`) need little padding.
        """
        place = self.places_of(step)
        order = (self.ids_of(place) != PAD).sum(axis=1).argsort(kind="stable")
        return np.zeros_like(place), place[order]

    def ids_of(self, row: np.ndarray) -> np.ndarray:
        """The sentences with these numbers as rows, (B, T)."""
        return np.stack([self._block(int(i) // BLOCK)[i % BLOCK] for i in row])


def framed(sentences: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    """Sentences (N, T - 2) padded with 0 -> `[CLS] sentence [SEP]`, (N, T)."""
    rows = np.full((len(sentences), sentences.shape[1] + 2), PAD)
    rows[:, 0], rows[:, 1:-1] = tokenizer.cls_id, sentences
    rows[np.arange(len(rows)), (sentences != PAD).sum(axis=1) + 1] = tokenizer.sep_id
    return rows


def as_corpus(language: Language) -> Corpus:
    """20,000 sentences as a corpus of documents, for `save_corpus`: to read, or to train on as on any text."""
    texts = [language.text_of(row) for row in language.sample(NUM_COUNTED, COUNTED)]
    places = (f"sentence {i}" for i in range(1, len(texts) + 1))
    documents = [
        Document(text, language.name, place, place, "sentence") for text, place in zip(texts, places, strict=True)
    ]
    return make_corpus(language.name, documents, {})
