"""The languages with a known answer: `easy_language` and `hard_language`, and the grammar behind the hard one.

A probabilistic context-free grammar gives every symbol a list of rules with probabilities. A sentence grows from Root:
take a rule, replace the symbol by the rule's children, go on with the leftmost symbol until only words are left. The
same grammar answers, by the inside pass, how probable any half-seen sentence is (Lari and Young 1990; Goodman 1999).

Letters: B sentences, T words, V vocabulary, K symbols, R rules with two children.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from llm_lab.text import english
from llm_lab.text.dependencies import KINDS, Word, flip_number, label, other_form
from llm_lab.text.language import PAD, Language, Probe, Sample, log_sum
from llm_lab.text.markov import HiddenMarkovLanguage
from llm_lab.text.tree import Tree

ROOT = "Root"
MAX_WORDS = 24


def easy_language(seed: int = 0) -> HiddenMarkovLanguage:
    """A hidden Markov language of 50 words: 8 tags, 3 topics, 24 words a sentence. Seeds other than 0 shuffle it."""
    return HiddenMarkovLanguage(seed)


@lru_cache(maxsize=8)
def hard_language(seed: int = 0) -> Grammar:
    """English-looking sentences with dependencies across distance. Each seed other than 0 is a language of its own:
    the same grammar, with words and rule weights shuffled, so that its floor can't be looked up.
    """
    random = np.random.default_rng(seed)
    families = english.lexemes()
    if seed:
        families = {name: [pairs[i] for i in random.permutation(len(pairs))] for name, pairs in families.items()}
    words: dict[str, dict[str, float]] = defaultdict(dict)
    for category, family, form in english.categories():
        for rank, forms in enumerate(families[family]):
            words[category][forms[form]] = 1 / (rank + 2)  # after Zipf: the first is the most frequent
    rules = [
        (parent, children, weight * np.exp(0.4 * random.standard_normal()) if seed else weight)
        for parent, children, weight in english.rules()
    ]
    return Grammar("grammar" if seed == 0 else f"grammar:{seed}", rules, words)


class LanguageNameError(ValueError):
    """A name that is no known language; the message says what to write."""


def language_named(name: str) -> Language | None:
    """The language of `grammar`, `grammar-easy`, `grammar:SEED` or `grammar-easy:SEED`; None for any other name."""
    kind, _, seed = name.partition(":")
    if kind not in ("grammar", "grammar-easy"):
        return None
    if seed and not seed.isdecimal():
        raise LanguageNameError(f"{name!r} has no whole number after the colon: write {kind} or {kind}:7.")
    return (hard_language if kind == "grammar" else easy_language)(int(seed or 0))


class Step(NamedTuple):
    """One way to rewrite a symbol: its children, or a word of the vocabulary."""

    children: tuple[int, ...]
    word: int  # id, or -1
    probability: float


class Grammar(Language):
    """A probabilistic context-free grammar whose rules have one or two children, over words of their own categories.

    `rules` are (parent, children, weight), `words` the weighted words of each category; weights are brought to sum 1.
    """

    kinds = KINDS

    def __init__(
        self,
        name: str,
        rules: Sequence[tuple[str, tuple[str, ...], float]],
        words: dict[str, dict[str, float]],
        max_words: int = MAX_WORDS,
    ):
        self.name, self.max_words = name, max_words
        self.words = tuple(sorted({word for weights in words.values() for word in weights}))
        self.symbols = tuple(dict.fromkeys([parent for parent, *_ in rules] + list(words)))
        self._steps = self._normalized(rules, words)
        self._prepare_sampling()
        self._prepare_inside()

    def _normalized(self, rules, words) -> list[Step]:
        """All steps, each symbol's in one stretch; `_first` is where a symbol's stretch begins."""
        number = {symbol: k for k, symbol in enumerate(self.symbols)}
        word_id = {word: i for i, word in enumerate(self.vocabulary)}
        choices: dict[str, list[tuple[tuple[int, ...], int, float]]] = {symbol: [] for symbol in self.symbols}
        for parent, children, weight in rules:
            choices[parent].append((tuple(number[child] for child in children), -1, weight))
        for category, weights in words.items():
            choices[category] += [((), word_id[word], weight) for word, weight in weights.items()]
        steps: list[Step] = []
        self._first = np.zeros(len(self.symbols), np.int64)
        for k, symbol in enumerate(self.symbols):
            self._first[k] = len(steps)
            total = sum(weight for *_, weight in choices[symbol])
            steps += [Step(children, word, weight / total) for children, word, weight in choices[symbol]]
        return steps

    # -- sampling -----------------------------------------------------------------------------------------------------

    def _prepare_sampling(self) -> None:
        ends = [*self._first[1:], len(self._steps)]
        self._cumulative = np.ones((len(self.symbols), max(ends - self._first)))
        for k, (start, end) in enumerate(zip(self._first, ends, strict=True)):
            self._cumulative[k, : end - start - 1] = np.cumsum([s.probability for s in self._steps[start : end - 1]])
        # A step pushes its children so that the leftmost comes off the stack first.
        pushed = [(*reversed(step.children), -1, -1)[:2] for step in self._steps]
        self._pushed = np.array(pushed)
        self._num_pushed = np.array([len(step.children) for step in self._steps])
        self._word = np.array([step.word for step in self._steps])

    def derivations(self, n: int, seed: int | Sequence[int]) -> np.ndarray:
        """n sentences as the steps that made them, leftmost symbol first: (n, S) numbers of steps, -1 past the end.

        All sentences grow together, one step at a time. One that must become longer than `max_words` is thrown away,
        and another is made in its place.
        """
        random = np.random.default_rng(seed)
        done: list[np.ndarray] = []
        while (have := sum(map(len, done))) < n:
            done.append(self._grow(int((n - have) * 1.2) + 16, random))
        longest = max(part.shape[1] for part in done)
        padded = [np.pad(part, ((0, 0), (0, longest - part.shape[1])), constant_values=-1) for part in done]
        return np.concatenate(padded)[:n]

    def _grow(self, n: int, random: np.random.Generator) -> np.ndarray:
        stack = np.zeros((n, self.max_words + 2), np.int64)
        stack[:, 0] = self.symbols.index(ROOT)
        size, written = np.ones(n, np.int64), np.zeros(n, np.int64)
        row = np.arange(n)  # those still growing
        taken: list[np.ndarray] = []
        fits = np.ones(n, bool)
        while len(row):
            symbol = stack[row, size[row] - 1]
            step = self._first[symbol] + (random.random(len(row))[:, None] >= self._cumulative[symbol]).sum(axis=1)
            taken.append(np.full(n, -1))
            taken[-1][row] = step
            size[row] -= 1
            for child in range(2):
                pushes = row[self._num_pushed[step] > child]
                stack[pushes, size[pushes]] = self._pushed[step, child][self._num_pushed[step] > child]
                size[pushes] += 1
            written[row] += self._word[step] >= 0
            fits[row] = written[row] + size[row] <= self.max_words  # each symbol becomes at least one word
            row = row[fits[row] & (size[row] > 0)]
        return np.stack(taken, axis=1)[fits]

    def words_of(self, derivations: np.ndarray) -> np.ndarray:
        """The sentences that derivations (n, S) spell, (n, max_words) ids."""
        word = np.where(derivations >= 0, self._word[derivations], -1)
        order = np.argsort(word < 0, axis=1, kind="stable")[:, : self.max_words]
        word = np.take_along_axis(word, order, axis=1)
        ids = np.full((len(word), self.max_words), PAD)
        ids[:, : word.shape[1]] = np.where(word < 0, PAD, word)
        return ids

    def sample(self, n: int, seed: int | Sequence[int]) -> np.ndarray:
        """n sentences as ids, (n, max_words), padded with 0; the same for the same seed."""
        return self.words_of(self.derivations(n, seed))

    def trees(self, n: int, seed: int | Sequence[int]) -> list[Tree]:
        """The trees by which the sentences of `sample(n, seed)` were made."""
        return [self._tree(iter(steps)) for steps in self.derivations(n, seed)]

    def _tree(self, steps) -> Tree:
        step = self._steps[number := int(next(steps))]
        symbol = self.symbols[np.searchsorted(self._first, number, side="right") - 1]
        if step.word >= 0:
            return Tree(symbol, word=self.vocabulary[step.word])
        return Tree(symbol, tuple(self._tree(steps) for _ in step.children))

    def labelled(self, n: int, seed: int | Sequence[int]) -> Sample:
        """The sentences of `sample(n, seed)`, and by which dependency each word is decided."""
        derivations = self.derivations(n, seed)
        kinds = np.full((n, self.max_words), -1)
        for row, steps in zip(kinds, derivations, strict=True):
            found = label(self._tree(iter(steps)))
            row[: len(found)] = [KINDS.index(word.kind) for word in found]
        return Sample(self.words_of(derivations), kinds)

    def probes(self, kind: str, n: int = 100, seed: int = 0) -> list[Probe]:
        """n sentences, each with one word of this kind to ask for, what is forbidden there, and its counterfactual."""
        self._kind(kind)
        found: list[Probe] = []
        block = 0
        while len(found) < n:
            for tree in self.trees(1000, (seed, block)):
                words = label(tree)
                position = next((i for i, word in enumerate(words) if word.kind == kind), None)
                if position is not None:
                    found.append(self._probe(words, position))
            block += 1
        return found[:n]

    def _probe(self, words: list[Word], position: int) -> Probe:
        text = [word.text for word in words]
        noun = words[position].partner
        flipped = flip_number(words, noun) if noun >= 0 and words[noun].category.startswith("Noun.") else None
        if flipped and flipped[position] == text[position]:
            flipped = None  # "the" fits either number
        wrong = flipped[position] if flipped else other_form(words[position])
        ids = self.ids_of([" ".join(text)] + ([" ".join(flipped)] if flipped else []))
        word_id = self.tokenizer.vocabulary
        return Probe(ids[0], position, word_id[text[position]], word_id.get(wrong, -1), ids[1] if flipped else None)

    # -- the inside pass ----------------------------------------------------------------------------------------------

    def _prepare_inside(self) -> None:
        size = len(self.symbols)
        self._emission = torch.zeros(len(self.vocabulary), size, dtype=torch.float64)
        unary = torch.zeros(size, size, dtype=torch.float64)
        pairs = []
        parent = np.searchsorted(self._first, np.arange(len(self._steps)), side="right") - 1
        for k, step in zip(parent.tolist(), self._steps, strict=True):
            if step.word >= 0:
                self._emission[step.word, k] += step.probability
            elif len(step.children) == 1:
                unary[k, step.children[0]] += step.probability
            else:
                pairs.append((k, *step.children, step.probability))
        # A chain of unary rules of any length: I + U + U^2 + ... = (I - U)^-1.
        self._closure = torch.linalg.inv(torch.eye(size, dtype=torch.float64) - unary).T
        self._parent, self._left, self._right = (torch.tensor([p[i] for p in pairs]) for i in range(3))
        self._probability = torch.tensor([p[3] for p in pairs], dtype=torch.float64)

    @cached_property
    def _rules_at(self) -> dict[int, tuple[list[tuple[int, Tensor, Tensor]], Tensor]]:
        """For each width: which rules can join a left part of each width to a right part, and (pairs, K) what they add.

        A determiner is always one word, a clause at least two: most pairs of parts can never meet, so they are skipped.
        """
        possible = {1: (self._emission.sum(dim=0) @ self._closure) > 0}
        table = {}
        for width in range(2, self.max_words + 1):
            splits, used = [], []
            for split in range(1, width):
                rules = (possible[split][self._left] & possible[width - split][self._right]).nonzero()[:, 0]
                if len(rules):
                    splits.append((split, self._left[rules], self._right[rules]))
                    used.append(rules)
            rules = torch.cat(used) if used else torch.zeros(0, dtype=torch.long)
            adds = torch.zeros(len(rules), len(self.symbols), dtype=torch.float64)
            adds[torch.arange(len(rules)), self._parent[rules]] = self._probability[rules]
            table[width] = (splits, adds @ self._closure)
            possible[width] = (table[width][1] > 0).any(dim=0)
        return table

    def inside(self, likelihood: Tensor) -> list[Tensor]:
        """The chart: entry w - 1, (K, T - w + 1, B), is P(symbol becomes words that fit what is seen of w positions).

        likelihood (B, T, V) is P(what is seen at a position | the word there). Symbols come first, so that picking some
        of them copies whole stretches of memory.
        """
        length = likelihood.shape[1]
        chart = [(likelihood @ self._emission @ self._closure).permute(2, 1, 0).contiguous()]
        for width in range(2, length + 1):
            starts = length - width + 1
            splits, adds = self._rules_at[width]
            joined = [
                chart[split - 1][:, :starts].index_select(0, left)
                * chart[width - split - 1][:, split : split + starts].index_select(0, right)
                for split, left, right in splits
            ]
            pairs = torch.cat(joined) if joined else likelihood.new_zeros(0, starts, len(likelihood))
            chart.append((adds.T @ pairs.flatten(1)).unflatten(1, pairs.shape[1:]))
        return chart

    def evidence(self, likelihood: Tensor) -> Tensor:
        """log P(what is seen), summed over all trees: (B, T, V) -> (B,)."""
        # Far from underflow. A constant to the gradient, in which its terms would cancel only up to rounding.
        scale = likelihood.detach().amax(dim=-1, keepdim=True).clamp(min=1e-300)
        whole = self.inside(likelihood / scale)[-1][self.symbols.index(ROOT), 0]
        return whole.log() + scale.log().sum(dim=(1, 2))

    @cached_property
    def log_normalizer(self) -> float:
        """log P(a sentence has at most `max_words` words): longer ones are never said."""
        anything = torch.ones(1, self.max_words, len(self.vocabulary), dtype=torch.float64)
        return log_sum(self.evidence(anything[:, :length]).item() for length in range(1, self.max_words + 1))
