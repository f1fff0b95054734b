"""A grammar written out slowly, without the package's arrays: expansion, trees, inside and outside in plain loops."""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from graphlib import TopologicalSorter
from itertools import product

from llm_lab.text import english
from llm_lab.text.tree import Tree

TINY_RULES = [  # left and right recursion, chains of three unary rules, and a phrase that attaches in two places
    ("Root", ("S", "Stop"), 3.0),
    ("Root", ("S",), 1.0),
    ("S", ("NP", "VP"), 1.0),
    ("NP", ("N",), 3.0),
    ("NP", ("Adj", "N"), 1.0),
    ("NP", ("Pron",), 2.0),
    ("NP", ("NP", "PP"), 1.0),
    ("Pron", ("Who",), 1.0),
    ("VP", ("V",), 2.0),
    ("VP", ("V", "NP"), 3.0),
    ("VP", ("VP", "PP"), 1.0),
    ("PP", ("P", "NP"), 1.0),
]
TINY_WORDS = {
    "N": {"duck": 1.0, "saw": 1.0, "dog": 3.0},  # two nouns are verbs, one is an adjective
    "V": {"duck": 1.0, "saw": 2.0},
    "Adj": {"small": 2.0, "dog": 1.0},
    "Who": {"she": 1.0},
    "P": {"near": 2.0, "by": 1.0},
    "Stop": {".": 1.0},
}


