"""Exercises of lesson 12, training skills, first part: how to read a ladder, and how to make a fair one."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import matplotlib.pyplot as plt
import torch

from llm_lab import home, plots
from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.choice import Choice
from llm_lab.checks.code import Mend
from llm_lab.checks.compare import as_number, kind_of
from llm_lab.checks.deck import Draw
from llm_lab.checks.number import Number

INTRODUCTION = """\
# 12 - Training skills: exercises

Seven exercises to [lesson 12](../notebooks/12_training_skills.ipynb). They climb, and none blocks the next but the
last. That one is the goal of all exercises so far: a trainer of your own, made of the masking, the attention, the
encoder and the loop that you wrote in lessons 04, 06, 08 and 09, on real text, beside the package's.

B counts rows, T tokens, V words. The numbers of the ladder are those of the lesson."""

STEPS, SEEDS, RATE, BAND = 600, (0, 1, 2), 8e-3, 0.1
ROWS = ("batch of 128", "no warm-up", "mask rate 20%", "bf16")


@cache
def ladder() -> dict[str, Any]:
    """The stored runs of lesson 12."""
    return json.loads((home.REPOSITORY / "experiments" / "ladder.json").read_text(encoding="utf-8"))


def differences(row: str) -> list[float]:
    """A row minus the base after 600 steps, seed by seed, at the base's learning rate."""

    def loss(name: str, seed: int) -> float:
        key = {"row": name, "seed": seed, "steps": STEPS, "learning_rate": RATE}
        found = [run for run in ladder()["runs"] if all(run[k] == v for k, v in key.items())]
        return found[0]["held_out_loss"]

    return [loss(row, seed) - loss("base", seed) for seed in SEEDS]


# ----------------------------------------------------------------------------------------------------------- predict


def step_ms(row: str) -> float:
    """Milliseconds of a training step of a row."""
    return ladder()["speed"][row]["step_ms"]


BASE, MORE = step_ms("base"), step_ms("mask rate 40%")

EQUAL_TIME = Number(
    id="12.equal_time",
    title="As much time, fewer steps",
    task=f"""\
In the ladder a step of the base takes {BASE:.1f} ms. With 40% of the words hidden in place of 30% it takes {MORE:.1f}
ms, for the head has more to compute. The base runs 600 steps. How many steps does the other row get in the same
time?""",
    why="At equal steps the dearer row gets a gift. At equal time it does not.",
    difficulty=1,
    minutes=2,
    first="how many milliseconds do 600 steps of the base take?",
    hints=(
        "The time is the same for both: steps times milliseconds a step.",
        f"600 times {BASE:.1f} ms, in total. How often does a longer step fit into that?",
        "Divide by the other row's milliseconds. The number must come out below 600.",
    ),
    explanation=f"""\
600 times {BASE:.2f} over {MORE:.2f}: 532 steps. At equal steps 40% lies on the base to the second digit; at equal
time it is 0.07 behind in the mean, inside the band. The lesson's forest of masks shows it so.""",
    truth=round(STEPS * BASE / MORE, 1),
    tolerance=2,
    look="Both rows get the same time. Dearer steps mean fewer of them.",
    wrong=catalogue(f"""
# equal steps
That is as many steps as the base. They would take longer.
= {STEPS}

# the wrong way round
You multiplied by the longer step and divided by the shorter one: a dearer row can't get more steps.
= {STEPS * MORE / BASE:.1f}

# milliseconds taken off
Steps and milliseconds can't be subtracted from each other. What is equal for both rows is their product.
= {STEPS - (MORE - BASE):.1f}

# the shares of hidden words
The time of a step is not proportional to the hidden words: the blocks cost the same. Use the milliseconds.
= {STEPS * 0.3 / 0.4:.1f}

# the steps that are lost
That is how many steps fewer it gets.
= {STEPS - STEPS * BASE / MORE:.1f}

# the time
That is the time of the run in seconds.
= {STEPS * BASE / 1000:.2f}
"""),
)

# ---------------------------------------------------------------------------------------------------------- diagnose


def four_rows() -> None:
    """Draw four rows of the ladder against the base, seed by seed."""
    plots.use_style()
    _, axes = plt.subplots(figsize=(7, 2.8))
    axes.axvspan(-BAND, BAND, color="#dddddd")
    for y, row in enumerate(ROWS):
        found = differences(row)
        axes.plot(found, [y] * 3, "o", color=plots.COLOURS["transformer"], alpha=0.6)
        axes.plot(sum(found) / 3, y, "D", color=plots.COLOURS["held out"], markersize=8)
        print(f"{row:16} seed by seed" + "".join(f"{d:+7.2f}" for d in found) + f"   mean {sum(found) / 3:+.2f}")
    axes.set_yticks(range(len(ROWS)), ROWS)
    axes.axvline(0, color="#444444", linewidth=1)
    axes.set(
        xlabel="nats against the base, after 600 steps each: left is better", title="Four rows: what do they show?"
    )
    axes.set_ylim(len(ROWS) - 0.5, -0.5)
    plt.show()


