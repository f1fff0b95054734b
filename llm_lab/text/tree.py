"""A sentence as a tree of phrases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Tree(NamedTuple):
    """A symbol with its children, or with its word at a leaf."""

    symbol: str
    children: tuple[Tree, ...] = ()
    word: str = ""

    def leaves(self) -> Iterator[Tree]:
        """The leaves, from left to right."""
        if self.word:
            yield self
        for child in self.children:
            yield from child.leaves()

    def __str__(self) -> str:
        """(NP (Det the) (Noun king)): brackets as in treebanks."""
        return f"({self.symbol} {self.word or ' '.join(map(str, self.children))})"
