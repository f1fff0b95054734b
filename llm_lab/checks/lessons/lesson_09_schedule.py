"""Exercises of lesson 09, the training loop, first part: the first loss, a sick curve, and the learning rate."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.choice import Choice
from llm_lab.checks.code import Write
from llm_lab.checks.deck import Draw
from llm_lab.checks.number import Number

INTRODUCTION = """\
# 09 - The training loop: exercises

Eight exercises to [lesson 09](../notebooks/09_training_loop.ipynb). They climb, and none blocks the next. The last
one, `train`, is a part of a trainer of your own: what passes is kept, and the last exercise of lesson 12 lets your
masking, attention, encoder and loop train together."""

# ----------------------------------------------------------------------------------------------------------- predict

WORDS = 1000

FIRST_LOSS = Number(
    id="09.first_loss",
    title="Before the first step",
    task="""\
A masked language model with a vocabulary of 1,000 words has fresh, small weights. 15% of the words are hidden. Which
loss does its first batch show, in nats for one hidden word?""",
    why="It is the first of the four checks. A model that starts elsewhere has a fault before it has learnt anything.",
    difficulty=1,
    minutes=2,
    first="write down the probability that such a model gives to the right word.",
    hints=(
        "With small weights all scores are nearly equal. Which share does each of the 1,000 words get?",
        "The loss of one hidden word is minus the logarithm of the probability of the right one.",
        "Nats are made with the natural logarithm: -ln(1/1000).",
    ),
    explanation="Every word gets 1/1000, so each hidden word costs ln 1000 = 6.91 nats, however many are hidden.",
    truth=math.log(WORDS),
    tolerance=0.1,
    look="Which probability has the right word, and which function turns it into a loss?",
    wrong=catalogue(f"""
# in bits
Those are bits: the logarithm to the base of 2. This course counts in nats.
= {math.log2(WORDS):.4f}

# the wrong logarithm
That is the logarithm to the base of 10. Nats come from the natural one.
= {math.log10(WORDS):.4f}

# only the hidden share
You took 15% of it. The loss is a mean over the hidden words alone: the others do not make it smaller.
= {0.15 * math.log(WORDS):.4f}

# words that are hidden
You took the logarithm of 15% of the vocabulary. Any of the 1,000 words may be the answer.
= {math.log(0.15 * WORDS):.4f}

# nothing learnt costs nothing
A loss of 0 belongs to somebody who knows every word. This model knows none.
= 0.0

# the share of wrong answers
That is how often a blind guess is wrong. The loss asks how much probability the right word got.
= {1 - 1 / WORDS}

# the whole vocabulary
The loss is not the number of words, but the logarithm of it.
= {WORDS}
"""),
)

# ---------------------------------------------------------------------------------------------------------- diagnose


def growing_slopes() -> None:
    """Print the log of a small model that never clears its slopes."""
    chance = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Embedding(50, 16), nn.Linear(16, 50))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=chance))
    print("step   loss   norm of the slopes   learning rate")
    for step in range(1, 41):
        clue = torch.randint(50, (256,), generator=chance)
        word = (torch.rand(256, generator=chance) ** 3 * 50).long()
        loss = F.cross_entropy(model(clue), word)
        loss.backward()
        slopes = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        if step in (1, 2, 3, 5, 10, 20, 40):
            norm = torch.cat([slope.flatten() for slope in slopes]).norm()
            print(f"{step:4} {loss.item():6.2f} {norm:20.2f} {0.003:15}")
        with torch.no_grad():
            for parameter, slope in zip(model.parameters(), slopes, strict=True):
                parameter.sub_(0.003 * slope)


GROWING = Choice(
    id="09.growing",
    title="Read this log",
    task="""\
