"""Exercises of lesson 01, guessing words, first part: what a guess costs."""

from __future__ import annotations

import math
from typing import Any

import torch

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.code import Mend, Write
from llm_lab.checks.deck import Draw
from llm_lab.checks.number import Number

INTRODUCTION = """\
# 01 - Guessing words: exercises

Seven exercises to [lesson 01](../notebooks/01_guessing_words.ipynb). They climb, and none blocks the next. Four of them
are the lesson's own tools, made to stand rough use: logits of a thousand, probabilities of 0, words that were never
seen. The last asks for a better window model than the lesson's."""

# ----------------------------------------------------------------------------------------------------------- predict

SURPRISE = Number(
    id="01.surprise",
    title="Two good guesses and a bad one",
    task="""\
At three blanks, a guesser gives the hidden word the probabilities 0.5, 0.5 and 0.01. How many nats does it pay a
blank, on average? (ln 2 = 0.693, ln 100 = 4.605.)""",
    why="A loss is such a mean, and one bold mistake outweighs many good guesses.",
    difficulty=1,
    minutes=2,
    first="write down what each of the three blanks costs by itself: -ln of its probability.",
    hints=(
        "A blank costs -ln q. Two of the three cost the same.",
        "-ln 0.5 = ln 2, and -ln 0.01 = ln 100.",
        "Add the three costs and divide by three.",
    ),
    explanation="""\
0.693, 0.693 and 4.605 nats, together 5.991, which is 1.997 a blank. An even guess among seven words would have
cost less. The order matters: first the logarithms, then the mean.""",
    truth=(2 * math.log(2) + math.log(100)) / 3,
    tolerance=0.01,
    look="Compute the cost of each blank first, as the card says with ln, and then the mean of the three.",
    wrong=catalogue("""
# the logarithm of the mean
You took the mean of the probabilities first, and then its logarithm. In which order does a guesser pay?
= 1.0887

# bits
That is the mean in bits, with logarithms to base 2. The course counts in nats.
= 2.8813

# the sum
That is what all three blanks cost together.
= 5.9915

# decimal logarithms
That is the mean with logarithms to base 10. Which base has the unit nat?
= 0.8674

# the middle one
That is the cost of the middle guess, the median. The bad guess must count, too.
= 0.6931

# the mean probability
That is the mean of the three probabilities. A guesser pays the surprise at each.
= 0.3367

# a minus too few
A logarithm of a number below 1 is negative. What is paid is minus that.
= -1.9972
"""),
)

# ------------------------------------------------------------------------------------------------------------- write


def truths_and_guesses(draw: Draw) -> tuple[Any, ...]:
    """Truths p and guesses q, (B, V) each; some words can't come, and half of these are not guessed either."""
    p, q = draw.uniform(draw.B, draw.V) + 0.01, draw.uniform(draw.B, draw.V) + 0.01
    never = draw.flags(draw.B, draw.V, share=0.4)
    never[:, 0] = False
    p = p.masked_fill(never, 0.0)
    q = q.masked_fill(never & draw.flags(draw.B, draw.V), 0.0)
    return p / p.sum(dim=1, keepdim=True), q / q.sum(dim=1, keepdim=True)


def sure_and_wrong(draw: Draw) -> tuple[Any, ...]:
    """The first guess gives 0 to a word that can come."""
    p, q = truths_and_guesses(draw)
    q[0, 0] = 0.0
    return p, q / q.sum(dim=1, keepdim=True)


