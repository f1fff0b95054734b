"""Exercises of lesson 01, guessing words, third part: learning by descent, and by counting."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.code import Write
from llm_lab.checks.deck import Draw

# ------------------------------------------------------------------------------------------------------------- write


@cache
def load_optimizers() -> None:
    """Make one optimizer: the first loads much of torch, seconds that an answer would have to pay."""
    torch.optim.SGD([torch.zeros(1)], lr=1.0)


def logits_and_truths(draw: Draw) -> tuple[Any, ...]:
    """Logits (B, V), true probabilities (B, V) with zeros among them, and a learning rate."""
    load_optimizers()
    p = draw.uniform(draw.B, draw.V) * draw.flags(draw.B, draw.V, share=0.6)
    p[:, 0] += 0.1
    return 2 * draw.normal(draw.B, draw.V), p / p.sum(dim=1, keepdim=True), draw.choice(0.3, 1.0, 4.0)


ONE_STEP = Write(
    id="01.one_step",
    title="One step downhill",
    task="""\
Write `one_step(z, p, rate)`. `z` has shape (N, V): a row of logits for each of N clues. `p`, of the same shape,
holds the true probabilities. The loss is the mean, over the N rows, of the cross-entropy between `p` and the
softmax of `z`. Return the logits after one step of gradient descent with the learning rate `rate`, a tensor (N,
V). By hand or by autograd: both pass.""",
    why="Every optimizer of this course begins with this line, and every model ends in these logits.",
    difficulty=3,
    minutes=12,
    first="""\
take the lesson's example, `z = torch.zeros(1, 2)` and `p = torch.tensor([[0.8, 0.2]])` with rate 1: (0.3, -0.3)
should come out.""",
    hints=(
        "The slope of one row's loss for its logits can be remembered for life: guess minus truth.",
        "The loss is a mean over N rows. What does that do to the slope of each?",
        "Against the slope: `z - rate * slope`, where the guess in the slope is `torch.softmax(z, dim=1)`.",
    ),
    explanation="""\
Guess minus truth, divided by N because the loss is a mean, times the rate, and taken off. Autograd finds the same:
make `z` a fresh leaf with `requires_grad_()`, compute the loss, call `backward`, and read `.grad`.""",
    stub="""
def one_step(z, p, rate):
    '''The logits after one step: z (N, V), the truth p (N, V), the learning rate -> (N, V).'''
    raise NotImplementedError
""",
    right=("one_step", "one_step_by_autograd", "one_step_by_an_optimizer"),
    inputs=logits_and_truths,
    wrong=catalogue("""
# uphill
The logit of a word that should gain goes down: the loss grows. Which sign does a step against the slope have?
- z - rate
+ z + rate

# no softmax
You compare logits with probabilities. The guess in "guess minus truth" is a probability.
- torch.softmax(z, dim=1)
+ z

# the sum of the rows
Your step is N times too long: it belongs to the sum of the rows' losses. The loss here is their mean.
- (torch.softmax(z, dim=1) - p) / len(z)
+ torch.softmax(z, dim=1) - p

# the mean of all numbers
You divide by N and by V. A row's cross-entropy is a sum over its words; the mean is over the rows alone.
- / len(z)
+ / z.numel()

# the probabilities moved
You move the probabilities. What is learnt are the logits: they may be any number, and probabilities may not.
- z - rate
+ torch.softmax(z, dim=1) - rate

# the rate left out
Your step has the length of the slope. The learning rate says how far to go.
- rate * slope
+ slope

# the slope alone
You return the slope. Wanted are the logits after the step.
- return z - rate * slope
+ return slope

# the change alone
You return the change. It still has to be added to the logits.
- return z - rate * slope
+ return -rate * slope

# only words that can come
Logits of words with probability 0 stay as they are. But such words take probability from the others: push them down,
too.
- slope = (torch.softmax(z, dim=1) - p)
+ slope = (torch.softmax(z, dim=1) - p) * (p > 0)

# the slope of a squared error
That is the slope of a squared difference of probabilities. The loss is the cross-entropy, whose slope is simpler.
def wrong(z, p, rate):
    z = z.clone().requires_grad_()
    (torch.softmax(z, dim=1) - p).square().sum(dim=1).mean().backward()
    return z.detach() - rate * z.grad

# softmax down the columns
Your softmax makes each column 1. Each row is a guess.
- torch.softmax(z, dim=1)
+ torch.softmax(z, dim=0)

# softmax twice
`F.cross_entropy` applies softmax itself. You gave it probabilities, so its slopes are those of another function.
def wrong(z, p, rate):
    z = z.clone().requires_grad_()
    F.cross_entropy(torch.softmax(z, dim=1), p).backward()
    return z.detach() - rate * z.grad