SHOWN = Choice(
    id="12.shown",
    title="What has been shown?",
    task="""\
Four rows of the ladder against the base after 600 steps each: dots are seeds, diamonds means, and the grey band is the
lesson's yardstick of 0.1 nats. All rows of the base have 32 rows a batch, 30% of the words hidden, a warm-up of 5% and
fp32. Which statement may you write into a report?""",
    why="Most wrong beliefs about training come from tables like this one.",
    difficulty=2,
    minutes=6,
    evidence=four_rows,
    first="take the rows one by one: is the mean outside of the band, and do the three seeds agree on the side?",
    hints=(
        "Two of the four rows lie inside the band with their means. What may be said of a row that has shown nothing?",
        "Of the other two, one reads four times as much text in a step. Does the statement name what is held equal?",
        "A row has shown something if its mean is outside of the band and all its seeds are on one side, 0.01 as well.",
    ),
    explanation="""\
20% is 0.31 behind in the mean, outside of the band, and no seed is ahead. It is said of equal steps, which is what was
measured; at equal time it is 0.17 behind. Nothing shown is no proof of equality, and equal steps are no equal cost.""",
    choices={
        "a": "Training without warm-up is better: two seeds of three are ahead.",
        "b": "A batch of 128 makes better models than one of 32.",
        "c": "bf16 harms the model a little: two seeds of three are behind.",
        "d": "Hiding 20% is worse than hiding 30%, at equal steps.",
        "e": "Hiding 20% has shown nothing: one of its seeds is at 0.01.",
        "f": "bf16 and fp32 are equally good.",
    },
    right="d",
    wrong=catalogue("""
# two of three
Its mean lies inside the band, and the seeds disagree: rows that change nothing at all look like this.
= a

# equal steps for equal cost
At equal steps it has read four times as much text, in four times the time. At equal time it is a nat behind.
= b

# a reading of noise
The three differences have both signs, and their mean is inside the band. That is what another last digit does.
= c

# all seeds far out
The seeds must agree on the side, and they do; they need not agree on the size. The mean is three times the band.
= e

# nothing shown, so equal
"Not shown" is a statement about this experiment. Three seeds can't tell differences below 0.1.
= f
"""),
)

# -------------------------------------------------------------------------------------------------------------- mend


class Runs:
    """Stands for training: a loss that depends on recipe, learning rate and seed. It keeps what was asked."""

    def __init__(self, seed: int, rates: list[float], lead: float):
        self.seed, self.rates, self.lead = seed, rates, lead
        self.asked: list[tuple[str, float, int]] = []

    def __repr__(self) -> str:
        return "a function that trains"

    def __call__(self, recipe: str, rate: float, seed: int) -> float:
        """The held-out loss of one run."""
        self.asked.append((recipe, rate, seed))
        best = self.rates[(self.seed + (recipe == "ours")) % len(self.rates)]
        number = ((self.seed * 31 + len(recipe)) * 31 + self.rates.index(rate)) * 31 + seed
        luck = torch.randn((), generator=torch.Generator().manual_seed(number)).item()
        far = abs(self.rates.index(rate) - self.rates.index(best))
        return 4 + 0.8 * far + 0.15 * luck - self.lead * (recipe == "ours")


def a_comparison(draw: Draw) -> tuple[Any, ...]:
    """A function that trains, the names of two recipes, learning rates, and seeds."""
    rates = [1e-3 * 2**n for n in range(draw.B + 2)]
    return Runs(draw.seed, rates, draw.choice(-0.2, 0.1, 0.3)), "ours", "theirs", rates, list(range(7, 9 + draw.H))


def look_at_comparison(answer: Any, run: Runs, ours: str, theirs: str, rates: list[float], seeds: list[int]) -> Any:
    """What a comparison asked for, in words up to the first fault, and its result."""
    result = answer(run, ours, theirs, rates, seeds)
    number = as_number(result)
    facts: dict[str, Any] = {"the result": "a number" if number is not None else kind_of(result)}
    if number is None:
        return facts
    asked = {name: {(rate, seed) for recipe, rate, seed in run.asked if recipe == name} for name in (ours, theirs)}
    tried = {(rate, seeds[0]) for rate in rates}
    if not tried <= asked[theirs] and len(asked[ours]) > len(rates) + len(seeds) - 1:
        facts["one thing is mended"] = False
    for name, runs in asked.items():
        facts[f"{name}: rates that are tried"] = sorted({rate for rate, _ in runs})
        facts[f"{name}: every rate is tried with the first seed"] = tried <= runs
        if not all(facts.values()):
            return facts
        best = min(rates, key=lambda rate, name=name: run(name, rate, seeds[0]))  # type: ignore[misc]
        facts[f"{name}: its own best rate runs with every seed"] = {(best, seed) for seed in seeds} <= runs
        facts[f"{name}: nothing else is run"] = len(runs) == len(rates) + len(seeds) - 1
        if not all(facts.values()):
            return facts
    return facts | {"nats": number}


