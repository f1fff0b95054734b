"""What the two known languages share: a vocabulary, sampled sentences, and the probability of what is seen of one.

Letters: B sentences, T words of a row, V vocabulary. A language numbers its words as its tokenizer does: special tokens
first, and id 0, [PAD], fills the end of a row.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from llm_lab.text.tokenizer import SPECIAL_TOKENS, Tokenizer, word_tokenizer

PAD, MASK = SPECIAL_TOKENS.index("[PAD]"), SPECIAL_TOKENS.index("[MASK]")


class Sample(NamedTuple):
    """Sentences `ids` (B, T), and `kinds` (B, T): which dependency decides each word, an index into the language's
    `kinds`; -1 past the end.
    """

    ids: np.ndarray
    kinds: np.ndarray


class Probe(NamedTuple):
    """One question about one word of a sentence, `ids` (T,), that a dependency decides.

    `wrong` is the id of the word that the dependency forbids: a verb's other number, another reflexive or conjunction;
    -1 where there is none. `flipped` (T,) is the sentence with the other number of the word it depends on, and of all
    that agrees with that, so that `wrong` is right there; None where number decides nothing.
    """

    ids: np.ndarray
    position: int
    right: int
    wrong: int = -1
    flipped: np.ndarray | None = None

    def asked(self, flipped: bool = False) -> np.ndarray:
        """The sentence, or the flipped one, with [MASK] at the position: what a guesser sees, (T,)."""
        ids = self.flipped if flipped and self.flipped is not None else self.ids
        return np.where(np.arange(len(ids)) == self.position, MASK, ids)


class Language(ABC):
    """A language whose probabilities are known: every question about a hidden word has an exact answer."""

    name: str
    words: tuple[str, ...]  # without special tokens
    max_words: int  # longest sentence
    kinds: tuple[str, ...]  # dependencies that decide words

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """All tokens; a token's place is its id."""
        return SPECIAL_TOKENS + self.words

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """One word, one token."""
        return word_tokenizer(self.words)

    @abstractmethod
    def sample(self, n: int, seed: int | Sequence[int]) -> np.ndarray:
        """n sentences as ids, (n, max_words), the same for the same seed."""

    @abstractmethod
    def labelled(self, n: int, seed: int | Sequence[int]) -> Sample:
        """The sentences of `sample(n, seed)` with the kind of each word."""

    @abstractmethod
    def probes(self, kind: str, n: int = 100, seed: int = 0) -> list[Probe]:
        """n sentences, each with one word of this kind to ask for. Raises ValueError for a kind not in `kinds`."""

    def _kind(self, name: str) -> int:
        if name not in self.kinds:
            raise ValueError(f"{name!r} is no kind of the language {self.name}: choose from {', '.join(self.kinds)}.")
        return self.kinds.index(name)

    @abstractmethod
    def evidence(self, likelihood: Tensor) -> Tensor:
        """log sum over sentences s of P(s) times the product of likelihood[t, s_t]: (B, T, V) -> (B,), in nats.

        All sentences of T words are summed over. Differentiable; float64.
        """

    @cached_property
    def log_normalizer(self) -> float:
        """log P(a sentence has at most `max_words` words): longer ones are never said."""
        return 0.0

    def by_length(self, ids: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The rows of ids (B, T) sorted by their number of words: (length, numbers of the rows)."""
        lengths = (ids != PAD).sum(dim=1)
        for length in lengths.unique().tolist():
            yield length, (lengths == length).nonzero()[:, 0]

    def log_probability(self, ids: np.ndarray | Tensor) -> Tensor:
        """log P(sentence) for ids (B, T) padded with 0: (B,), in nats; -inf for what is no sentence."""
        ids = torch.as_tensor(ids)
        result = torch.full((len(ids),), -torch.inf, dtype=torch.float64)
        for length, rows in self.by_length(ids):
            if length:
                seen = torch.nn.functional.one_hot(ids[rows, :length], len(self.vocabulary)).double()
                result[rows] = self.evidence(seen) - self.log_normalizer
        return result

    def ids_of(self, sentences: Iterable[str]) -> np.ndarray:
        """Sentences as text -> ids (B, max_words). Raises ValueError for an unknown word or a longer sentence."""
        rows = np.full((len(sentences := list(sentences)), self.max_words), PAD)
        for row, sentence in zip(rows, sentences, strict=True):
            ids = self.tokenizer.encode(sentence)[1:-1]
            if self.tokenizer.unknown_id in ids:
                raise ValueError(f"{sentence!r} has a word that is not in the vocabulary of the language {self.name}.")
            if len(ids) > self.max_words:
                raise ValueError(f"{sentence!r} has {len(ids)} words, this language has at most {self.max_words}.")
            row[: len(ids)] = ids
        return rows

    def text_of(self, ids: Iterable[int]) -> str:
        """Ids -> words with spaces between; the padding is left out."""
        return " ".join(self.vocabulary[i] for i in ids if i != PAD)


def log_sum(values: Iterable[float]) -> float:
    """log of the sum of exp(values)."""
    return math.log(math.fsum(math.exp(value) for value in values))