The cell below prints the log of a colleague's run: plain gradient descent, a constant learning rate, batches of 256
words. The model and the data are small and harmless. What is wrong with the loop?""",
    why="The loss alone looks healthy for a long time. The norm beside it has told you since the second step.",
    difficulty=2,
    minutes=5,
    evidence=growing_slopes,
    first="run the cell, and divide the norm at steps 2, 3, 5 and 10 by the norm at step 1.",
    hints=(
        "The norm at step 10 is about ten times that of step 1. What does it count?",
        "The loss has hardly changed by then, so the slopes of a batch can't have changed much.",
        "What does `backward` do with the numbers that `.grad` holds already?",
    ),
    explanation="""\
`backward` adds each batch's slopes to what lies in `.grad`. Nobody clears it, so at step 10 it holds ten batches, and
the norm is ten times that of one.""",
    choices={
        "a": "The learning rate is too large: the weights are thrown about.",
        "b": "The slopes are not clipped.",
        "c": "There is no warm-up.",
        "d": "The slopes are never cleared.",
        "e": "The loss is a sum over the batch, and not a mean.",
        "f": "Nothing: slopes grow when a model learns.",
    },
    right="d",
    wrong=catalogue("""
# too large a rate
Then the loss would jump. Here it falls in small, even steps.
= a

# not clipped
Clipping would hide the number. Why does it grow in proportion to the step?
= b

# no warm-up
Warm-up makes the first moves small. The rate has no part in the slopes of step 2, whose norm is doubled already.
= c

# a sum in place of a mean
Then the norm would be large from step 1 on, and would stay about the same.
= e

# nothing is wrong
Ten times the norm at nearly the same loss, with the same kind of batches: the model has not changed so much.
= f
"""),
)

# ------------------------------------------------------------------------------------------------------------- write


def a_moment(draw: Draw) -> tuple[Any, ...]:
    """A step of a run, at its edges more often than elsewhere, its steps, the warm-up and the lowest share."""
    steps = 3 * draw.T + draw.S + 2
    warmup = draw.choice(0, 1, 2, steps // 3, steps // 2)
    edges = (0, warmup - 1, warmup, warmup + 1, warmup + 2, (steps + warmup) // 2, steps - 1, steps, steps + draw.B)
    return max(0, draw.choice(*edges)), steps, warmup, draw.choice(0.0, 0.1, 0.25)


def moments(step: int, steps: int, warmup: int, lowest: float) -> Any:
    """A maker that always gives the same moment."""
    return lambda draw: (step, steps, warmup, lowest)


COSINE = Write(
    id="09.cosine",
    title="Up in a line, down in a wave",
    task="""\
Write `cosine(step, steps, warmup, lowest)`: the share of the peak learning rate at a step, counted from 0. In the first
`warmup` steps it is (step + 1) / warmup. Then it falls along half a wave of the cosine: from 1, at step = warmup, to
`lowest`, at step = steps. Past the end it stays at `lowest`. `warmup` may be 0, and is less than `steps`.""",
    why="It is the schedule of most papers. One step too late, or past the end, and a run ends with a rate of its own.",
    difficulty=2,
    minutes=8,
    first="do it for warmup = 0 and lowest = 0: 1 at step 0, one half in the middle of the run, 0 at the end.",
    hints=(
        "Three stretches: the climb, the wave, and what lies past the end.",
        "On the wave, which part of the way from `warmup` to `steps` is done? Call it w, from 0 to 1.",
        "(1 + cos(pi · w)) / 2 goes from 1 to 0. Stretch it between 1 and `lowest`, and let w end at 1.",
    ),
    explanation="""\
The climb comes first. On the wave, `way` is the share of the remaining steps that is done, at most 1, and the cosine
between 1 and -1 is squeezed between 1 and `lowest`.""",
    setup="import math",
    stub="""
def cosine(step, steps, warmup, lowest):
    '''The share of the peak learning rate at `step` = 0, 1, ...; a number.'''
    raise NotImplementedError
