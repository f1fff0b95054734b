"""Exercises of lesson 03, corpus and batches, third part: batches as a function of a number."""

from __future__ import annotations

from collections.abc import Iterator
from operator import eq
from typing import Any

import numpy as np

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.choice import Choice
from llm_lab.checks.code import Write
from llm_lab.checks.compare import kind_of
from llm_lab.checks.deck import Draw

# ---------------------------------------------------------------------------------------------------------- diagnose


def rows_of_two_ranks() -> None:
    """Print which rows two processes read in three epochs: those of whole batches alone."""
    print("10 rows, batches of 4, two processes\n")
    for epoch in range(3):
        order = np.random.default_rng([3, epoch]).permutation(10)[:8].tolist()
        ranks = [" ".join(map(str, order[rank::2])) for rank in (0, 1)]
        print(f"epoch {epoch}   process 0 reads rows {ranks[0]}   process 1 reads rows {ranks[1]}")


TWO_RANKS = Choice(
    id="03.two_ranks",
    title="Which rows are read?",
    task="""\
A data loader shares batches of 4 rows between two processes. The corpus has 10 rows, numbered 0 to 9. The cell
below prints which rows each process reads in three epochs. What does the loader do that the lesson's stream does
not?""",
    why="Nothing crashes when rows are read twice or never. Printing their numbers is the only way to see it.",
    difficulty=2,
    minutes=6,
    evidence=rows_of_two_ranks,
    first="run the cell, and tick off for each epoch which of the rows 0 to 9 occur, and how often.",
    hints=(
        "Count: how many rows are read in an epoch, by both processes together?",
        "Eight. Is one of them read twice? Are the same two missing in each epoch?",
        "10 rows make two batches of 4. What happens to the rest?",
    ),
    explanation="""\
Eight rows are read in each epoch, none twice: two whole batches. The two rows that are left do not fill a third,
and are dropped; each epoch has another order and drops others. Many loaders have that as an option (`drop_last`).
The lesson's stream lets a batch hold the end of one epoch and the start of the next.""",
    choices={
        "a": "Both processes read the same rows.",
        "b": "Each epoch has the same order.",
        "c": "Rows are drawn with replacement: some occur twice in an epoch, others not at all.",
        "d": "Rows that do not fill a batch are left out at the end of an epoch.",
        "e": "Each process has its own half of the corpus, and never sees the other.",
        "f": "Two rows of the corpus are never read in any epoch.",
    },
    right="d",
    wrong=catalogue("""
# the same rows
Compare the two lists of one epoch: they have no row in common.
= a

# the same order
Compare the lists of process 0 in two epochs.
= b

# with replacement
Then a row would now and then occur twice in an epoch. Does one?
= c

# a half of its own
Does process 0 never read a row that process 1 reads in another epoch?
= e

# two rows that nobody reads
Two rows are missing in each epoch. Are they the same two?
= f
"""),
)

# ------------------------------------------------------------------------------------------------------------- write


def place_in_a_stream(draw: Draw) -> tuple[Any, ...]:
    """A step, the rows of a corpus, the rows of a batch, a seed, and one of the processes, which divide the batch."""
    world_size = draw.choice(1, 2, 2, 3)
    batch_rows = world_size * draw.choice(2, 3, 4)
    step, seed = int(draw.integers(0, 9, 1)), int(draw.integers(0, 500, 1))
    return step, 7 + draw.T + draw.B, batch_rows, seed, int(draw.integers(0, world_size, 1)), world_size