CROSS_ENTROPY = Write(
    id="01.cross_entropy",
    title="What a guess costs in the long run",
    task="""\
Write `cross_entropy(p, q)`. `p` and `q` have shape (N, V): in each row the true probabilities of V words, and the
guessed ones. It returns what each guess pays in the long run, in nats: a tensor of shape (N,) and of the dtype of
`p`. A word that can't come (p = 0) costs nothing, even if it was given q = 0. A word that can come and was given
q = 0 costs infinitely much.""",
    why="It is the loss of all models of this course. The zeros are where real programs print NaN.",
    difficulty=2,
    minutes=6,
    first="take one row, `p = [0.8, 0.2, 0]` and `q = [0.5, 0.5, 0]`, and compute by hand what should come out: 0.69.",
    hints=(
        "Multiply p and -ln q word by word, and add up each row: `.sum(dim=1)`.",
        "`torch.tensor(0.0).log()` is -inf, and 0 times -inf is NaN. Where must the product be 0 instead?",
        """`torch.where(condition, x, 0.0)` takes x where the condition holds, and 0 elsewhere. The condition is
        about p.""",
    ),
    explanation="""\
Where p is 0 the product is set to 0. Everywhere else the logarithm of 0 may do what it likes: -ln 0 is infinite,
and so is the price. `torch.special.xlogy(p, q)` is the same product, with 0 for 0 times the logarithm of 0.""",
    stub="""
def cross_entropy(p, q):
    '''What guesses q pay when p is the truth, in nats: (N, V), (N, V) -> (N,).'''
    raise NotImplementedError
""",
    right=("cross_entropy", "cross_entropy_by_xlogy", "cross_entropy_word_by_word"),
    inputs=truths_and_guesses,
    more=(sure_and_wrong,),
    wrong=catalogue("""
# NaN at the zeros
0 times the logarithm of 0 is NaN, and a sum with a NaN is NaN. What does a word cost that can't come?
- torch.where(p > 0, p * q.log(), 0.0)
+ (p * q.log())

# zeros made small
You add a small number to q, or raise q to it, so that the logarithm stays finite. Then a guess of 0 for a word that
can come costs about twenty nats, and every other guess a trifle too little. Look at the zeros of p instead.
- q.log()
+ (q + 1e-9).log()

# infinite made finite
`nan_to_num` hides NaN, and makes the infinite price a huge finite one. Where does the NaN come from, and which of the
two is an honest number?
- torch.where(p > 0, p * q.log(), 0.0)
+ (p * q.log()).nan_to_num()

# guesses of 0 are free
A word that was given 0 costs nothing, whether it can come or not. Which of the two numbers decides that?
- p > 0
+ q > 0

# truth and guess exchanged
You weight with the guess and take the logarithm of the truth. Who is surprised: the one who guesses, or the language?
- torch.where(p > 0, p * q.log(), 0.0)
+ torch.special.xlogy(q, p)

# no minus
All your costs are negative: the logarithm of a probability is.
- return -torch
+ return torch

# bits
The costs are 1.44 times too large: those are bits.
- q.log()
+ q.log2()

# mean over the words
You divide by the number of words. The weights p make a mean already.
- .sum(dim=1)
+ .mean(dim=1)

# the logarithm of the mean
You take the logarithm of the mean probability. Each word is paid for by itself; the mean comes last.
- torch.where(p > 0, p * q.log(), 0.0).sum(dim=1)
+ (p * q).sum(dim=1).log()

# entropy of the truth
The guess plays no part: that is the floor, which the best guess pays.
- q.log()
+ p.log()

# what lies above the floor
You took the entropy of the truth away: that is the KL divergence. The whole price is wanted.
- torch.where(p > 0, p * q.log(), 0.0)
+ torch.where(p > 0, p * (q / p).log(), 0.0)

# only the likeliest word
You charge for the likeliest word alone. The others come, too, only less often.
def wrong(p, q):
    return -q.gather(1, p.argmax(dim=1, keepdim=True))[:, 0].log()

# probabilities taken for logits
`F.cross_entropy` takes logits and applies softmax. Yours are probabilities already, so softmax was applied once too
often.
def wrong(p, q):
    return F.cross_entropy(q, p, reduction="none")

# one number for all
You return one number for the whole batch. Each row is a guess with a price of its own.
- .sum(dim=1)
+ .sum(dim=1).mean()
"""),
)

# -------------------------------------------------------------------------------------------------------------- mend


def logits_far_away(draw: Draw) -> tuple[Any, ...]:
    """Logits (B, V), whole rows of them moved far up or down."""
    moved = torch.tensor([draw.choice(0.0, 900.0, -900.0, 150.0) for _ in range(draw.B)], dtype=draw.dtype)
    return (2 * draw.normal(draw.B, draw.V) + moved[:, None],)


def logits_far_apart(draw: Draw) -> tuple[Any, ...]:
    """One row spread over 2,000 nats, and one that forbids some words with -inf."""
    z = 3 * draw.normal(2, draw.V)
    z[0, 0], z[0, 1] = 1000.0, -1000.0
    z[1, ::3] = -torch.inf
    return (z,)