FAIR = Mend(
    id="12.fair",
    title="A comparison that was lost before it began",
    task="""\
`fair(run, ours, theirs, rates, seeds)` compares two recipes, given by their names. `run(recipe, rate, seed)` trains one
and returns its held-out loss. Both get the same search: every rate of `rates` with the first seed, `seeds[0]`. The rate
with the lowest loss is the recipe's own, and with it the recipe runs with every seed. The result is how far ours is
ahead: the mean over all seeds of theirs minus that of ours. The code below flatters ours in three ways. Mend it:
nothing else may be run than the search and the seeds at the best rate (the first seed's run there may be repeated).""",
    why="Many gains in print are a baseline whose learning rate nobody searched, or the best of several seeds.",
    difficulty=3,
    minutes=12,
    first="count the runs that each side gets with three rates and three seeds.",
    hints=(
        "Write down for each side: which rates are tried, with which seeds, and what is taken of the results.",
        "Ours takes the smallest of all results: part of that is luck. Theirs never searched. Both should do the same.",
        """A loop over the two recipes: `best = min(rates, key=lambda rate: run(recipe, rate, seeds[0]))`, then the mean
        of `run(recipe, best, seed)` over the seeds.""",
    ),
    explanation="""\
Each recipe searches alone, with one seed, and is then judged by a mean over all seeds. The search costs both the same.
That the first seed has helped to choose favours both alike, a little.""",
    stub="""
def fair(run, ours, theirs, rates, seeds):
    '''How far `ours` is ahead of `theirs`, in nats: each at its own best rate, mean over the seeds.'''
    our_losses = [run(ours, rate, seed) for rate in rates for seed in seeds]
    their_losses = [run(theirs, rates[0], seed) for seed in seeds]
    return sum(their_losses) / len(their_losses) - min(our_losses)
""",
    right=("fair", "fair_with_a_table"),
    inputs=a_comparison,
    probe=look_at_comparison,
    wrong=catalogue("""
# theirs is not searched
The other side runs with one rate that nobody chose for it. Its own best may be another.
def wrong(run, ours, theirs, rates, seeds):
    best = min(rates, key=lambda rate: run(ours, rate, seeds[0]))
    return sum(run(theirs, rates[0], seed) - run(ours, best, seed) for seed in seeds) / len(seeds)

# our rate for both
Both run with the rate that is best for ours. What suits one recipe need not suit the other.
def wrong(run, ours, theirs, rates, seeds):
    best = min(rates, key=lambda rate: run(ours, rate, seeds[0]))
    return sum(run(theirs, best, seed) - run(ours, best, seed) for seed in seeds) / len(seeds)

# ours is searched with every seed
On one side at least every rate is tried with every seed: more runs, and a choice that knows all seeds.
def wrong(run, ours, theirs, rates, seeds):
    means = []
    for recipe, tried in ((ours, seeds), (theirs, seeds[:1])):
        best = min(rates, key=lambda rate: sum(run(recipe, rate, seed) for seed in tried))
        means.append(sum(run(recipe, best, seed) for seed in seeds) / len(seeds))
    return means[1] - means[0]

# the best seed of both
You take the luckiest seed of each side. With the spread between seeds it says more about luck than about recipes.
- means.append(sum(losses) / len(losses))
+ means.append(min(losses))

# the best seed of ours
One side is judged by its luckiest seed, the other by its mean.
- means.append(sum(losses) / len(losses))
+ means.append(min(losses) if recipe == ours else sum(losses) / len(losses))

# the worst rate
You take the rate with the highest loss. A loss should be small.
- best = min(
+ best = max(

# one seed
Only the first seed is run, the one that has chosen the rate. A difference of one pair may be luck.
- for seed in seeds]
+ for seed in seeds[:1]]

# the wrong way round
Your number is above 0 where theirs is better. Ours is ahead when its loss is smaller.
- means[1] - means[0]
+ means[0] - means[1]

# sums in place of means
You compare sums over the seeds: the lead grows with their number.
- means.append(sum(losses) / len(losses))
+ means.append(sum(losses))

# searched with the last seed
The rates are tried with another seed than the first.
- seeds[0]))
+ seeds[-1]))
"""),
)

EXERCISES = (EQUAL_TIME, SHOWN, FAIR)