def look_at_stream(
    answer: Any, step: int, num_rows: int, batch_rows: int, seed: int, rank: int, world_size: int
) -> dict[str, Any]:
    """What holds of a stream of batches, in words. It ends at the first fault, or soon after."""

    def read(step: int, seed: int = seed, rank: int = 0, world_size: int = 1) -> Any:
        return answer(step, num_rows, batch_rows, seed, rank, world_size)

    fault = _form_of(read(step), batch_rows)
    facts: dict[str, Any] = {"the result of one process": fault or f"a list of {batch_rows} pairs (epoch, row)"}
    if fault:
        return facts
    steps = -(-3 * num_rows // batch_rows)
    places, *again = ([pair for step in range(steps) for pair in _pairs(read(step))] for _ in range(3))
    facts["asked twice, the same"] = again == [places, places]  # whole epochs: chance may repeat a batch
    if not facts["asked twice, the same"]:
        return facts
    facts["the epoch of each place"] = [epoch for epoch, _ in places] == [p // num_rows for p in range(len(places))]
    first, second = ([row for epoch, row in places if epoch == wanted] for wanted in (0, 1))
    facts["different rows in epoch 0"], facts["rows read in epoch 0"] = len(set(first)), len(first)
    facts["each row once in an epoch"] = sorted(first) == sorted(second) == list(range(num_rows))
    if not all(facts.values()):
        return facts
    facts["the order is not that of the corpus"] = first != list(range(num_rows))
    facts["a batch mixes the corpus"] = max(first[:batch_rows]) >= batch_rows or batch_rows >= num_rows - 2
    facts["another epoch, another order"] = first != second

    def order(epoch: int, seed: int) -> Iterator[int]:
        steps = range(epoch * num_rows // batch_rows, ((epoch + 1) * num_rows - 1) // batch_rows + 1)
        return (row for step in steps for number, row in _pairs(read(step, seed=seed)) if number == epoch)

    other = list(order(0, seed + 1))
    facts["another seed, another order"], facts["seed and epoch are told apart"] = other != first, other != second
    far = [all(map(eq, other, order(epoch, seed))) for epoch in (10, 100, 1000)]  # it ends at the first other row
    facts["seed and epoch are told apart far out"] = not any(far)
    whole = _pairs(read(step))
    parts = [_pairs(read(step, rank=one, world_size=world_size)) for one in range(world_size)]
    facts["each process reads its share"] = len(parts[rank]) == batch_rows // world_size
    facts["rows that all processes read together"] = len({pair for part in parts for pair in part})
    facts["together they read the batch"] = sorted(sum(parts, [])) == sorted(whole)
    return facts


def _pairs(rows: Any) -> list[tuple[int, int]]:
    return [(int(epoch), int(row)) for epoch, row in rows]


def _form_of(rows: Any, number: int) -> str:
    """What is wrong with the form of a result; nothing when it is a list of pairs."""
    if not isinstance(rows, list | tuple) or len(rows) != number:
        return f"{len(rows)} entries" if isinstance(rows, list | tuple) else kind_of(rows)
    return (
        "" if all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in rows) else "entries that are no pairs"
    )


ROWS_OF = Write(
    id="03.rows_of",
    title="Batches that remember nothing",
    task="""\
Write `rows_of(step, num_rows, batch_rows, seed, rank, world_size)`. It says which rows of the corpus process
`rank` of `world_size` reads at a step: a list of pairs (epoch, row). All processes together read `batch_rows` rows
a step, a multiple of `world_size`, and each reads equally many. Number the places of an endless sequence: batch
`step` holds the places from `step * batch_rows` on, and each `num_rows` places are an epoch, in which every row of
the corpus is read once. The order within an epoch is a shuffle of all rows that depends on the seed and the epoch
alone. How you shuffle, and how the processes share a batch, is free, as long as no row is read by two. Nothing may
be remembered from one call to the next.""",
    why="A run that was stopped goes on from its step alone, and eight processes read what one would have read.",
    difficulty=4,
    minutes=20,
    first="""\
do it for one process (rank 0 of 1) and without a shuffle: batch 2 of 10 rows in batches of 4 holds the pairs (0,
8), (0, 9), (1, 0), (1, 1).""",
    hints=(
        "Place p lies in epoch `p // num_rows`, and is number `p % num_rows` in its order.",
        "`numpy.random.default_rng([seed, epoch]).permutation(num_rows)` is an order that depends on the two alone.",
        "The places of a process: `range(step * batch_rows + rank, (step + 1) * batch_rows, world_size)`.",
    ),
    explanation="""\
Nothing but arithmetic: step to places, place to epoch and number, number to row by the order of the epoch. A batch
may hold the end of one epoch and the start of the next, so that no row is ever left out.""",
    stub="""
def rows_of(step, num_rows, batch_rows, seed, rank, world_size):
    '''The (epoch, row) pairs that process `rank` of `world_size` reads at `step`: a list.'''
    raise NotImplementedError
""",
    right=("rows_of", "rows_of_by_blocks", "rows_of_the_package"),
    inputs=place_in_a_stream,
    probe=look_at_stream,
    wrong=catalogue("""
# the last batch dropped
The rows that do not fill a batch at the end of an epoch are never read. A batch may hold the end of one epoch and the
start of the next.
def wrong(step, num_rows, batch_rows, seed, rank, world_size):
    batches = num_rows // batch_rows
    epoch, first = step // batches, step % batches * batch_rows
    order = np.random.default_rng([seed, epoch]).permutation(num_rows).tolist()
    return [(epoch, row) for row in order[first + rank : first + batch_rows : world_size]]

# one epoch for a whole batch
All rows of a batch have the epoch of its first place. Each place has an epoch of its own.
- epoch = place // num_rows
+ epoch = step * batch_rows // num_rows

# the same order in every epoch
The order does not change from epoch to epoch, so the same rows always share a batch.
- [seed, epoch]
+ [seed]

# no shuffle
The rows come in the order of the corpus, where siblings are neighbours.
- np.random.default_rng([seed, epoch]).permutation(num_rows)
+ list(range(num_rows))

# shuffled inside of a batch
Only the rows of a batch are shuffled among themselves, so a batch holds neighbours still. Shuffle the epoch.
def wrong(step, num_rows, batch_rows, seed, rank, world_size):
    places = list(range(step * batch_rows, (step + 1) * batch_rows))
    random.Random(f"{seed} {step}").shuffle(places)
    return [divmod(place, num_rows) for place in places[rank::world_size]]

# drawn with replacement
Rows are drawn anew each time: in an epoch some occur twice, and others never.
- permutation(num_rows)
+ integers(num_rows, size=num_rows)

# a new order for each step
The order depends on the step. Then the batches of an epoch come from different orders, and rows occur twice.
- [seed, epoch]
+ [seed, step]

# new chance in each call
Asked twice, the same step gives other rows: a run that goes on after a break would read something else.
- default_rng([seed, epoch])
+ default_rng()

# the seed plays no part
Every seed gives the same order, so two runs can never differ.
- [seed, epoch]
+ [epoch]

# seed and epoch added
The sum of seed and epoch is the same for (1, 2) and (2, 1): the runs with seeds 1 and 2 read the same, one epoch
apart.
- [seed, epoch]
+ seed + epoch

# digits of one number
Seed and epoch are put together like digits. Some epoch of one run has the order of the first epoch of another run.
- [seed, epoch]
+ 100 * seed + epoch

# every process reads all
Each process reads the whole batch. They shall share it.
- step * batch_rows + rank, (step + 1) * batch_rows, world_size
+ step * batch_rows, (step + 1) * batch_rows

# the rank plays no part
All processes read the same part of the batch, and the other rows are read by nobody.
- step * batch_rows + rank, (step
+ step * batch_rows, (step

# an order for each process
Each process shuffles with a seed of its own. Then some rows are read by two, and others by none.
- [seed, epoch]
+ [seed + 1000 * rank, epoch]

# a batch for each process
Each process reads `batch_rows` rows of its own. That number is for all of them together.
- step * batch_rows + rank, (step + 1) * batch_rows, world_size
+ (step * world_size + rank) * batch_rows, (step * world_size + rank + 1) * batch_rows
"""),
)

EXERCISES = (TWO_RANKS, ROWS_OF)
