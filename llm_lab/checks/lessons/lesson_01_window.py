"""Exercises of lesson 01, guessing words, second part: a loss below the floor, and a better window model."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.choice import Choice
from llm_lab.checks.design import Design
from llm_lab.config import MaskingConfig
from llm_lab.lessons import budget
from llm_lab.model.window import windows
from llm_lab.text.grammar import hard_language
from llm_lab.text.optimum import floor, masked_sample

# ---------------------------------------------------------------------------------------------------------- diagnose


def losses_below_the_floor() -> None:
    """Print the losses of a colleague's guesser at three mask rates beside the floor of the language there."""
    language = hard_language()
    unigram = torch.bincount(torch.from_numpy(language.sample(5000, 1)).flatten(), minlength=193).double()
    unigram[0] = 0.0  # padding
    print("share hidden   floor   the colleague's loss")
    for rate in (0.1, 0.2, 0.3):
        lowest = floor(language, rate, n=250).mean
        print(f"{rate:12} {lowest:7.2f} {_colleagues_loss(unigram / unigram.sum(), rate):10.2f}")


def _colleagues_loss(unigram: Tensor, rate: float) -> float:
    inputs, labels = masked_sample(hard_language(), MaskingConfig(rate, "pure", "bernoulli"), 1000, 0)
    return -(unigram[labels[labels >= 0]].log().sum() / (inputs != 0).sum()).item()


BELOW_THE_FLOOR = Choice(
    id="01.below_the_floor",
    title="Better than the best?",
    task="""\
A colleague reports losses on the hard language, in nats, at three mask rates; the cell below prints them beside
the floor. The model is a simple one, and knows the word frequencies alone. What has happened?""",
    why="The floor is a test of the whole program: who is below it has made a mistake, and the numbers say which.",
    difficulty=3,
    minutes=6,
    evidence=losses_below_the_floor,
    first="run the cell, and ask of each statement: what would it do when twice as many words are hidden?",
    hints=(
        "Who knows word frequencies alone pays the same, whatever the rate. These losses differ.",
        "Compare the losses at 0.1, 0.2 and 0.3 with each other. Which simple law do they follow?",
        "Divide each loss by its rate. You have met the result: word frequencies, in the lesson's staircase.",
    ),
    explanation="""\
The loss is in proportion to the rate: about 4.5 nats times the share of the hidden words. The sum runs over the
hidden words, and was divided by all of them: each visible word counts as a blank that costs nothing.""",
    choices={
        "a": "The words of the exam stood in the training text.",
        "b": "The logarithm was taken after the mean of the probabilities.",
        "c": "The sum over the hidden words was divided by the number of all words.",
        "d": "The losses are in bits.",
        "e": "The exam is too short: luck.",
        "f": "Nothing is wrong: a model may be better than the oracle.",
    },
    right="c",
    wrong=catalogue("""
# a leak
Word frequencies can't remember a sentence. And remembered answers would cost little at every rate.
= a

# the logarithm of the mean
It makes losses too small, indeed, but by the same amount at every rate: the words are the same.
= b

# bits
Bits make a loss larger, 1.44 times, and that at every rate alike.
= d

# luck
An exam of a thousand sentences has thousands of blanks, and luck follows no law. Look at the three losses again.
= e

# better than the oracle
On a few blanks anybody may be lucky. In the long run nobody pays less than the entropy of the truth.
= f
"""),
)

# ------------------------------------------------------------------------------------------------------------ design

PARAMETERS = 100_000


