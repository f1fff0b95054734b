"""Exercises of lesson 11, the training clinic, first part: a number that flatters, and a curve that turns."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt

from llm_lab import plots
from llm_lab.checks import guard
from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.choice import Choice
from llm_lab.checks.number import Number
from llm_lab.lessons import budget

INTRODUCTION = """\
# 11 - The training clinic: exercises

Seven exercises to [lesson 11](../notebooks/11_training_clinic.ipynb). They climb, and none blocks the next. Three of
them are tests that catch a bug in any program, your own too: parameters that sleep, places that should not count, rows
that read each other. The last is a program with five bugs, none of which raises an error.

B counts rows, T tokens, V words."""

# ----------------------------------------------------------------------------------------------------------- predict

HIDDEN, NATS = 0.3, 3.0

TOO_GOOD = Number(
    id="11.too_good",
    title="A loss below the floor",
    task="""\
A run hides 30% of the words. By mistake its loss is the mean over *all* words of a row, the visible ones too. It has
learnt to copy what it sees, which costs 0 nats, and it pays 3 nats for a hidden word. Which loss does its curve
show, in nats?""",
    why="A wonderful curve is a reason to look at what it counts.",
    difficulty=1,
    minutes=2,
    first="take a row of ten words: how many are hidden, and what does each of the ten cost?",
    hints=(
        "Three of ten words are hidden. What do they cost together?",
        "The other seven cost nothing, and still they are counted.",
        "9 nats for ten words: divide.",
    ),
    explanation="""\
0.3 times 3 nats, and 0.7 times nothing: 0.9 nats a word. The run is no better than an honest one that shows 3.0; it
only counts seven gifts in ten.""",
    truth=HIDDEN * NATS,
    tolerance=0.04,
    look="Add the cost of all words of a row, hidden and visible, and divide by how many there are.",
    wrong=catalogue(f"""
# the hidden words alone
That is what an honest curve would show. This one counts the visible words, too.
= {NATS}

# the shares exchanged
You gave the 3 nats to the visible words. They are the ones that cost nothing.
= {(1 - HIDDEN) * NATS}

# divided by the share
Counting more words that cost nothing can't make the mean larger.
= {NATS / HIDDEN}

# the mean of the two kinds
You took the mean of 0 and 3, as if there were as many hidden words as visible ones.
= {NATS / 2}

# hidden to visible
You divided by the visible words. The curve divides by all.
= {HIDDEN * NATS / (1 - HIDDEN):.4f}

# nothing
Copying costs nothing, but hidden words are still among those that are counted.
= 0.0
"""),
)

# ---------------------------------------------------------------------------------------------------------- diagnose


def run_that_turns() -> None:
    """Draw the loss, on both kinds of text, and the gradient norm of a run that turns round."""
    from llm_lab.ward import DATASET, PATIENTS

    plots.use_style()
    with guard.generators_kept():
        steps = budget(140, 4)
        records = PATIENTS["PastTheEnd"].run(steps=steps).train(evaluate_every=max(1, steps // 14))
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(7, 4.6), sharex=True, height_ratios=[2, 1])
    step, exam = [r["step"] for r in records], [r for r in records if "held_out_loss" in r]
    top.plot(step, [r["loss"] for r in records], color=plots.COLOURS["transformer"], label="training")
    scores = [r["held_out_loss"] for r in exam]
    top.plot([r["step"] for r in exam], scores, "s", color=plots.COLOURS["held out"], label="held out")
    top.axhline(math.log(DATASET.tokenizer.vocabulary_size), color=plots.COLOURS["baseline"], linestyle="--")
    top.annotate("ln V", (2, 5.35), color=plots.COLOURS["baseline"])
    top.set(ylabel="loss (nats)", title="It learns, and then it unlearns")
    top.legend(frameon=False)
    bottom.semilogy(step, [r["gradient_norm"] for r in records], color=plots.COLOURS["transformer"])
    bottom.set(xlabel="step", ylabel="gradient norm")
    plt.show()


TURNS = Choice(
    id="11.turns",
    title="It learns, and then it unlearns",
    task="""\
The figure shows a run on the known language, with a batch of new sentences at each step. Nobody touched it on the way,
and no number became NaN. Which statement fits everything in the figure?""",
    why="Where a curve turns is a fact about the program: something happens there.",
    difficulty=2,
    minutes=5,
    evidence=run_that_turns,
    first="""\
note the step at which the training loss turns, and how far above ln V it gets. Who could know less than nothing?""",
    hints=(
        "Both kinds of text turn at the same step. So it is no matter of what has been seen before.",
        "For most of the run it holds what it has learnt, with the largest steps of all: masks and loss are in order.",
        "A loss above ln V means sure and wrong. Something works towards it, ever faster: which way do the steps go?",
    ),
    explanation="""\
The schedule is a straight line that reaches 0 at 70% of the run, step 98, and nobody stopped it there: from then on the
rate is below 0, and each step goes up the slope, at first by little. A schedule needs `max(0, ...)`, and a run
needs its plot of the rate.""",
    choices={
        "a": "The learning rate is too high: the steps overshoot.",
        "b": "It overfits: it learns its sentences by heart.",
        "c": "The gradients are never cleared: each step follows the sum of all.",
        "d": "The learning rate has become negative: each step climbs.",
        "e": "It was taken up again, and reads its first batches once more.",
        "f": "Dropout is on in the exam.",
    },
    right="d",
    wrong=catalogue("""
# too high a rate
Then it would suffer where the steps are largest. It holds what it has learnt for most of the run, and loses it late.
= a

# overfitting
Then the training loss would go on falling, while the held-out loss climbs. Here both climb.
= b

# never cleared
The old slopes are there from step 2 on. They would not wait until the run is nearly over.
= c

# a restart
Batches that were seen before make the training loss *fall*.
= e

# dropout in the exam
That moves the squares, by a little and from the start. The training curve climbs, too.
= f
"""),
)

EXERCISES = (TOO_GOOD, TURNS)
