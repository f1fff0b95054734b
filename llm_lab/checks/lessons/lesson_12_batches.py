"""Exercises of lesson 12, training skills, second part: short rows first, averaged weights, and spans."""

from __future__ import annotations

from typing import Any

import torch

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.code import Write
from llm_lab.checks.deck import Draw

# -------------------------------------------------------------------------------------------------------------- write


def rows_and_a_step(draw: Draw) -> tuple[Any, ...]:
    """Ids (B, T) with T a multiple of four, a step, and how many there are."""
    steps = draw.choice(3, 7, 10, 600)
    edges = [0, steps // 3, -(-steps // 3), 2 * steps // 3, -(-2 * steps // 3), steps - 1]
    return draw.tokens(draw.B, 4 * draw.T), edges[draw.seed % len(edges)], steps


def at_step(share: float) -> Any:
    """A maker of a case in the middle of a third."""

    def make(draw: Draw) -> tuple[Any, ...]:
        return draw.tokens(3, 8), int(share * 100), 100

    return make


LENGTH_RAMP = Write(
    id="12.length_ramp",
    title="Short rows first",
    task="""\
Write `length_ramp(ids, step, steps)`. In the first third of a run it cuts each row of `ids` (B, T) into four rows, in
the second third into two, and in the last it leaves them whole. The pieces of a row follow each other, and no token is
lost: the first third gives (4 B, T / 4). T is a multiple of four. Steps are counted from 0 to steps - 1; the second
third begins at the first step with 3 · step ≥ steps, the last with 3 · step ≥ 2 · steps.""",
    why="It is one of four rows of the ladder that were ahead at equal time, and it takes two lines.",
    difficulty=2,
    minutes=6,
    first="write the first third alone: `ids` as rows of T / 4 tokens.",
    hints=(
        "The number of tokens stays: what makes a tensor another shape of the same numbers, and in which order?",
        "`3 * step // steps` is 0, 1 or 2: the number of the third.",
        "The length is T / 4, T / 2 or T, and `ids.reshape(-1, length)` does the rest. `view` fails on some tensors.",
    ),
    explanation="""\
`reshape` reads row after row, so the pieces of a row stay together and in order. The number of the third, 0, 1 or 2, is
the power of two by which the length has grown.""",
    stub="""
def length_ramp(ids, step, steps):
    '''Rows of T / 4, T / 2 or T tokens, by the third of the run.'''
    raise NotImplementedError
""",
    right=("length_ramp", "length_ramp_by_cutting"),
    inputs=rows_and_a_step,
    more=(at_step(0.1), at_step(0.5), at_step(0.9)),
    wrong=catalogue("""
# cut off
You keep the beginning of each row and throw the rest away. The batch should have as many tokens as before.
- ids.reshape(-1, length)
+ ids[:, :length]

# whole rows first
The long rows come first in your run, and the short ones at its end.
- ids.shape[1] * 2 ** (3 * step // steps) // 4
+ ids.shape[1] // 2 ** (3 * step // steps)

# the pieces out of order
All first pieces come first, then all second ones. The pieces of a row should follow each other.
- ids.reshape(-1, length)
+ torch.cat(ids.split(length, dim=1))

# every fourth token
Your short rows take every fourth token of a row, and not neighbours.
- ids.reshape(-1, length)
+ ids.reshape(len(ids), length, -1).transpose(1, 2).reshape(-1, length)

# a step too late
At the step where a third ends, the next begins. Look at < and <=.
- (3 * step // steps)
+ (max(0, 3 * step - 1) // steps)

# a step too early
The next third begins one step before it should. Do you count the steps from 1?
- (3 * step // steps)
+ min(2, 3 * (step + 1) // steps)

# a quarter or all
There are three lengths: T / 4, T / 2 and T.
- 2 ** (3 * step // steps)
+ (1, 4, 4)[3 * step // steps]

# three quarters
In the second third the rows should be half as long, not three quarters.
- * 2 ** (3 * step // steps) // 4
+ * (1, 2, 4)[3 * step // steps] // 4 if 3 * step // steps != 1 else 3 * ids.shape[1] // 4
- ids.reshape(-1, length)
+ ids.reshape(-1)[: ids.numel() // length * length].reshape(-1, length)
"""),
)

# -------------------------------------------------------------------------------------------------------------- write


def two_sets_of_weights(draw: Draw) -> tuple[Any, ...]:
    """The average so far and the weights, two dictionaries; a decay; a step."""
    shapes = {"table": (draw.V, draw.E), "scale": (draw.E,), "gate": (1,)}
    old, new = ({name: draw.normal(*shape) for name, shape in shapes.items()} for _ in range(2))
    return old, new, draw.choice(0.5, 0.9, 0.98), draw.choice(0, 1, 7, 80, 2000)


AVERAGE = Write(
    id="12.average",
    title="Averaged weights",
    task="""\
Write `average(averaged, weights, decay, step)`: one step of the exponential moving average of a model's weights.
`averaged` and `weights` are dictionaries, name to tensor, as `state_dict` gives them. The result is a new dictionary:
for each name d times the old average plus 1 - d times the weight. The memory is short at first: d is `decay`, but never
more than (1 + step) / (10 + step). Both inputs must stay as they are.""",
    why="With a constant rate it gained a tenth of a nat in the ladder, and costs next to nothing.",
    difficulty=2,
    minutes=8,
    first="do it for one tensor and a d of 0.9: `0.9 * averaged[name] + 0.1 * weights[name]`.",
    hints=(
        "First the number d, the smaller of two; then one line for all names.",
        "At step 0, d is at most 1 / 10: the average is nearly the new weight. Which factor goes to the old one?",
        "A dictionary in braces with a `for` in it is new. `lerp_`, `mul_` and `+=` change what they are given.",
    ),
    explanation="""\
The short memory matters in the beginning: with d = 0.98 from the start the first, random weights would be a seventh of
the average even after a hundred steps. The result is new, so the model goes on training undisturbed.""",
    stub="""
def average(averaged, weights, decay, step):
    '''The new average of each weight, in a new dictionary.'''
    raise NotImplementedError
""",
    right=("average", "average_by_lerp"),
    inputs=two_sets_of_weights,
    wrong=catalogue("""
# old and new exchanged
You keep 1 - d of the old average and take d of the weights: with a decay of 0.98 that is nearly the last weights.
- keep * averaged[name] + (1 - keep) * value
+ (1 - keep) * averaged[name] + keep * value

# a long memory from the start
d is `decay` at every step of yours. The random weights of the start then stay in the average for long.
- min(decay, (1 + step) / (10 + step))
+ decay

# always a short memory
d is (1 + step) / (10 + step) in yours, however large the step. It should never be more than `decay`.
- min(decay, (1 + step) / (10 + step))
+ (1 + step) / (10 + step)

# the larger of the two
You take the larger of the two numbers. The memory should be short at first.
- min(decay
+ max(decay

# the plain mean
That is the mean of the two: it forgets half at each step, whatever the decay.
- keep * averaged[name] + (1 - keep) * value
+ (averaged[name] + value) / 2

# one step off
Your d is that of another step: at step 0 it is at most 1 / 10.
- (1 + step) / (10 + step)
+ (2 + step) / (11 + step)

# factors that do not add up
The two factors must add up to 1, or the average shrinks or grows.
- (1 - keep) * value
+ value

# the weights themselves
Nothing of the old average is left.
- keep * averaged[name] + (1 - keep) * value
+ value.clone()

# a memory for each name
The d of your second tensor is another than that of the first: does the loop change it?
def wrong(averaged, weights, decay, step):
    keep, result = min(decay, (1 + step) / (10 + step)), {}
    for name, value in weights.items():
        result[name] = keep * averaged[name] + (1 - keep) * value
        keep *= keep
    return result
"""),
)

# -------------------------------------------------------------------------------------------------------------- write


def rows_for_spans(draw: Draw) -> tuple[Any, ...]:
    """Places in the order in which spans begin, their lengths, where words stand, and how many to hide."""
    starts = torch.rand(draw.B, draw.T, generator=draw.chance).argsort(dim=1)
    words = draw.flags(draw.B, draw.T, share=0.8)
    wanted = (words.sum(dim=1) * draw.choice(0.3, 0.5, 1.0)).ceil().long()
    return starts, 1 + draw.integers(0, 5, draw.B, draw.T), words, wanted


def spans_that_meet(draw: Draw) -> tuple[Any, ...]:
    """Spans that overlap, that run over special tokens, and that reach the end of the row."""
    starts = torch.tensor([[2, 1, 6, 0, 3, 4, 5, 7], [7, 0, 1, 2, 3, 4, 5, 6]])
    lengths = torch.tensor([[3, 3, 5, 1, 1, 1, 1, 1], [4, 3, 1, 1, 1, 1, 1, 1]])
    words = torch.tensor([[True] * 3 + [False] + [True] * 4, [False] + [True] * 7])
    return starts, lengths, words, torch.tensor([5, 2])


SPANS = Write(
    id="12.spans",
    title="Spans",
    task="""\
Write `spans(starts, lengths, words, wanted)`: which places are hidden, (B, T) of bool. In row b the spans come in this
order: the i-th begins at place `starts[b, i]` and is `lengths[b, i]` long; both tensors are (B, T), and each row of
`starts` holds every place once. `words` (B, T) is True at words. A span hides the words in it. It runs over a special
token and leaves it as it is, and it ends at the end of the row. A place that is hidden already is not counted again.
When a row has `wanted[b]` hidden words, it is done, also in the middle of a span. No row wants more than its words.""",
    why="SpanBERT hides neighbours together. An exact count makes such runs comparable with all the others.",
    difficulty=3,
    minutes=18,
    first="write it for one row with two loops: over the spans, and over the places of a span.",
    hints=(
        "Keep for each row how many are still to be hidden, and look at it before each place, not before each span.",
        "A place is hidden if three things hold: something is left, it is a word, and it isn't hidden yet.",
        "The places of a span are `range(start, min(start + length, T))`. Special tokens among them are passed over.",
    ),
    explanation="""\
Two loops inside the loop over rows, and one `if` with three conditions. Counting down at each place makes the count
exact, whatever the spans do: the last one is cut where the row has enough.""",
    stub="""
def spans(starts, lengths, words, wanted):
    '''True at the hidden places, (B, T).'''
    raise NotImplementedError
""",
    right=("spans", "spans_in_one_order"),
    inputs=rows_for_spans,
    more=(spans_that_meet,),
    wrong=catalogue("""
# the last span whole
You look whether the row has enough before each span, and then hide all of it: some rows get too many.
- if left > 0 and words
+ if words
- for start, length in zip(starts[b].tolist(), lengths[b].tolist(), strict=True):
+ for start, length in zip(starts[b].tolist(), lengths[b].tolist(), strict=True):
+             if left <= 0:
+                 break

# counted twice
A place that two spans share is counted twice, so the row ends with too few.
-  and not hidden[b, t]
+

# special tokens hidden
Your spans hide special tokens on their way.
- words[b, t] and
+

# special tokens counted
Special tokens stay as they are, but they are counted as if they were hidden: too few words are.
- if left > 0 and words[b, t] and not hidden[b, t]:
-                     hidden[b, t] = True
+ if left > 0 and not hidden[b, t]:
+                     hidden[b, t] = words[b, t]

# stopped by a special token
A special token ends the span in yours. It should run on behind it.
- for t in range(start, min(start + length, words.shape[1])):
+ for t in range(start, min(start + length, words.shape[1])):
+                 if not words[b, t]:
+                     break

# round the end
At the end of the row your span goes on at its beginning. These are no neighbours.
- range(start, min(start + length, words.shape[1]))
+ [t % words.shape[1] for t in range(start, start + length)]

# from left to right
You take the places in their own order and not in that of `starts`: rows are hidden from the left.
- starts[b].tolist()
+ range(words.shape[1])

# the length of the place
`lengths[b, i]` belongs to the i-th span, wherever it begins. You look it up by the place.
- lengths[b].tolist()
+ lengths[b][starts[b]].tolist()

# one too long
Your spans are one longer than they should be.
- min(start + length, words
+ min(start + length + 1, words

# one too short
Your spans are one shorter than they should be, and those of length 1 hide nothing.
- min(start + length, words
+ min(start + length - 1, words

# single tokens
You hide the places where spans begin, and not the spans.
- range(start, min(start + length, words.shape[1]))
+ (start,)

# one count for the batch
All rows get as many as the first. Each has a count of its own.
- wanted[b].item()
+ wanted[0].item()

# not what is hidden
You return what stays visible.
- return hidden
+ return ~hidden
"""),
)

EXERCISES = (LENGTH_RAMP, AVERAGE, SPANS)