""",
    right=("cosine", "cosine_squared"),
    inputs=a_moment,
    more=(
        moments(0, 10, 4, 0.1),
        moments(3, 10, 4, 0.1),
        moments(4, 10, 4, 0.1),
        moments(7, 10, 4, 0.1),
        moments(9, 10, 4, 0.1),
        moments(10, 10, 4, 0.1),
        moments(13, 10, 4, 0.1),
        moments(0, 10, 0, 0.0),
        moments(6, 9, 0, 0.2),
    ),
    wrong=catalogue("""
# the first step stands still
Your first share is 0, so the first batch is read for nothing. The climb starts at 1 / warmup.
- return (step + 1) / warmup
+ return step / warmup

# no warm-up
Your wave starts at step 0 with the full rate. Where is the climb?
- if step < warmup:
+ if step < 0:
- (step - warmup) / (steps - warmup)
+ step / steps

# the wave starts at step 0
Your wave has begun during the climb, so that the rate jumps down when the climb ends. Count from `warmup`.
- (step - warmup) / (steps - warmup)
+ step / steps

# the wave is too short
You count from `warmup`, but divide by all steps: at the end the wave has not come down.
- (step - warmup) / (steps - warmup)
+ (step - warmup) / steps

# up again past the end
Past the end your rate rises again: a cosine goes on. What shall w be at most?
- min(1.0, (step - warmup) / (steps - warmup))
+ (step - warmup) / (steps - warmup)

# a whole wave
Your share is back at 1 at the end: that was a whole wave. Half of one is 180 degrees, pi.
- math.pi * way
+ 2 * math.pi * way

# degrees
`math.cos` takes its angle in radians: half a wave is pi, and not 180.
- math.pi * way
+ 180 * way

# below zero
Your share falls below zero: the cosine goes down to -1. A negative rate walks uphill.
- (1 + math.cos(math.pi * way)) / 2
+ math.cos(math.pi * way)

# twice as high
Your wave begins at 2: a cosine plus 1 goes from 2 to 0. It shall go from 1.
-  / 2
+

# the wave goes up
Your wave begins at `lowest` and climbs. The cosine of 0 is 1: which sign has it in your line?
- (1 + math.cos
+ (1 - math.cos

# the wave one step ahead
You count the step under way as done already. At step = warmup nothing of the way is done.
- (step - warmup) / (steps - warmup)
+ (step + 1 - warmup) / (steps - warmup)

# one step too long a climb
Your climb takes one step more, so that the share is above 1 at step = warmup.
- if step < warmup:
+ if step <= warmup and warmup:

# a quarter of a wave
Your fall begins flat and ends steep: that is a quarter of a wave. Half of one ends flat, too.
- (1 + math.cos(math.pi * way)) / 2
+ math.cos(math.pi / 2 * way)

# a line down
You fall in a line. The middle is right, the rest is not: the cosine begins and ends flat.
- (1 + math.cos(math.pi * way)) / 2
+ (1 - way)

# no lowest share
Your wave comes down to 0. It shall end at `lowest`.
- lowest + (1 - lowest) *
+

# the lowest share on top
You add `lowest` to the whole wave, so that the peak is above 1. What is left for the wave, between `lowest` and 1?
- lowest + (1 - lowest) *
+ lowest +

# cut off below
You cut the wave off at `lowest`. It should be squeezed: it arrives there at the end, and not before.
def wrong(step, steps, warmup, lowest):
    return max(lowest, cosine(step, steps, warmup, 0.0))

# nothing past the end
Past the end you return 0. The share stays at `lowest`.
def wrong(step, steps, warmup, lowest):
    return cosine(step, steps, warmup, lowest) if step <= steps else 0.0

# the climb starts at the lowest
Your climb starts from `lowest`. It is (step + 1) / warmup.
- return (step + 1) / warmup
+ return lowest + (1 - lowest) * (step + 1) / warmup

# the end one step early
Your wave arrives at `lowest` in the last step. It does so at step = steps, one later.
- / (steps - warmup)
+ / max(1, steps - 1 - warmup)
"""),
)

EXERCISES = (FIRST_LOSS, GROWING, COSINE)
