"""Exercises of lesson 05, recurrent models, fourth part: a memory of thirty words."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.design import Design
from llm_lab.lessons import budget

LENGTH, WIDTH, LETTERS, PARAMETERS = 30, 32, 8, 20_000


def facts_of_memory(answer: Any) -> dict[str, Any]:
    """What is seen of an untrained memory: its size, its form, and how much of the first word is left at the last."""
    model = answer(WIDTH)
    chance = torch.Generator().manual_seed(0)
    x = torch.randn(3, LENGTH, WIDTH, generator=chance).requires_grad_()
    states = model(x)
    facts = {"parameters": sum(p.numel() for p in model.parameters()), "tensor": isinstance(states, Tensor)}
    facts["shape"] = tuple(states.shape) if facts["tensor"] else ()
    if facts["shape"] != tuple(x.shape):
        return facts
    (slopes,) = torch.autograd.grad(states[1, -1], x, torch.randn(WIDTH, generator=chance), allow_unused=True)
    slopes = torch.zeros_like(x) if slopes is None else slopes
    facts["alone"] = not slopes[[0, 2]].any()  # a row of the batch knows no other
    lengths = slopes[1].norm(dim=1)
    facts["left"] = (lengths[:4].mean() / lengths[-1].clamp(min=1e-30)).item()
    return facts


def marked_letters(rows: int, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows of random letters, one of the first four marked, (B, T, E); and which letter was marked, (B,)."""
    letters = torch.randint(LETTERS, (rows, LENGTH), generator=chance)
    place, row = torch.randint(4, (rows,), generator=chance), torch.arange(rows)
    x = F.one_hot(letters, WIDTH).float()
    x[row, place, LETTERS] = 1.0
    return x, letters[row, place]


def loss_of_memory(answer: Any) -> float:
    """Train a memory for 300 steps to name the marked letter after the last word; its loss on new rows, in nats."""
    model, head = answer(WIDTH), nn.Linear(WIDTH, LETTERS)
    parameters = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=5e-3)
    chance = torch.Generator().manual_seed(0)
    for _ in range(budget(full=300, fast=3)):
        x, letter = marked_letters(64, chance)
        loss = F.cross_entropy(head(model(x)[:, -1]), letter)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    x, letter = marked_letters(1000, torch.Generator().manual_seed(1))
    with torch.no_grad():
        return F.cross_entropy(head(model.eval()(x)[:, -1]), letter).item()


MEMORY = Design(
    id="05.memory",
    title="Remember one letter for thirty words",
    task="""\
Write `memory(width)`. It returns an `nn.Module` that takes a tensor (B, T, width) and returns one of the same
shape: the states of a network that reads each row. The check feeds it rows of 30 random letters, out of 8. One of
the first four is marked, and after the last word a linear layer must name it from the last state. It trains both
for 300 steps (Adam, learning rate 0.005, gradients clipped at 1), and measures the loss on new rows. Width 32, at
most 20,000 parameters. Knowing nothing costs ln 8 = 2.08 nats, and `nn.RNN` and `nn.LSTM` as PyTorch makes them
reach just that. The goal is 0.2.""",
    why="The gradient of a forgotten word is nearly zero, so a cell that forgets at first hardly learns to remember.",
    difficulty=4,
    minutes=30,
    first="wrap an `nn.LSTM(width, width, batch_first=True)` in a module of your own that returns the states alone.",
    setup="from torch import nn",
    hints=(
        "How much of the first word is left after thirty, before any training? The lesson's figure of section 5 tells.",
        "A keep gate near 0.5 keeps a thousand-millionth over thirty words. Where does a gate get its start from?",
        """`lstm.bias_ih_l0[width : 2 * width]` is the bias of the keep gates. With 1 a gate stands at 0.73, which
        is too little for thirty words: compute 0.73 to the power of 30.""",
    ),
    explanation="""\
A bias of 3 opens the keep gates to 0.95, and 0.95 to the power of 30 is a fifth: the gradient of the marked word
arrives, and the rest is learnt. A GRU with the same bias does as well. So does a plain running sum, and attention
beats them all: that is lesson 06.""",
    stub="""
def memory(width):
    '''A module: words (B, T, width) -> states (B, T, width).'''
    raise NotImplementedError
""",
    right=("memory", "memory_of_a_gru"),
    may_draw=True,
    facts=facts_of_memory,
    measure=loss_of_memory,
    goal=0.2,
    unit="nats",
    about="training 300 steps on rows of 30 letters, 5 to 15 seconds ...",
    when={
        "a pair in place of the states": lambda facts: not facts["tensor"],
        "wrong form of the states": lambda facts: facts["shape"] != (3, LENGTH, WIDTH),
        "over the budget": lambda facts: facts["parameters"] > PARAMETERS,
        "rows read each other": lambda facts: not facts["alone"],
        "nothing is carried": lambda facts: facts["left"] == 0,
        "the notes fade at once": lambda facts: facts["left"] < 1e-5,
        "the notes fade": lambda facts: facts["left"] < 1e-2,
        "the notes explode": lambda facts: facts["left"] > 100,
    },
    wrong=catalogue("""
# a pair in place of the states
Your module returns a tuple: a layer of PyTorch gives the states and, beside them, its last notes. Pass on the first
part.
- return _States(lstm)
+ return lstm

# wrong form of the states
The states have another shape than the words. One state of `width` numbers is wanted for each word.
def wrong(width):
    return nn.Sequential(memory(width), nn.Linear(width, 8))

# over the budget
More than 20,000 parameters. An LSTM has 8 times the square of its width, and a little. How many layers are there?
def wrong(width):
    return _States(nn.LSTM(width, width, num_layers=3, batch_first=True))

# rows read each other
A row's states change with the other rows of the batch: your network reads across the batch. Which axis does it take
for time?
- batch_first=True
+ batch_first=False

# nothing is carried
The last state does not depend on the first words at all.
def wrong(width):
    return nn.Sequential(nn.Linear(width, width), nn.Tanh())

# the notes fade at once
Less than a millionth of the first words is left at the end, before any training. No gradient finds its way through
that.
def wrong(width):
    return _States(nn.LSTM(width, width, batch_first=True))

# the notes fade
Something of the first words is left, but less than a hundredth. 300 steps are too few to find it.
- 3.0
+ 1.0

# the notes explode
The first words count more than a hundred times as much as the last: each step stretches what it carries.
def wrong(width):
    rnn = nn.RNN(width, width, batch_first=True)
    nn.init.orthogonal_(rnn.weight_hh_l0, gain=3.0)
    return _States(rnn)
"""),
)

EXERCISES = (MEMORY,)