def facts_of_model(answer: Any) -> dict[str, Any]:
    """What is seen of an untrained window model: its size, its shape, and which of the four clues it uses."""
    vocabulary_size = 23  # not that of the language: the model must be built for any
    model = answer(vocabulary_size).double()
    whole = sum(p.numel() for p in answer(len(hard_language().vocabulary)).parameters())
    clues = torch.randint(1, vocabulary_size, (40, 4), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model(clues)
        shape = tuple(logits.shape)
        if shape != (len(clues), vocabulary_size):
            return {"parameters": whole, "shape": shape}
        swapped = [model(clues[:, order]) for order in ([1, 0, 2, 3], [3, 2, 1, 0])]
        used = [_changes(model, clues, place) for place in range(4)]
        left, right, none = (model(_without(clues, hidden)) for hidden in ((2, 3), (0, 1), (0, 1, 2, 3)))
    return {
        "parameters": whole,
        "shape": shape,
        "probabilities": bool((logits >= 0).all() and torch.allclose(logits.sum(dim=1), logits.new_ones(()))),
        "logarithms": torch.allclose(logits.exp().sum(dim=1), logits.new_ones(())),
        "order": not all(torch.allclose(logits, other) for other in swapped),
        "used": all(used),
        "additive": torch.allclose(logits + none, left + right),
    }


def _changes(model: nn.Module, clues: Tensor, place: int) -> bool:
    other = clues.clone()
    other[:, place] = (clues[:, place] + 5) % 23
    return not torch.allclose(model(other), model(clues))


def _without(clues: Tensor, hidden: tuple[int, ...]) -> Tensor:
    """The clues with id 7 at some places."""
    return clues.index_fill(1, torch.tensor(hidden), 7)


@cache
def blanks(sentences: int, seed: int) -> tuple[Tensor, Tensor]:
    """The four words around each blank, (N, 4), and the hidden word, (N,)."""
    inputs, labels = masked_sample(hard_language(), MaskingConfig(0.15, "pure", "bernoulli"), sentences, seed)
    hidden = labels != -100
    return windows(inputs, 2)[hidden][:, [0, 1, 3, 4]], labels[hidden]


def loss_of_window(answer: Any) -> float:
    """Train a window model for 300 steps on blanks of the hard language; its loss on 2,000 other sentences, in nats."""
    model = answer(len(hard_language().vocabulary))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    (clues, words), (exam, hidden) = blanks(budget(20_000, 300), 1), blanks(budget(2_000, 100), 0)
    chance = torch.Generator().manual_seed(0)
    for _ in range(budget(full=300, fast=3)):
        some = torch.randint(len(words), (512,), generator=chance)
        loss = F.cross_entropy(model(clues[some]), words[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return F.cross_entropy(model.eval()(exam), hidden).item()


WINDOW_MODEL = Design(
    id="01.window_model",
    title="A better window model",
    task="""\
Write `window_model(vocabulary_size)`. It returns a model, an `nn.Module`, that takes the ids of the two words to
each side of a blank, a tensor (N, 4) in the order of the text, and returns logits (N, vocabulary_size) for the
hidden word. The check trains it for 300 steps of 512 blanks of the hard language (Adam, learning rate 0.002,
always the same blanks), and measures its loss on 2,000 other sentences. At most 100,000 parameters. The model of
the lesson reaches about 2.5 nats in these few steps; the goal is 2.4. How far do you get?""",
    why="Half of the art is to learn more in the same steps, and the random start counts as much as the shape.",
    difficulty=3,
    minutes=30,
    first="return the model of the lesson, five parts in `nn.Sequential`, and see what the check says.",
    setup="from torch import nn",
    hints=(
        """300 steps are few. Three things to try: how wide the rows of the embedding are, how many hidden units
        there are, and how large the random numbers are with which the embedding starts.""",
        "`nn.Embedding` starts with normal numbers of size 1. After 300 steps most of a row is still that noise.",
        """`nn.init.normal_(model[0].weight, std=0.3)` makes the start quieter. `nn.LayerNorm` before the hidden
        layer, or one table for the clues and for the output, help too.""",
    ),
    explanation="""\
The model of the lesson, with an embedding that starts at 0.3 instead of 1: the noise of the start drowns less of
what is learnt. It reaches 2.34. With a norm and one table for both ends it was 2.23.""",
    stub="""
def window_model(vocabulary_size):
    '''A model: ids of four clues (N, 4) -> logits (N, vocabulary_size).'''
    raise NotImplementedError
""",
    right=("window_model", "window_model_tied"),
    may_draw=True,
    facts=facts_of_model,
    measure=loss_of_window,
    goal=2.4,
    unit="nats",
    about="training 300 steps on the hard language, 5 to 15 seconds ...",
    when={
        "over the budget": lambda facts: facts["parameters"] > PARAMETERS,
        "wrong form of the logits": lambda facts: facts["shape"] != (40, 23),
        "probabilities in place of logits": lambda facts: facts["probabilities"],
        "log_softmax inside": lambda facts: facts["logarithms"],
        "the order of the clues is lost": lambda facts: not facts["order"],
        "not all four clues": lambda facts: not facts["used"],
        "no hidden layer": lambda facts: facts["additive"],
    },
    wrong=catalogue("""
# over the budget
More than 100,000 parameters. Count each part: rows times columns, and the biases. Which part takes most?
- nn.Linear(4 * 32, 256),
+ nn.Linear(4 * 32, 512),
- nn.Linear(256, vocab
+ nn.Linear(512, vocab

# wrong form of the logits
The result has another shape than (N, vocabulary_size). Print the shape after each part: do the four rows become one?
- nn.Flatten()
+ nn.Identity()
- 4 * 32
+ 32

# probabilities in place of logits
Your model ends in softmax. `cross_entropy` applies softmax itself; twice makes every guess nearly even.
def wrong(vocabulary_size):
    return nn.Sequential(window_model(vocabulary_size), nn.Softmax(dim=1))

# log_softmax inside
Your model ends in log_softmax. It does no harm to the loss, but what is asked for are logits: `cross_entropy` does
the rest.
def wrong(vocabulary_size):
    return nn.Sequential(window_model(vocabulary_size), nn.LogSoftmax(dim=1))

# the order of the clues is lost
The same four words in another order give the same logits: a sum or a mean of rows forgets who stood where.
def wrong(vocabulary_size):
    bag = nn.EmbeddingBag(vocabulary_size, 64)
    return nn.Sequential(bag, nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, vocabulary_size))

# not all four clues
The logits stay the same when one of the four words is exchanged. Two neighbours alone reached 2.50 by counting.
class wrong(nn.Module):
    def __init__(self, vocabulary_size):
        super().__init__()
        self.embedding, self.output = nn.Embedding(vocabulary_size, 32), nn.Linear(64, vocabulary_size)
    def forward(self, clues):
        return self.output(self.embedding(clues[:, 1:3]).flatten(1).relu())

# no hidden layer
What the four clues say is only added up: no clue changes what another one means. Something must bend between the
embedding and the output.
- nn.ReLU()
+ nn.Identity()
"""),
)

EXERCISES = (BELOW_THE_FLOOR, WINDOW_MODEL)
