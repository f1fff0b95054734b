"""Exercises of lesson 04, masking, first part: how much is hidden, and which words."""

from __future__ import annotations

from typing import Any

import torch

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.code import Write
from llm_lab.checks.deck import Draw
from llm_lab.checks.number import Number
from llm_lab.config import MaskingConfig

INTRODUCTION = """\
# 04 - Masking: exercises

Eight exercises to [lesson 04](../notebooks/04_masking.ipynb). They climb, and none blocks the next. Four of them are
parts of a trainer of your own: what passes is kept, and the last exercise of lesson 12 lets your masking, attention,
encoder and loop train together."""

SPECIALS = ((0, 1, 2, 3, 4), (0, 3, 7), (2, 8), (5,))  # they need not be the first ids

# ----------------------------------------------------------------------------------------------------------- predict

SHARE_OF_MASKS = Number(
    id="04.share_of_masks",
    title="How much is hidden from view?",
    task="""\
One token in ten of a text is special (`[CLS]`, `[SEP]`, padding), and never a target. 30% of the *words* are targets,
and the scheme is 80/10/10. Which share of **all** tokens of the input shows `[MASK]`? Give three digits.""",
    why="It is the first thing to count in a batch, and it is never the mask rate itself.",
    difficulty=1,
    minutes=2,
    first="follow one token: is it a word, is it a target, does it show [MASK]? Multiply the three shares.",
    hints=(
        "Think of 1,000 tokens. How many of them are words?",
        "With 1,000 words, 300 would be targets; but there are not 1,000 words.",
        "900 words; 30% of them are targets; and 80% of the targets show [MASK].",
    ),
    explanation="Of 1,000 tokens 900 are words. 270 of these are targets, and 80% of the targets, 216, show [MASK].",
    truth=0.9 * 0.3 * 0.8,
    tolerance=0.001,
    look="A token answers three questions: word, target, [MASK]. Does your number hold a factor for each?",
    wrong=catalogue("""
# the mask rate
30% of the words are targets. Not every token is a word, and not every target shows [MASK].
= 0.3

# special tokens counted
You took 30% of all tokens. Special tokens are never targets.
= 0.24

# every target masked
That is the share of the targets. With 80/10/10 some of them show a word.
= 0.27

# share of the targets
0.8 is a share of the targets. The question is about all tokens.
= 0.8

# mask rate left out
That takes 80% of all words. But only some of the words are targets.
= 0.72

# the targets that show a word
That is what 80/10/10 leaves unmasked: the other targets.
= 0.054
"""),
)

# ------------------------------------------------------------------------------------------------------------- write


def rows_with_specials(draw: Draw) -> tuple[Any, ...]:
    """Ids (B, T) and the special ids among them."""
    specials = draw.choice(*SPECIALS)
    return draw.tokens(draw.B, draw.T, special_ids=specials, share=0.4), specials


MAY_BE_HIDDEN = Write(
    id="04.may_be_hidden",
    title="Who may be hidden?",
    task="""\
Write `may_be_hidden(ids, special_ids)`. For token ids (B, T) it returns a tensor (B, T) of bool, True where a word
stands. Special tokens, padding among them, are False, whatever their ids are.""",
    why="A special token as a target teaches nothing, and padding as a target spoils the count of every row.",
    difficulty=1,
    minutes=4,
    first="""\
make ids by hand, `torch.tensor([[2, 9, 3, 0]])` with the special ids (0, 2, 3), and say what should come out.""",
    hints=(
        "One comparison, `ids != 0`, gives a tensor of bool. You need one for each special id.",
        "Start with True everywhere, and combine the comparisons with `&`.",
        "`torch.isin(ids, torch.tensor(special_ids))` is True at special tokens: you want its opposite.",
    ),
    explanation="`torch.isin` compares each token with the whole list at once, and `~` turns True into False.",
    stub="""
def may_be_hidden(ids, special_ids):
    '''True where a word stands, (B, T). `ids` has shape (B, T); `special_ids` is a tuple of ids.'''
    raise NotImplementedError
""",
    right=("may_be_hidden", "may_be_hidden_by_comparing", "may_be_hidden_token_by_token"),
    inputs=rows_with_specials,
    wrong=catalogue("""
# upside down
True stands at the special tokens. Say aloud what True means here.
- ~torch
+ torch

# the first special id alone
Only one of the special ids is left out: look at all that you are given.
- tuple(special_ids)
+ special_ids[:1]

# one special id forgotten
The last special id counts as a word. Does a loop or a slice end too early?
- torch.tensor(tuple(special_ids))
+ torch.tensor(special_ids[:-1], dtype=torch.long)

# or in place of and
A token is never equal to two ids, so "not the first or not the second" holds always. All conditions must hold.
of may_be_hidden_by_comparing
- torch.ones_like
+ torch.zeros_like
- allowed & (ids
+ allowed | (ids

# everything may be hidden
Every place is True. (Do you look up tensors in a set? It finds them by identity; `.tolist()` gives numbers.)
def wrong(ids, special_ids):
    return torch.ones_like(ids, dtype=torch.bool)

# above the largest special id
You take every id above the largest special one. There may be words below it.
def wrong(ids, special_ids):
    return ids > max(special_ids)

# the first ids
You take the special ids to be 0, 1, 2 and so on. In another tokenizer they stand elsewhere.
def wrong(ids, special_ids):
    return ids >= len(special_ids)

# the ends of the row
You leave out the first and the last place. Special tokens stand in the middle of a packed row, too.
def wrong(ids, special_ids):
    allowed = torch.ones_like(ids, dtype=torch.bool)
    allowed[:, 0] = allowed[:, -1] = False
    return allowed

# the words themselves
You return the ids that may be hidden. One answer for each place is wanted.
def wrong(ids, special_ids):
    return ids[may_be_hidden(ids, special_ids)]
"""),
)