# only the likeliest word
You take the likeliest word for the whole truth. The others come, too.
- - p)
+ - F.one_hot(p.argmax(dim=1), p.shape[1]))
"""),
)

# ------------------------------------------------------------------------------------------------------------- write


def clues_and_words(draw: Draw) -> tuple[Any, ...]:
    """Clues and hidden words, (N,) each, that depend on each other; some words never occur as a clue."""
    number = draw.B * draw.T + 2
    seen = draw.integers(0, draw.V, number) // 2 * 2
    hidden = (seen + draw.integers(0, 3, number)) % draw.V
    return seen, hidden, draw.V, draw.choice(0.5, 1.0, 3.0)


COUNT_TABLE = Write(
    id="01.count_table",
    title="Counting, for clues that were never seen",
    task="""\
Write `count_table(seen, hidden, vocabulary_size, extra)`. `seen` and `hidden` are tensors of ids, (N,): a clue,
and the word that was hidden beside it. Return a table of float32, (V, V) with V = `vocabulary_size`: row a holds
the guess for somebody who sees a. Count how often each word was hidden beside each clue, add `extra` times the
word's share of all hidden words (the unigram), and let each row make 1. `extra` is above 0.""",
    why="It is the baseline that every model must beat, and the extra keeps it from paying infinitely much.",
    difficulty=3,
    minutes=15,
    first="""\
do it on paper for the clues [0, 0, 1], the words [1, 1, 2] and three words in all, with `extra` 1. Row 0 is then
(0, 8/9, 1/9).""",
    hints=(
        "Three steps: a table of counts, the shares of the hidden words, and a division of each row by its sum.",
        """A pair can be written as one number, `seen * V + hidden`. `torch.bincount(..., minlength=V * V)` counts
        the numbers, and `.view(V, V)` makes a table of them.""",
        "`counts + extra * unigram` adds the unigram to every row. Then divide by `.sum(dim=1, keepdim=True)`.",
    ),
    explanation="""\
A clue that was often seen follows its counts; one that was never seen has only the extra, and answers with the
unigram. `extra` says how many blanks the unigram is worth.""",
    stub="""
def count_table(seen, hidden, vocabulary_size, extra):
    '''Probabilities (V, V): row = the word that is seen, column = the word that was hidden.'''
    raise NotImplementedError
""",
    right=("count_table", "count_table_with_counters", "count_table_by_multiplying"),
    inputs=clues_and_words,
    wrong=catalogue("""
# no smoothing
You count, and add nothing. A clue that was never seen gives 0 over 0, NaN, and a word that never stood beside a clue
gets 0.
- counts + extra * unigram
+ counts

# only clues that were never seen
You use the unigram where a clue was never seen, and bare counts elsewhere. A word that never stood beside a clue that
was seen once still gets 0.
- smoothed = counts + extra * unigram
+ smoothed = counts + unigram * (counts.sum(dim=1, keepdim=True) == 0)

# every word alike
You add the same to every word. Rare and frequent words differ, and the unigram knows it.
- extra * unigram
+ extra / vocabulary_size

# extra for each word
You add the whole extra to each word. A row then gets V times as much as the card says, and all words get it alike.
- extra * unigram
+ extra

# counts in place of shares
You add `extra` times the counts of the hidden words, and not times their shares.
- / len(hidden)
+

# rows above 1
The rows make more than 1: you divide by the counts alone, as they were before something was added.
- return smoothed / smoothed.sum(dim=1, keepdim=True)
+ return smoothed / counts.sum(dim=1, keepdim=True).clamp(min=1)

# each pair counted once
A pair that occurs five times counts once. An assignment like `counts[seen, hidden] += 1` does that; look at its
documentation.
- counts = torch
+ counts = 1 * (0 < torch
- .view(vocabulary_size, vocabulary_size)
+ .view(vocabulary_size, vocabulary_size))

# down the columns
Each column makes 1. Which word is known, and which is guessed?
- smoothed.sum(dim=1
+ smoothed.sum(dim=0

# the hidden word in the rows
Rows and columns are exchanged: your row a is the guess for the *clue*, when the word a was hidden.
- seen * vocabulary_size + hidden
+ hidden * vocabulary_size + seen

# the table makes 1
All rows together make 1: those are probabilities of pairs. The clue is given: each row is a guess of its own.
- smoothed.sum(dim=1, keepdim=True)
+ smoothed.sum()

# the unigram of the clues
You add shares of the clues. What is guessed are hidden words.
- torch.bincount(hidden, minlength
+ torch.bincount(seen, minlength

# the clue plays no part
All rows are the unigram. Count each clue by itself.
- return smoothed / smoothed.sum(dim=1, keepdim=True)
+ return unigram.expand(vocabulary_size, vocabulary_size).clone()

# half and half
You take half of the counted shares and half of the unigram. A clue that was seen a thousand times needs the unigram
less than one that was seen once.
- smoothed = counts + extra * unigram
+ smoothed = counts / counts.sum(dim=1, keepdim=True).clamp(min=1) + unigram
"""),
)

EXERCISES = (ONE_STEP, COUNT_TABLE)
