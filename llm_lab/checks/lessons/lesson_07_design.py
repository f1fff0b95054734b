"""Exercises of lesson 07, positions, fourth part: a bias of the reader's own, measured."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.compare import kind_of
from llm_lab.checks.design import Design
from llm_lab.config import require
from llm_lab.lessons import budget
from llm_lab.model.positions import alibi_slopes

HEADS, LENGTH = 4, 26
UNHEARD = -20.0  # below the best place of a head: its share is e^-20


def facts_of(answer: Any) -> dict[str, Any]:
    """What can be seen of a bias without training with it."""
    bias = answer(HEADS, LENGTH)
    fits = isinstance(bias, Tensor) and bias.shape == (HEADS, LENGTH, LENGTH)
    wanted = f"own_bias({HEADS}, {LENGTH}) must return a tensor of shape {(HEADS, LENGTH, LENGTH)}"
    require(fits, f"{wanted}, and returned {kind_of(bias)}")
    require(bool((bias < torch.inf).all()), "a bias must hold numbers or -inf, and this one holds NaN or +inf")
    bias = bias.double().clamp(min=-1e6)
    place = torch.arange(LENGTH)
    right = (place - place[:, None]).double()  # how far s stands to the right of t
    best = bias.amax(dim=-1, keepdim=True)
    return {
        "spread": (bias.max() - bias.min()).item(),
        "key alone": bool((bias - bias[:, :1]).abs().max() < 1e-6),
        "with distance": torch.corrcoef(torch.stack((bias.mean(0).flatten(), right.abs().flatten())))[0, 1].item(),
        "others": (bias - best)[:, right != 0].max().item(),
        "left": (bias - best)[:, (right < 0) & (right > -4)].max().item(),
        "right": (bias - best)[:, (right > 0) & (right < 4)].max().item(),
        "distance alone": _is_linear(bias, right.abs()),
        "directed": bool((bias - _directed(right)).abs().max() < 1e-3),
    }


def _is_linear(bias: Tensor, distance: Tensor) -> bool:
    """Tell whether each head's bias is its value at distance 0, minus a slope times the distance."""
    slope = (bias[:, 0, 0] - bias[:, 0, 1])[:, None, None]
    return bool((bias - bias[:, :1, :1] + slope * distance).abs().max() < 1e-3)


def _directed(right: Tensor) -> Tensor:
    """The directed penalty of section 8 of the lesson."""
    disliked = torch.tensor([1, -1]).repeat(HEADS // 2)[:, None, None] * right
    return -alibi_slopes(HEADS).double()[:, None, None] * torch.where(disliked > 0, 4 * disliked, -disliked)


def held_out_loss(answer: Any) -> float:
    """Train a small model that knows the order by this bias alone; its loss on held-out sentences, in nats."""
    from llm_lab.ward.run import TrainingRun

    run = TrainingRun(steps=budget(full=150, fast=3), positions="alibi")
    run.model.encoder.bias = lambda length: answer(HEADS, length).float()
    run.train(evaluate_every=run.steps)
    return run.evaluate()


OWN_BIAS = Design(
    id="07.own_bias",
    title="Who should hear whom?",
    task="""\
A small model of two layers, four heads each, trains for 150 steps on the hard language. It knows the order by one thing
alone: a bias that is added to its scores, in every layer. You make it. Write `own_bias(num_heads, length)`; it returns
(H, T, T) in float32, and entry [h, t, s] is added to the score of query t and key s in head h. Each run sees the same
sentences from the same start, and sits its exam on held-out sentences. ALiBi ends at about 3.75 nats, the directed
penalty of section 8 at about 3.55. Less is better, and the goal is 3.2. How far do you get?""",
    why="ALiBi is one choice of many. What you know of a language can be built into the model before it learns.",
    difficulty=4,
    minutes=30,
    first="return ALiBi's, `alibi_bias(alibi_slopes(num_heads), length)`, and see what the check says.",
    hints=(
        """In 150 steps a model learns little beyond a blank's nearest words. Which words would *you* look at first? And
        which word does every head of ALiBi prefer?""",
        "A head need not prefer distance 0: -c · |s - t - k| is highest k words to the right of the query.",
        "Let one head prefer the word before, another the word behind; vary c, and give the other two something else.",
    ),
    explanation="""\
The word before and the word behind a blank tell most about it (the staircase: *both neighbours*), and a head of ALiBi
can't tell them apart. Here each head has a distance of its own, to one side. On texts whose far words matter, such
narrow heads would cost something.""",
    setup="from llm_lab.model.positions import alibi_bias, alibi_slopes",
    stub="""
def own_bias(num_heads, length):
    '''What is added to the scores, (H, T, T): entry [h, t, s] for query t and key s in head h.'''
    raise NotImplementedError
""",
    right=("own_bias", "own_bias_with_sides"),
    facts=facts_of,
    measure=held_out_loss,
    goal=3.2,
    unit="nats",
    about="training 150 steps on the hard language, 5 to 30 seconds ...",
    when={
        "nothing said": lambda facts: facts["spread"] < 1e-6,
        "too soft": lambda facts: facts["spread"] < 1,
        "the place of the key": lambda facts: facts["key alone"],
        "far is better": lambda facts: facts["with distance"] > 0.1,
        "each to itself": lambda facts: facts["others"] < UNHEARD,
        "deaf on one side": lambda facts: min(facts["left"], facts["right"]) < UNHEARD,
        "a penalty for distance alone": lambda facts: facts["distance alone"],
        "the lesson's directed penalty": lambda facts: facts["directed"],
    },
    wrong=catalogue("""
# nothing said
Your bias is the same everywhere, so the model can't know the order: 4.14 nats.
def wrong(num_heads, length):
    return torch.zeros(num_heads, length, length)

# too soft
Your bias spans less than 1: e to that power hardly tells one place from another.
def wrong(num_heads, length):
    return 0.1 * own_bias(num_heads, length).clamp(min=-9)

# the place of the key
Your bias depends on the place of the key alone, and not on who looks: 4.4 nats. How far is it from t to s?
def wrong(num_heads, length):
    return (-0.5 * torch.arange(length)).expand(num_heads, length, length)

# far is better
Far words get more than near ones: 4.05 nats. Is the sign as you mean it?
def wrong(num_heads, length):
    return -alibi_at_once(num_heads, length)

# each to itself
Every token hears itself alone: 4.48 nats, the word frequencies.
def wrong(num_heads, length):
    return -1e4 * (1 - torch.eye(length)).expand(num_heads, length, length)

# deaf on one side
No head hears the nearest words of one side: 3.3 to 3.8 nats. A blank has two neighbours.
def wrong(num_heads, length):
    place = torch.arange(length)
    return alibi_at_once(num_heads, length).masked_fill(place > place[:, None], -1e4)

# a penalty for distance alone
That is ALiBi, or ALiBi with other slopes: 3.4 to 3.8 nats. Each head hears its own place best, and both sides alike.
def wrong(num_heads, length):
    return 4 * alibi_at_once(num_heads, length)

# the lesson's directed penalty
That is the directed penalty of section 8: 3.55 nats. It knows the sides, and each head still hears its own place best.
def wrong(num_heads, length):
    right = torch.arange(length) - torch.arange(length)[:, None]
    disliked = torch.tensor([1, -1]).repeat(num_heads // 2)[:, None, None] * right
    return -alibi_slopes(num_heads)[:, None, None] * torch.where(disliked > 0, 4 * disliked, -disliked)
"""),
)

EXERCISES = (OWN_BIAS,)
