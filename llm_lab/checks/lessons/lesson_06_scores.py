"""Exercises of lesson 06, attention, first part: scores, and shares."""

from __future__ import annotations

from typing import Any

import torch

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.choice import Choice
from llm_lab.checks.code import Write
from llm_lab.checks.deck import Draw
from llm_lab.checks.number import Number

INTRODUCTION = """\
# 06 - Attention: exercises

Seven exercises to [lesson 06](../notebooks/06_attention.ipynb). They climb, and none blocks the next. The last one,
`attention`, is a part of a trainer of your own: what passes is kept, and the last exercise of lesson 12 lets your
masking, attention, encoder and loop train together.

In all of them B counts rows, T the tokens that look, S the tokens that are looked at, H heads, and D the numbers of a
head."""

# ----------------------------------------------------------------------------------------------------------- predict

SHARE = Number(
    id="06.share",
    title="Who gets how much?",
    task="""\
A query meets three keys of D = 16 numbers. The products of the query with the keys are 0, 4 ln 3 and 4 ln 6 (that is 0,
4.39 and 7.17). Which share of the attention does the third key get? Give two digits.""",
    why="Every line of an attention map is made like this one.",
    difficulty=1,
    minutes=2,
    first="make scores of the three products: by what does the formula of section 2 divide them, when D is 16?",
    hints=(
        "Three steps: divide each product by the root of D, take e to the power of each, and see what share each has.",
        "The root of 16 is 4, so the scores are 0, ln 3 and ln 6.",
        "e to the power of ln 3 is 3, and e to the power of 0 is 1.",
    ),
    explanation="The scores are 0, ln 3 and ln 6, the exponentials 1, 3 and 6. 6 of 10 is 0.6.",
    truth=0.6,
    tolerance=0.005,
    look="Write down all three exponentials, after the division by the root. What do they add up to?",
    wrong=catalogue("""
# no root
That is the softmax of the raw products. A product of 16 numbers is divided first: by what?
= 0.9405

# divided by D
You divided by 16. Softmax then hardly tells the keys apart. Look at the formula: D stands under something.
= 0.4033

# scores as shares
You divided the score by the sum of the scores. What does softmax do to each score before it divides?
= 0.62

# a score of 0 is nothing
The first key's score is 0, and e to the power of 0 is not 0. It takes a part, too.
= 0.6667

# the winner takes all
The third key has the highest score, but softmax is soft: the others get something.
= 1.0

# equal shares
That would hold if all three scores were equal.
= 0.3333

# the second key
That is the share of the second key.
= 0.3
"""),
)

# ------------------------------------------------------------------------------------------------------------- write


def queries_and_keys(draw: Draw) -> tuple[Any, ...]:
    """Queries (B, H, T, D) and keys (B, H, S, D)."""
    return draw.normal(draw.B, draw.H, draw.T, draw.D), draw.normal(draw.B, draw.H, draw.S, draw.D)


