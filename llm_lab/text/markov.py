"""The easy language: a hidden Markov model of sentences (Rabiner 1989, doi 10.1109/5.18626).

A sentence has a topic, which stays, and at each word a tag, which depends on the tag before. Tag and topic draw the
word. Letters: B sentences, T words, V vocabulary, S states: one state is a (topic, tag) pair.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from llm_lab.text.language import Language, Probe, Sample
from llm_lab.text.tokenizer import SPECIAL_TOKENS

TAGS = ("determiner", "adjective", "noun", "verb", "adverb", "preposition", "conjunction", "pronoun")
TOPICS = ("kitchen", "sea", "school")
NEXT_TAG = {  # how often each tag follows, in per cent; in the order of TAGS
    "determiner": (0, 35, 65, 0, 0, 0, 0, 0),
    "adjective": (0, 12, 88, 0, 0, 0, 0, 0),
    "noun": (0, 0, 0, 50, 8, 22, 20, 0),
    "verb": (42, 0, 0, 0, 24, 16, 10, 8),
    "adverb": (0, 10, 0, 30, 0, 25, 35, 0),
    "preposition": (72, 0, 18, 0, 0, 0, 0, 10),
    "conjunction": (45, 0, 15, 0, 10, 0, 0, 30),
    "pronoun": (0, 0, 0, 78, 14, 0, 8, 0),
}
FIRST_TAG = (45, 5, 10, 0, 10, 5, 0, 25)
SHARED_WORDS = {  # said alike in every topic
    "determiner": "the a this every",
    "adverb": "now here often never soon",
    "preposition": "with near under behind",
    "conjunction": "and or while",
    "pronoun": "she he we they",
}
TOPIC_WORDS = {  # the words of each topic, in the order of TOPICS; some belong to two
    "adjective": ("hot fresh small", "blue deep small", "quiet new small"),
    "noun": ("pot knife fish bread table", "boat wave fish wind captain", "book lesson table teacher pencil"),
    "verb": ("cooks cuts holds tastes", "sails pulls holds dives", "reads writes holds learns"),
}
OFF_TOPIC = 0.04  # share of content words that come from all topics alike
NUM_WORDS = 24


class HiddenMarkovLanguage(Language):
    """Sentences of 24 words. Seeds other than 0 shuffle the words of each tag and jitter all probabilities."""

    kinds = TAGS

    def __init__(self, seed: int = 0):
        random = np.random.default_rng(seed)
        self.name, self.max_words = "grammar-easy" if seed == 0 else f"grammar-easy:{seed}", NUM_WORDS
        listed = [*SHARED_WORDS.values(), *(words for topics in TOPIC_WORDS.values() for words in topics)]
        self.words = tuple(sorted({word for words in listed for word in words.split()}))

        def normalized(weights: np.ndarray) -> np.ndarray:
            weights = np.asarray(weights, float)
            weights = weights * np.exp(0.4 * random.standard_normal(weights.shape)) if seed else weights
            return weights / weights.sum(axis=-1, keepdims=True)

        topic = normalized(np.ones(len(TOPICS)))
        first = normalized(np.array(FIRST_TAG))
        tag_after = normalized(np.array([NEXT_TAG[tag] for tag in TAGS]))
        # A state is topic * 8 + tag. The topic never changes within a sentence.
        self.initial = np.kron(topic, first)  # (S,)
        self.transition = np.kron(np.eye(len(TOPICS)), tag_after)  # (S, S), rows sum to 1
        self.emission = np.stack(
            [normalized(self._weights(tag, t, random if seed else None)) for t in range(len(TOPICS)) for tag in TAGS]
        )  # (S, V)

    def _weights(self, tag: str, topic: int, random: np.random.Generator | None) -> np.ndarray:
        """The unnormalised probability of each word for a tag and a topic, (V,)."""
        weights = np.zeros(len(SPECIAL_TOKENS) + len(self.words))
        lists = [SHARED_WORDS[tag]] * len(TOPICS) if tag in SHARED_WORDS else list(TOPIC_WORDS[tag])
        for other, words in enumerate(lists):
            share = 1 - OFF_TOPIC if other == topic else OFF_TOPIC / 2
            ranked = words.split() if random is None else random.permutation(words.split())
            for rank, word in enumerate(ranked):
                weights[len(SPECIAL_TOKENS) + self.words.index(word)] += share / (rank + 2)
        return weights

    def labelled(self, n: int, seed: int | Sequence[int]) -> Sample:
        """Sentences, and the tag that made each word."""
        random = np.random.default_rng(seed)
        states = np.empty((n, NUM_WORDS), np.int64)
        for position in range(NUM_WORDS):
            p = self.transition[states[:, position - 1]] if position else np.tile(self.initial, (n, 1))
            states[:, position] = _draw(p, random)
        ids = np.stack([_draw(self.emission[column], random) for column in states.T], axis=1)
        return Sample(ids, states % len(TAGS))

    def sample(self, n: int, seed: int | Sequence[int]) -> np.ndarray:
        """n sentences as ids, (n, 24), the same for the same seed."""
        return self.labelled(n, seed).ids

    def probes(self, kind: str, n: int = 100, seed: int = 0) -> list[Probe]:
        """n sentences, each with a word of this tag to ask for. No word is forbidden, so `wrong` is -1."""
        number, block = self._kind(kind), 0
        found: list[Probe] = []
        while len(found) < n:
            ids, kinds = self.labelled(n, (seed, block))
            rows = (kinds == number).any(axis=1).nonzero()[0]
            places = (kinds == number).argmax(axis=1)
            found += [Probe(ids[row], int(places[row]), int(ids[row, places[row]])) for row in rows]
            block += 1
        return found[:n]

    def evidence(self, likelihood: Tensor) -> Tensor:
        """The forward pass: log P(what is seen), (B, T, V) -> (B,). A shorter T asks about the first T words."""
        seen = likelihood @ torch.from_numpy(self.emission).T  # (B, T, S): P(what is seen here | state)
        transition = torch.from_numpy(self.transition)
        state = torch.from_numpy(self.initial) * seen[:, 0]
        log_evidence = likelihood.new_zeros(len(likelihood))
        for position in range(1, seen.shape[1]):
            # Taken out at every word, so that nothing underflows; a constant to the gradient, which stays exact at 0.
            total = state.detach().sum(dim=1, keepdim=True).clamp(min=1e-300)
            log_evidence = log_evidence + total[:, 0].log()
            state = (state / total) @ transition * seen[:, position]
        return log_evidence + state.sum(dim=1).log()


def _draw(p: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """One draw from each row of p (N, C), (N,)."""
    cumulative = p.cumsum(axis=1)
    return (random.random((len(p), 1)) * cumulative[:, -1:] >= cumulative).sum(axis=1)