# ------------------------------------------------------------------------------------------------------------- write


def rows_to_choose_from(draw: Draw) -> tuple[Any, ...]:
    """Ids, a masking config, special ids and noise. No rate makes half a word, so that rounding is no question."""
    ids, specials = rows_with_specials(draw)
    return ids, MaskingConfig(draw.choice(0.13, 0.31, 0.47, 0.64)), specials, draw.uniform(draw.B, draw.T)


def row_without_words(draw: Draw) -> tuple[Any, ...]:
    """One row of special tokens between two of words."""
    ids, config, specials, noise = rows_to_choose_from(draw)
    ids = torch.cat((ids[:1], torch.full_like(ids[:1], specials[-1]), ids[:1]))
    return ids, config, specials, torch.cat((noise[:1], noise[-1:], noise[:1].flip(1)))


EXACT_COUNTS = Write(
    id="04.exact_counts",
    title="The same share of every row",
    task="""\
Write `exact_counts(ids, config, special_ids, noise)`. It returns True (B, T) at the targets. In each row the share
`config.rate` of the **words** is chosen, rounded to a whole number, and at least one where the row has any. The chosen
are the words with the smallest `noise` (B, T) of their row. Special tokens are never chosen.""",
    why="A fixed count gives every batch the same shape, and no row is read for nothing.",
    difficulty=3,
    minutes=12,
    first="""\
write it for one row with a loop: list the places of words, sort them by their noise, and take the first few.""",
    hints=(
        "Three steps for a row: which places are words, how many to take, which of them have the smallest noise.",
        "Give special tokens a noise above every other, 2.0 say: then they come last in the order.",
        """`noise.argsort(dim=1)` says which place comes first, second, and so on. The argsort of *that* says which rank
        each place has. Choose the places whose rank is below the count.""",
    ),
    explanation="""\
The package's own function. The first argsort lists places by their noise; the second turns the list into the rank of
each place. All rows are done at once, each with its own count.""",
    stub="""
def exact_counts(ids, config, special_ids, noise):
    '''True at the targets, (B, T). `ids` and `noise` are (B, T); `config.rate` is the share of the words.'''
    raise NotImplementedError
""",
    right=("llm_lab.text.masking.choose_targets", "exact_counts_row_by_row"),
    inputs=rows_to_choose_from,
    more=(row_without_words,),
    wrong=catalogue("""
# share of all tokens
You take the share of T. Special tokens are never chosen, so they don't count either.
- eligible.sum(dim=1, keepdim=True)
+ torch.full((len(ids), 1), ids.shape[1])

# rounds down
3.9 words become 3. `int()` and `//` cut; what does the card ask for?
- .round()
+ .floor()

# rounds up
3.1 words become 4. What does the card ask for?
- .round()
+ .ceil()

# rows without a target
A short row rounds to no target at all, and is read for nothing.
- .clamp(min=1)
+

# one too few
Each row gets one target less than it should, and a short row none. Look at < and <=, and where you count from.
- (rank < wanted)
+ (rank < wanted - 1)

# one too many
Each row gets one target more than it should. Look at < and <=, and where you count from.
- (rank < wanted)
+ (rank <= wanted)

# one die for each word
You compare the noise with the rate: the right share on average, another count in each row. That is the Bernoulli way.
- config.selection == "bernoulli"
+ True

# special tokens take places
Special tokens are in the order, too, and use up places before they are left out: rows get too few targets.
- noise.masked_fill(~eligible, 2.0)
+ noise

# special tokens chosen
Some of the chosen are special tokens.
- noise.masked_fill(~eligible, 2.0)
+ noise
- return eligible & (rank
+ return (rank

# chosen in a row without words
A row without words gets a target all the same: the least count of one is for rows that have a word.
- return eligible & (rank
+ return (rank

# sorted once
argsort lists *places* by their noise. You compare the list itself with the count. What is wanted is the rank of each
place.
- .argsort(dim=1).argsort(dim=1)
+ .argsort(dim=1)

# the largest noise
The words with the largest noise are chosen. That is just as random, but the card says smallest.
- noise.masked_fill
+ (1 - noise).masked_fill

# one count for the batch
All rows get the same number of targets, but they have different numbers of words.
- eligible.sum(dim=1, keepdim=True)
+ eligible.sum(dim=1, keepdim=True)[:1]
"""),
)

EXERCISES = (SHARE_OF_MASKS, MAY_BE_HIDDEN, EXACT_COUNTS)