SCALED_SCORES = Write(
    id="06.scaled_scores",
    title="All scores at once",
    task="""\
Write `scaled_scores(query, key)`. `query` has shape (B, H, T, D), `key` (B, H, S, D). It returns (B, H, T, S): the
scaled score of each query with each key of its row and head, before the softmax. S need not be T.""",
    why="Of all parts of attention this one has the most ways to be slightly wrong, and none of them crashes.",
    difficulty=2,
    minutes=5,
    first="take one query and one key of two numbers each, and compute their score by hand.",
    hints=(
        "Row t, column s of the matrix product of Q with K, turned on its side, is query t times key s.",
        "`@` multiplies the last two axes, and leaves B and H alone. `key.transpose(-2, -1)` turns K on its side.",
        "Then divide by the root of D: `query.shape[-1] ** 0.5`.",
    ),
    explanation="With the last two axes of K exchanged, `@` multiplies each query with each key. D is the last axis.",
    stub="""
def scaled_scores(query, key):
    '''Scores before the softmax, (B, H, T, S). `query` is (B, H, T, D), `key` (B, H, S, D).'''
    raise NotImplementedError
""",
    right=("scaled_scores", "scaled_scores_by_einsum", "scaled_scores_pair_by_pair"),
    inputs=queries_and_keys,
    wrong=catalogue("""
# no root
Your scores are not divided at all. Their variance grows with D, and softmax becomes all or nothing (section 8).
-  / query.shape[-1] ** 0.5
+

# divided by d_k
Your scores are divided by D, not by its root. Their variance is then 1/D: the wider a head, the less it can choose.
- ** 0.5
+

# multiplied by the root
The root makes your scores larger. What was it good for?
- / query.shape
+ * query.shape

# the root of T
You divide by the root of the number of tokens. A score is a sum over another axis: how many terms has it?
- / query.shape[-1]
+ / query.shape[-2]

# the root of E
You divide by the root of all heads' numbers together. A score is a sum over the numbers of one head.
- / query.shape[-1] ** 0.5
+ / (query.shape[1] * query.shape[-1]) ** 0.5

# keys look at queries
Your table has a row for each key and a column for each query. Who looks has a row.
- query @ key.transpose(-2, -1)
+ key @ query.transpose(-2, -1)

# reshaped, not transposed
`reshape` and `view` cut the numbers anew, in the order in which they lie: numbers of different keys get mixed. To turn
K on its side, two axes must be exchanged.
- key.transpose(-2, -1)
+ key.reshape(*key.shape[:2], key.shape[3], key.shape[2])

# softmax already
Those are shares, they add up to 1. The scores before the softmax are wanted.
- query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
+ (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(dim=-1)

# directions alone
Query and key are brought to length 1 first, so a word can no longer ask loudly or softly. Only the product is divided.
- query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
+ torch.cosine_similarity(query[:, :, :, None], key[:, :, None], dim=-1)

# keys of all heads
Each query meets the keys of all heads, added up. A head has keys of its own: does H stand in both of your inputs under
the same letter?
- query @ key.transpose(-2, -1)
+ query @ key.sum(dim=1, keepdim=True).transpose(-2, -1)
"""),
)

# ---------------------------------------------------------------------------------------------------------- diagnose

WORDS = ("two", "dogs", "sleep", ".", "[PAD]", "[PAD]")
LOG_SHARES = ((2, 3, 1, 1, 2, 1), (1, 2, 4, 1, 1, 1), (1, 5, 1, 1, 1, 1), (1, 1, 1, 2, 3, 2))


def colleagues_map() -> None:
    """Print the attention map of a function that forbids too late, with the sum of each row."""
    weights = torch.tensor(LOG_SHARES).log().softmax(dim=-1).masked_fill(torch.arange(6) >= 4, 0.0)
    print("looks at" + "".join(f"{word:>8}" for word in WORDS) + f"{'sum':>8}")
    for word, row in zip(WORDS, weights.tolist(), strict=False):
        print(f"{word:8}" + "".join(f"{share:8.2f}" for share in (*row, sum(row))))


COLLEAGUES_MAP = Choice(
    id="06.colleagues_map",
    title="A colleague's map",
    task="""\
The cell below prints a colleague's attention map of *two dogs sleep .*, with two places of padding that nobody may look
at. Each row is a word that looks; the last column is the sum of its row. What did the colleague do?""",
    why="A printed map with the sums of its rows finds most bugs of attention in a minute.",
    difficulty=2,
    minutes=5,
    evidence=colleagues_map,
    first="look at the columns of [PAD], and then at the sums. Which of the two is not as it should be?",
    hints=(
        "Nobody looks at the padding: that much is right.",
        "Softmax makes rows that add up to 1. Something was taken away from these rows afterwards.",
        "What is missing from a row is what the padding had before it was set to 0.",
    ),
    explanation="""\
The softmax shared out the attention among all six places, and then the padding's part was thrown away. A row then
hands back a mixture that is too small, and the smaller the more padding it has. Forbid first, share out afterwards.""",
    choices={
        "a": "The softmax runs down the columns: each column adds up to 1.",
        "b": "The mask is upside down: words may look at the padding alone.",
        "c": "The scores of the padding were set to 0 before the softmax.",
        "d": "The scores were not divided by the root of D.",
        "e": "The weights of the padding were set to 0 after the softmax.",
        "f": "Nothing: the sum of a row may be anything.",
    },
    right="e",
    wrong=catalogue("""
# down the columns
Then each column would add up to 1. Add up the first one.
= a

# upside down
Then the columns of [PAD] would hold everything. They hold nothing here.
= b

# a score of 0
e to the power of 0 is 1: the padding would get a share, and the rows would add up to 1.
= c

# no root
Without the root the largest weight of a row is larger, but each row still adds up to 1.
= d

# any sum
A row says how a word shares out its attention: all of it, unless it may look at nothing at all.
= f
"""),
)

EXERCISES = (SHARE, SCALED_SCORES, COLLEAGUES_MAP)
