"""Exercises of lesson 04, masking, third part: when the masks change, and how much they hide."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.code import Write
from llm_lab.checks.compare import as_number, kind_of
from llm_lab.checks.deck import Draw
from llm_lab.checks.design import Design
from llm_lab.config import MaskingConfig
from llm_lab.lessons import budget

# ------------------------------------------------------------------------------------------------------------- write


STEPS = (
    *range(2, 40),
    97,
    100,
    101,
    128,
    256,
    512,
    997,
    1000,
    1009,
    1024,
    4096,
    9973,
    10**4,
    2**16,
    10**5,
    10**6,
    2**20,
)


def places_of_noise(draw: Draw) -> tuple[Any, ...]:
    """A seed, an epoch, the numbers of some rows, and how many numbers each row needs."""
    rows = [int(draw.integers(0, 5000, 1)) for _ in range(draw.B)]
    return int(draw.integers(1, 1000, 1)), int(draw.integers(1, 50, 1)), rows, draw.T


def look_at_noise(answer: Any, seed: int, epoch: int, rows: list[int], length: int) -> dict[str, Any]:
    """What holds of noise that is a function of (seed, epoch, row), in words. It ends at the first fault."""
    result = answer(seed, epoch, rows, length)
    fits = isinstance(result, Tensor) and result.is_floating_point() and result.shape == (len(rows), length)
    form = f"a tensor of floating-point numbers with shape {(len(rows), length)}"
    facts: dict[str, Any] = {"the result": form if fits else kind_of(result)}
    if not fits:
        return facts
    facts["all numbers lie in [0, 1)"] = bool((result >= 0).all() and (result < 1).all())
    facts["asked twice, the same"] = torch.equal(answer(seed, epoch, rows, length), result)
    if not all(facts.values()):
        return facts
    row, wide = rows[0], 16

    def noise(seed: int = seed, epoch: int = epoch, row: int = row) -> Tensor:
        return answer(seed, epoch, [row], wide)[0]

    one = noise()
    others = {"seed": noise(seed=seed + 1), "epoch": noise(epoch=epoch + 1), "row": noise(row=row + 1)}
    facts |= {f"another {name}, other noise": not torch.equal(other, one) for name, other in others.items()}
    company = answer(seed, epoch, [row + 9, row, row + 2], wide)
    facts["a row has the same noise in any company"] = torch.equal(company[1], one)
    facts["the numbers of a row differ"] = len(one.unique()) > wide // 2
    if not all(facts.values()):
        return facts
    facts["seed, epoch and row are told apart"] = len(torch.stack(list(others.values())).unique(dim=0)) == 3
    facts["epoch 0 is like any other"] = not torch.equal(noise(epoch=0), noise(epoch=0, row=row + 1))
    far = answer(seed, epoch, [row + step for step in STEPS], wide)
    facts["no row of this epoch is one of the next"] = not (far == others["epoch"]).all(dim=1).any()
    many = answer(seed, epoch, list(range(40)), 50).double()
    shares = torch.histc(many, 10, 0, 1) / many.numel()
    facts["evenly spread from 0 to 1"] = bool((shares - 0.1).abs().max() < 0.04)
    pairs = ((many[1:], many[:-1]), (many[:, 1:], many[:, :-1]))
    alike = [torch.corrcoef(torch.stack((a.flatten(), b.flatten())))[0, 1].abs() for a, b in pairs]
    facts["neighbours tell nothing about each other"] = max(alike).item() < 0.15
    return facts


SAME_MASKS = Write(
    id="04.same_masks",
    title="Masks that a restart does not change",
    task="""\
Write `same_masks(seed, epoch, rows, length)`. It returns uniform noise in [0, 1), a tensor of floating-point numbers
with shape (len(rows), length). `rows` is a list of row numbers, and the noise of a row is a function of (seed, epoch,
row) alone: row 17 of epoch 3 has the same noise alone, in any batch, and after a restart. Another seed, epoch or
row has other noise. How you make it is free; the package uses a hash.""",
    why="A run that goes on after a break draws the masks that it would have drawn; four processes draw those of one.",
    difficulty=4,
    minutes=20,
    first="write it for one row: a generator with a seed of its own that gives `length` numbers.",
    hints=(
        "One generator for each row, made anew in each call.",
        "Its seed must come from all three numbers. Is (1, 2, 3) told apart from (1, 3, 2), and from (0, 3, 3)?",
        "`numpy.random.default_rng((seed, epoch, row))` takes a whole tuple as a seed, and mixes it well.",
    ),
    explanation="""\
NumPy mixes the tuple into one seed, so that two triples practically never meet. The package's `row_noise` does the same
with a hash, for all rows at once.""",
    stub="""
def same_masks(seed, epoch, rows, length):
    '''Noise in [0, 1), (len(rows), length): each row is a function of (seed, epoch, row) alone.'''
    raise NotImplementedError
""",
    right=("same_masks", "same_masks_by_hashing", "same_masks_of_the_package"),
    inputs=places_of_noise,
    probe=look_at_noise,
    wrong=catalogue("""
# added
The three numbers are added, so row 4 of epoch 3 has the noise of row 3 of epoch 4.
- (seed, epoch, row)).random
+ seed + epoch + row).random

# multiplied
The three numbers are multiplied, so in epoch 0 every row has the same noise.
- (seed, epoch, row)).random
+ seed * epoch * (row + 1)).random

# digits of one number
The numbers are put together like digits, so row 1003 of epoch 3 has the noise of row 3 of epoch 4.
- (seed, epoch, row)).random
+ seed * 10**6 + epoch * 1000 + row).random