SOFTMAX = Mend(
    id="01.softmax",
    title="A softmax that breaks",
    task="""\
`softmax(z)` takes logits (N, V), and returns probabilities (N, V): each row makes 1. The code below is that of the
lesson, and was right for one row of small numbers. Now there are several rows, and a logit may be 1,000, -1,000,
or -inf for a forbidden word. Mend it. (`torch.softmax` passes, but first find the two faults.)""",
    why="exp(89) is too large for a float32. The loss of a whole run becomes NaN at the first such logit.",
    difficulty=2,
    minutes=6,
    first="""\
run it on `torch.zeros(2, 2)`, and then on `torch.tensor([[1000.0, 1000.0]])`. Both should give rows of 0.5.""",
    hints=(
        "Which sum does each row need? `.sum(dim=1, keepdim=True)` keeps a column, by which a table can be divided.",
        """Only differences between logits matter (the lesson's last assertion in section 5). What may you take off
        a row?""",
        "Take the largest logit off its row: then every exponent is 0 or less. `z.max(dim=1, keepdim=True).values`.",
    ),
    explanation="""\
Two faults: one sum for the whole table, and exponents without a limit. Less the row's largest logit, the largest
exponent is 0 and the sum at least 1: nothing can overflow, and nothing is divided by 0.""",
    stub="""
def softmax(z):
    '''Logits (N, V) -> probabilities (N, V); each row makes 1.'''
    return z.exp() / z.exp().sum()
""",
    right=("softmax", "softmax_of_torch", "softmax_by_logarithms", "softmax_row_by_row"),
    inputs=logits_far_away,
    more=(logits_far_apart,),
    wrong=catalogue("""
# large logits overflow
The sums are those of the rows now. But exp(900) is infinite, and infinite over infinite is NaN.
- (z - z.max(dim=1, keepdim=True).values).exp()
+ z.exp()

# one sum for the table
Nothing overflows any more. But the whole table makes 1, and not each row.
- .sum(dim=1, keepdim=True)
+ .sum()

# down the columns
Each column makes 1. A column holds one word's logits from different guesses, which have nothing to do with each
other.
- z.max(dim=1
+ z.max(dim=0
- .sum(dim=1
+ .sum(dim=0

# one maximum for all rows
You take the largest logit of the whole table off all rows. A row far below it becomes nothing but zeros, and 0 over 0
is NaN.
- z.max(dim=1, keepdim=True).values
+ z.max()

# the mean taken off
You take the mean off each row. That may leave a large exponent: which number must become 0, so that none is above it?
- z.max(dim=1, keepdim=True).values
+ z.mean(dim=1, keepdim=True)

# a little in the denominator
A small number below the line saves you from 0 over 0, but such rows come out as zeros, and exp(900) is infinite
still.
- (z - z.max(dim=1, keepdim=True).values).exp()
+ z.exp()
- positive.sum(dim=1, keepdim=True)
+ (positive.sum(dim=1, keepdim=True) + 1e-9)

# NaN painted over
`nan_to_num` turns NaN into 0, so a row with a large logit has no probabilities at all. Keep the NaN from arising.
- (z - z.max(dim=1, keepdim=True).values).exp()
+ z.exp()
- return positive / positive.sum(dim=1, keepdim=True)
+ return (positive / positive.sum(dim=1, keepdim=True)).nan_to_num()

# logits cut off
You limit the logits. Two logits above the limit become equal, and their difference was all that mattered.
- z - z.max(dim=1, keepdim=True).values
+ z.clamp(-80, 80)

# divided by the maximum
You divide by the largest logit. That changes the differences; another operation leaves them.
- z - z.max(dim=1, keepdim=True).values
+ z / z.max(dim=1, keepdim=True).values

# no exponential
Logits are divided by their sum: some shares are negative.
- (z - z.max(dim=1, keepdim=True).values).exp()
+ z

# the logarithm of softmax
Those are the logarithms of the probabilities: log_softmax, a good thing elsewhere.
- return positive / positive.sum(dim=1, keepdim=True)
+ return (positive / positive.sum(dim=1, keepdim=True)).log()
"""),
)

EXERCISES = (SURPRISE, CROSS_ENTROPY, SOFTMAX)
