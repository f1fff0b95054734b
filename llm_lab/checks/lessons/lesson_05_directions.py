"""Exercises of lesson 05, recurrent models, second part: a row read from both ends."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.choice import Choice
from llm_lab.checks.code import Mend
from llm_lab.checks.deck import Draw

# -------------------------------------------------------------------------------------------------------------- mend


def vectors_and_lengths(draw: Draw) -> tuple[Any, ...]:
    """Vectors (B, T, E) and how many of each row are words; the rest is padding, with numbers of its own."""
    return draw.normal(draw.B, draw.T, draw.E), draw.integers(1, draw.T + 1, draw.B)


REVERSE_WORDS = Mend(
    id="05.reverse_words",
    title="A row turned round",
    task="""\
`reverse_words(x, lengths)` prepares rows for an LSTM that reads from the right. `x` has shape (B, T, E). In row b
the first `lengths[b]` vectors are words, and the rest is padding. The words shall come out in reverse order, at
the start of the row again, and the padding shall stay where it was, as it was. The code below turns everything.
Mend it.""",
    why="""\
With the padding in front, the LSTM reads it first: a row then depends on how long the others in its batch are.""",
    difficulty=2,
    minutes=9,
    first="run the code on `torch.arange(4.0).view(1, 4, 1)` with `torch.tensor([3])`: 2, 1, 0, 3 should come out.",
    hints=(
        "A loop over the rows is allowed: what is to be done with the first `lengths[b]` vectors of row b?",
        "Work on a copy, and write a flipped slice into it.",
        """Without a loop: the word at place t of a row comes from place `length - 1 - t`, and padding from its own
        place.""",
    ),
    explanation="""\
Each row is turned within its own length. The function is its own inverse: applied to what the LSTM gives back, it
brings each state to its word again.""",
    stub="""
def reverse_words(x, lengths):
    '''The first lengths (B,) vectors of each row of x (B, T, E) in reverse order, the padding where it was.'''
    return x.flip(1)
""",
    right=("llm_lab.model.recurrent.reverse_rows", "reverse_words_row_by_row", "reverse_words_by_sorting"),
    inputs=vectors_and_lengths,
    wrong=catalogue("""
# the padding turned, too
The words are where they belong. But the padding behind them has been turned as well.
def wrong(x, lengths):
    return torch.stack([row.flip(0).roll(int(length), 0) for row, length in zip(x, lengths)])

# the padding wiped
The words are right, and the padding is zero now. It shall stay as it was.
- gather_positions(x, torch.where(mirrored >= 0, mirrored, place))
+ gather_positions(x, mirrored.clamp(min=0)) * (mirrored >= 0)[..., None]

# one length for all rows
All rows are turned within the length of the first one. Each has its own.
- lengths[:, None]
+ lengths[:1, None]

# the length of the longest row
All rows are turned within the length of the longest. Shorter ones get their padding in front.
- lengths[:, None]
+ lengths.max().expand(len(x))[:, None]

# one place too far
You turn one vector too many: the first word comes out in the second place. At which place does the last word of a row
stand?
- lengths[:, None] - 1 - place
+ (lengths[:, None]).clamp(max=x.shape[1] - 1) - place

# one word left out
You turn one word too few: the last one stays where it was.
- lengths[:, None] - 1 - place
+ lengths[:, None] - 2 - place

# numbers in place of words
You turn the numbers of each vector. What comes in another order are the words.
def wrong(x, lengths):
    return x.flip(2)

# rows in place of words
You turn the order of the rows.
def wrong(x, lengths):
    return x.flip(0)

# only the ends exchanged
The first word and the last one have changed places. Those between them must, too.
def wrong(x, lengths):
    turned, row = x.clone(), torch.arange(len(x))
    turned[:, 0], turned[row, lengths - 1] = x[row, lengths - 1], x[:, 0]
    return turned

# moved on by one
You move the words in a circle. Their order is still the old one.
def wrong(x, lengths):
    turned = x.clone()
    for row, length in enumerate(lengths.tolist()):
        turned[row, :length] = x[row, :length].roll(1, 0)
    return turned

# nothing turned
The rows come out as they went in.
def wrong(x, lengths):
    return x.clone()
"""),
)

# ---------------------------------------------------------------------------------------------------------- diagnose


def known_by_place() -> None:
    """Print which words each place of a colleague's bidirectional LSTM knows."""
    torch.manual_seed(0)
    T, ahead, back = 8, nn.LSTM(6, 6, batch_first=True), nn.LSTM(6, 6, batch_first=True)
    x = torch.randn(1, T, 6)
    changed = x.repeat(T, 1, 1)
    changed[range(T), range(T)] += 1
    with torch.no_grad():
        one, other = (torch.cat((ahead(rows)[0], back(rows.flip(1))[0]), dim=-1) for rows in (x, changed))
    known = ((other - one).abs().amax(dim=-1) > 1e-6).T  # (place, word)
    print("word        " + " ".join(str(word) for word in range(T)))
    for place in range(T):
        print(f"place {place}     " + " ".join("#" if known[place, word] else "." for word in range(T)))


KNOWN_WORDS = Choice(
    id="05.known_words",
    title="Who knows what?",
    task="""\
A colleague has built a bidirectional LSTM of two `nn.LSTM`s. The cell below changes one word after the other, and
prints which places of the output change: `#` where the place in that row knows the word in that column. For a
right one, everything would be `#`. What has the colleague done?""",
    why="""\
Such a model runs without an error. The picture shows in a second what it can never know.""",
    difficulty=3,
    minutes=10,
    evidence=known_by_place,
    first="run the cell, and look at places 0 and 7: which words does each of them know?",
    hints=(
        "The lower left triangle is what a forward LSTM knows: each place, and all words to its left. It is complete.",
        "The other `#` belong to the backward LSTM. After its first step it has read one word: which one?",
        "At place 0 stands what the backward LSTM knew after its *first* step. Where should that state stand?",
    ),
    explanation="""\
The backward LSTM reads word 7 first, so its first state belongs to place 7. It was put at place 0: the row was
turned before the LSTM and not turned back behind it. Turn the states, too.""",
    choices={
        "a": "There is only one direction.",
        "b": "Both LSTMs read from the left.",
        "c": "The states of the backward LSTM are not turned back to the order of the words.",
        "d": "The states of the two LSTMs are added up, and not joined.",
        "e": "Each place sees only a window of words around it.",
        "f": "The padding of the rows was turned, too.",
    },
    right="c",
    wrong=catalogue("""
# one direction
Then place 0 would know word 0 alone.
= a

# both from the left
Then nobody would know a word to the right of its place. Look at place 0.
= b

# added up
A sum knows what its parts know: the picture would be full.
= d

# a window
Then a band would run along the diagonal. Place 0 knows the *last* word, and not its neighbour.
= e

# padding
These rows have none: all eight words are real.
= f
"""),
)

EXERCISES = (REVERSE_WORDS, KNOWN_WORDS)