# neighbours depend on each other
Who knows the noise of one place, or of one row, can guess that of the next. Arithmetic alone is not random: stir.
def wrong(seed, epoch, rows, length):
    start = torch.tensor(rows, dtype=torch.double)[:, None] * 0.00137 + seed * 0.111 + epoch * 0.0173
    return (start + 0.618034 * torch.arange(length)) % 1

# static masks
The epoch plays no part: each epoch asks for the same words.
- (seed, epoch, row)).random
+ (seed, row)).random

# all rows alike
The row plays no part: every row of a batch has its targets at the same places.
- (seed, epoch, row)).random
+ (seed, epoch)).random

# the seed forgotten
The seed plays no part, so two runs can never differ.
- (seed, epoch, row)).random
+ (epoch, row)).random

# place in the batch
The noise belongs to the place in the batch, and not to the number of the row: in other company it changes.
- for row in rows
+ for row in range(len(rows))

# one generator for the batch
One generator runs through the batch, so a row's noise depends on how many rows stand before it.
def wrong(seed, epoch, rows, length):
    generator = np.random.default_rng((seed, epoch, rows[0]))
    return torch.from_numpy(generator.random((len(rows), length)))

# no seed
The same call gives other noise each time.
- default_rng((seed, epoch, row))
+ default_rng()

# normal noise
Some numbers are below 0 or above 1: that is normal noise, and uniform is wanted.
- .random(length)
+ .standard_normal(length)

# one number for a row
All places of a row have the same number, so no place comes before another.
- .random(length)
+ .random() * np.ones(length)
"""),
)

# ------------------------------------------------------------------------------------------------------------ design


def rates_of(answer: Any) -> dict[str, float]:
    """The mask rates of a design, at 20 steps of 100: their mean, the lowest and the highest."""
    rates = [as_number(answer(step, 100)) for step in range(0, 100, 5)]
    numbers = [rate for rate in rates if rate is not None]
    if len(numbers) < len(rates):
        raise ValueError("mask_rate must return a number for each step")
    return {"mean": sum(numbers) / len(numbers), "lowest": min(numbers), "highest": max(numbers)}


def held_out_loss(answer: Any) -> float:
    """Train a small model with these mask rates on the hard language; its loss at 15% on fixed masks, in nats."""
    from llm_lab.ward.run import TrainingRun

    class Rated(TrainingRun):
        def batch(self, step: int) -> Any:
            self.stream.masking = MaskingConfig(float(answer(step, self.steps)), selection="bernoulli")
            return self.stream.batch(step)

    run = Rated(steps=budget(full=150, fast=3))
    run.train(evaluate_every=run.steps)
    return run.evaluate()


MASK_RATE = Design(
    id="04.mask_rate",
    title="How much to hide, and when?",
    task="""\
Write `mask_rate(step, steps)`: the share of the words that is hidden at a step (0, 1, ..., steps - 1), between 0
and 1. A small model then trains for 150 steps on the hard language, with the same sentences and the same seed each
time, and sits its exam: held-out sentences, 15% hidden, fixed masks. Less is better, and the goal is 3.65 nats. How
far do you get?""",
    why="""\
The rate of training need not be the rate of the exam. Section 10 of the lesson says why; here you measure it.""",
    difficulty=3,
    minutes=30,
    first="return 0.15, BERT's rate, and see what the check says.",
    hints=(
        """The rate decides how many answers a batch gives, and how much context each question has. 150 steps are few:
        what is scarce?""",
        "Try three constant rates, 0.2, 0.4 and 0.6, before you try a schedule.",
        "Many answers at first, and the exam's kind of question at the end: a rate that falls with `step / steps`.",
    ),
    explanation="""\
In 150 steps answers are scarce, so that hiding more than the exam does pays: each batch teaches more. Too much
leaves no context. A rate that falls from 0.6 to 0.15 did a little better than the constant rates that we tried.""",
    stub="""
def mask_rate(step, steps):
    '''The share of the words that is hidden at this step.'''
    raise NotImplementedError
""",
    right=("mask_rate", "mask_rate_falling"),
    facts=rates_of,
    measure=held_out_loss,
    goal=3.65,
    unit="nats",
    about="training 150 steps on the hard language, 5 to 15 seconds ...",
    when={
        "a percentage": lambda facts: facts["highest"] > 1,
        "nothing hidden": lambda facts: facts["lowest"] <= 0,
        "no context": lambda facts: facts["highest"] == 1,
        "too little is asked": lambda facts: facts["mean"] < 0.1,
        "the rate of the exam": lambda facts: 0.1 <= facts["mean"] <= 0.18,
        "too little context": lambda facts: facts["mean"] > 0.75,
    },
    wrong=catalogue("""
# a percentage
A rate is a share: 0.3, and not 30.
def wrong(step, steps):
    return 30

# nothing hidden
A rate of 0 asks for nothing, and below 0 there is none: in such a step nothing is learnt.
def wrong(step, steps):
    return 0.5 * step / steps

# no context
At a rate of 1 a row is nothing but [MASK]: only word frequencies can be learnt from it.
def wrong(step, steps):
    return 1 - 0.8 * step / steps

# too little is asked
Fewer than one word in ten is hidden: a batch gives few answers, and the rest is read for nothing.
def wrong(step, steps):
    return 0.05

# the rate of the exam
You train at about the exam's rate, 15%. With pure masks the right answer to a blank does not depend on the rate
(section 10), so you are free to ask more in each batch.
def wrong(step, steps):
    return 0.15

# too little context
More than three words in four are hidden: a blank has next to no context to be guessed from.
def wrong(step, steps):
    return 0.9
"""),
)

EXERCISES = (SAME_MASKS, MASK_RATE)