class Plain:
    """Rules and words as dictionaries, brought to sum 1 for each symbol."""

    def __init__(self, rules, words):
        totals = defaultdict(float)
        for parent, _, weight in rules:
            totals[parent] += weight
        for category, weights in words.items():
            totals[category] += sum(weights.values())
        self.unary, self.binary = defaultdict(list), defaultdict(list)
        for parent, children, weight in rules:
            kind = self.unary if len(children) == 1 else self.binary
            kind[parent].append((children, weight / totals[parent]))
        self.words = {c: {w: x / totals[c] for w, x in weights.items()} for c, weights in words.items()}
        self.joins = defaultdict(list)
        for parent, choices in self.binary.items():
            for children, p in choices:
                self.joins[children].append((parent, p))
        chains = {parent: [children[0] for children, _ in choices] for parent, choices in self.unary.items()}
        self.children_first = [symbol for symbol in TopologicalSorter(chains).static_order() if symbol in self.unary]

    def counting(self):
        """The same rules, each with the weight 1: the inside value of a sentence is then its number of trees."""
        other = Plain([], {})
        other.words = {c: dict.fromkeys(words, 1.0) for c, words in self.words.items()}
        other.unary = {parent: [(c, 1.0) for c, _ in choices] for parent, choices in self.unary.items()}
        other.joins = {pair: [(parent, 1.0) for parent, _ in found] for pair, found in self.joins.items()}
        other.children_first = self.children_first
        return other

    # -- what the grammar says ----------------------------------------------------------------------------------------

    def expand(self, num_words, symbol="Root"):
        """All strings of so many words that a symbol can become: {words: probability}."""
        return self._expand(symbol, num_words)

    @cache  # noqa: B019
    def _expand(self, symbol, num_words):
        found = defaultdict(float)
        if num_words == 1:
            for word, p in self.words.get(symbol, {}).items():
                found[word,] += p
        for (child,), p in self.unary.get(symbol, ()):
            for text, q in self._expand(child, num_words).items():
                found[text] += p * q
        for (left, right), p in self.binary.get(symbol, ()):
            for split in range(1, num_words):
                first = self._expand(left, split)
                second = self._expand(right, num_words - split) if first else {}
                for (a, q), (b, r) in product(first.items(), second.items()):
                    found[a + b] += p * q * r
        return dict(found)

    def lengths(self, longest):
        """P(a sentence has n words) for n = 0 .. longest: each rule multiplies power series, over and over."""
        symbols = {*self.unary, *self.binary, *self.words}
        series = {symbol: [0.0] * (longest + 1) for symbol in symbols}
        while True:
            before = dict(series)
            for symbol in symbols:
                new = [0.0, sum(self.words.get(symbol, {}).values())] + [0.0] * (longest - 1)
                for (child,), p in self.unary.get(symbol, ()):
                    new = [a + p * b for a, b in zip(new, series[child], strict=True)]
                for (left, right), p in self.binary.get(symbol, ()):
                    a, b = series[left], series[right]
                    for n in range(2, longest + 1):
                        new[n] += p * sum(a[i] * b[n - i] for i in range(1, n))
                series[symbol] = new
            if series == before:
                return series["Root"]

    # -- what is known of a sentence ----------------------------------------------------------------------------------

    def inside(self, seen):
        """{(i, j): {symbol: P(it becomes words that fit positions i .. j-1)}}; `seen[t]` is {word: likelihood}."""
        n, table = len(seen), {}
        for i, likelihood in enumerate(seen):
            cell = defaultdict(float)
            for category, words in self.words.items():
                p = sum(words[word] * likelihood[word] for word in words if word in likelihood)
                if p:
                    cell[category] += p
            table[i, i + 1] = self._chains(cell)
        for width in range(2, n + 1):
            for i in range(n - width + 1):
                cell = defaultdict(float)
                for k in range(i + 1, i + width):
                    for (left, a), (right, b) in product(table[i, k].items(), table[k, i + width].items()):
                        for parent, p in self.joins.get((left, right), ()):
                            cell[parent] += p * a * b
                table[i, i + width] = self._chains(cell)
        return table

    def _chains(self, cell):
        for parent in self.children_first:
            p = sum(p * cell[child] for (child,), p in self.unary[parent] if child in cell)
            if p:
                cell[parent] += p
        return cell

    def outside(self, inside, n):
        """{(i, j): {symbol: P(all that is seen elsewhere, and the symbol stands here)}}: from the root downwards."""
        table = {span: defaultdict(float) for span in inside}
        table[0, n]["Root"] = 1.0
        for width in range(n, 0, -1):
            for i in range(n - width + 1):
                cell = table[i, i + width]
                for parent in reversed(self.children_first):
                    for (child,), p in self.unary[parent]:
                        if parent in cell and child in inside[i, i + width]:
                            cell[child] += p * cell[parent]
                for k in range(i + 1, i + width):
                    for (left, a), (right, b) in product(inside[i, k].items(), inside[k, i + width].items()):
                        for parent, p in self.joins.get((left, right), ()):
                            if parent in cell:
                                table[i, k][left] += cell[parent] * p * b
                                table[k, i + width][right] += cell[parent] * p * a
        return table

    def probability(self, words):
        """P(sentence), over all its trees; with `counting`, the number of its trees."""
        return self.inside([{word: 1.0} for word in words])[0, len(words)].get("Root", 0.0)

    def trees(self, words):
        """All trees of a sentence, each with its probability."""

        @cache
        def build(symbol, i, j):
            found = []
            if j == i + 1 and words[i] in self.words.get(symbol, {}):
                found.append((Tree(symbol, word=words[i]), self.words[symbol][words[i]]))
            for (child,), p in self.unary.get(symbol, ()):
                found += [(Tree(symbol, (tree,)), p * q) for tree, q in build(child, i, j)]
            for (left, right), p in self.binary.get(symbol, ()):
                for k in range(i + 1, j):
                    first = build(left, i, k)
                    second = build(right, k, j) if first else []
                    found += [(Tree(symbol, (a, b)), p * q * r) for (a, q), (b, r) in product(first, second)]
            return found

        return build("Root", 0, len(words))

    def tree_probability(self, tree):
        """The product of the probabilities of its rules and words."""
        if tree.word:
            return self.words[tree.symbol][tree.word]
        children = tuple(child.symbol for child in tree.children)
        kind = self.unary if len(children) == 1 else self.binary
        p = sum(p for these, p in kind[tree.symbol] if these == children)
        for child in tree.children:
            p *= self.tree_probability(child)
        return p


@cache
def english_words():
    """{category: {word: weight}}: the k-th lexeme of a family has the weight 1/(k+1), k = 1, 2, ..."""
    families, words = english.lexemes(), defaultdict(dict)
    for category, family, form in english.categories():
        for rank, forms in enumerate(families[family], start=1):
            words[category][forms[form]] = 1 / (rank + 1)
    return dict(words)


@cache
def plain_english():
    """The hard language of seed 0."""
    return Plain(list(english.rules()), english_words())


@cache
def tiny():
    """The grammar of a handful of words."""
    return Plain(TINY_RULES, TINY_WORDS)
