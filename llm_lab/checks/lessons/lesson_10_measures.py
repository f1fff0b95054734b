"""Exercises of lesson 10, pretraining, third part: the wait measured, and two models of one size."""

from __future__ import annotations

from typing import Any

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.code import Write
from llm_lab.checks.deck import Draw

# ------------------------------------------------------------------------------------------------------------- write


def a_curve(draw: Draw) -> tuple[Any, ...]:
    """The losses of a run that falls at some time below a line, or never."""
    window, line, margin = 1 + (draw.T + draw.S) % 6, 4.5, draw.choice(0.3, 0.5)
    number = 3 * draw.T + 2 * window
    way = [max(0.0, place / number - 0.2) for place in range(number)]
    drop = draw.choice(0.2, 2.5, 2.5)
    noise = draw.normal(number).tolist()
    return [line + 0.8 * x - drop * w for x, w in zip(noise, way, strict=True)], line, margin, window


def a_dip(draw: Draw) -> tuple[Any, ...]:
    """One loss far below the line, and a run that leaves, comes back and leaves again."""
    return [5.0, 5.0, 5.0, 3.9, 5.0, 5.0, 3.5, 3.4, 3.6, 5.2, 5.1, 5.3, 3.0, 3.0, 3.0], 4.5, 0.3, 3


def a_short_run(draw: Draw) -> tuple[Any, ...]:
    """Fewer losses than the window."""
    return [3.0, 3.0, 3.0], 4.5, 0.3, 5


def at_once(draw: Draw) -> tuple[Any, ...]:
    """Below the line from the first step on."""
    return [3.0, 3.1, 3.2, 3.3, 3.4], 4.5, 0.3, 2


def in_the_last_step(draw: Draw) -> tuple[Any, ...]:
    """Below the line in the last step alone."""
    return [5.0, 4.6, 4.4, 4.3, 4.2, 3.5], 4.5, 0.3, 3


LEFT_AT = Write(
    id="10.left_at",
    title="When does it leave the plateau?",
    task="""\
Write `left_at(losses, line, margin, window)`. `losses` is a list: the loss of each step of a run. Return how many steps
are done when, for the first time, the mean of the last `window` losses is more than `margin` below `line`. At least
`window` steps must be done. If it never happens, return `math.inf`: that wait has no end yet.""",
    why="Section 6 compares waits. One loss says little, and a run that never leaves must not pass for a quick one.",
    difficulty=2,
    minutes=8,
    first="on paper: losses 5, 4, 4, 3, line 4.5, margin 0.3, window 2. It leaves after 3 steps, as 4 is below 4.2.",
    hints=(
        "Go through the numbers of steps done: from `window` up to `len(losses)`.",
        "When `done` steps are done, the last ones are `losses[done - window : done]`.",
        "Return `done` at the first mean below `line - margin`, and `math.inf` behind the loop.",
    ),
    explanation="""\
The window ends at the step under way, so that nothing of the future is used. Lesson and experiments do the same with
`np.convolve(..., mode="valid")`, whose first mean belongs to step `window`.""",
    setup="import math",
    stub="""
def left_at(losses, line, margin, window):
    '''The number of steps done when the mean of the last `window` losses leaves the line; math.inf if never.'''
    raise NotImplementedError
""",
    right=("left_at", "left_at_by_convolving"),
    inputs=a_curve,
    more=(a_dip, a_short_run, at_once, in_the_last_step),
    wrong=catalogue("""
# one loss
You look at single losses. One lucky batch then ends the wait.
def wrong(losses, line, margin, window):
    return next((done for done, loss in enumerate(losses, 1) if loss < line - margin), math.inf)

# the step where the window begins
You return the step at which the window begins. Its last step must be done before the mean is known.
- return done
+ return done - window + 1

# counted from 0
You return the place of the last loss in the list, which counts from 0. After it one step more is done.
- return done
+ return done - 1

# the number of the window
You return which window it was. The first one ends when `window` steps are done.
- return done
+ return done - window

# no margin
You ask for the line alone. A mean scatters about it: `margin` says how far below it shall be.
- < line - margin
+ < line

# the margin on the wrong side
Your goal lies above the line.
- < line - margin
+ < line + margin

# the mean since the start
Your mean holds all losses from the start on: it remembers the first, high ones for ever.
- sum(losses[done - window : done]) / window
+ sum(losses[:done]) / done

# the last time
You return the last step at which the mean is below. The first one ends the wait.
- range(window, len(losses) + 1)
+ reversed(range(window, len(losses) + 1))

# for good
You return the step from which on the mean stays below. The first time ends the wait, even if it comes back.
def wrong(losses, line, margin, window):
    ends = range(window, len(losses) + 1)
    above = [done for done in ends if sum(losses[done - window : done]) / window >= line - margin]
    after = max(above, default=window - 1) + 1
    return after if after <= len(losses) else math.inf

# windows that do not overlap
You cut the run into windows, one behind the other. Each step ends a window of its own.
- range(window, len(losses) + 1)
+ range(window, len(losses) + 1, window)

# a short first window
Your first means are made of fewer than `window` losses.
- range(window, len(losses) + 1)
+ range(1, len(losses) + 1)
- sum(losses[done - window : done]) / window
+ sum(losses[max(0, done - window) : done]) / min(done, window)

# every loss of the window
You ask that all losses of the window are below. Their mean is asked for: one of them may be above.
- sum(losses[done - window : done]) / window
+ max(losses[done - window : done])

# never is -1
A run that never leaves gets -1, less than any other. Compared with other waits it would be the shortest.
- return math.inf
+ return -1

# the sum
You compare the sum of the window. Its mean is asked for.
- / window < line
+ < line

# the last step missed
You never look at the last window: where does the range end?
- len(losses) + 1)
+ len(losses))

# never is the last step
A run that never leaves counts as one that left in its last step. Then a run that is given up early looks good.
- return math.inf
+ return len(losses)

# never is at once
A run that never leaves counts as the quickest of all: the first True of a list without one is at place 0.
- return math.inf
+ return window

# never is 0
A run that never leaves gets the shortest wait of all.
- return math.inf
+ return 0
"""),
)

# ------------------------------------------------------------------------------------------------------------- write


def shape_of_a_transformer(draw: Draw) -> tuple[Any, ...]:
    """V, E, L and F of a Transformer."""
    return draw.V, draw.E, 1 + (draw.T + draw.seed) % 4, draw.choice(3 * draw.S, 3 * draw.S, 0) + draw.choice(1, 2, 5)


def shape_of_the_contest(draw: Draw) -> tuple[Any, ...]:
    """The Transformer of section 8 on the known language."""
    return 193, 64, 2, 170


def shape_of_a_tie(draw: Draw) -> tuple[Any, ...]:
    """Two widths are equally near."""
    return 21, 14, 2, 16


SAME_SIZE = Write(
    id="10.same_size",
    title="An LSTM of the same size",
    task="""\
Write `same_size(V, E, L, F)`. It returns a pair: the width W of the LSTM model whose number of parameters is nearest to
that of the Transformer with V words, width E, L blocks and F hidden numbers; and the LSTM model's number of parameters.
Both have the embedding and the head of exercise 08.parameters, and L layers.

- The Transformer has V E + L (4 E² + 3 E F) + (2 L + 1) E + (E² + E + V) parameters.
- An LSTM layer has four gates. Each has a W · W table for the word, one for the past, and, in PyTorch, *two* biases.
  The layer ends in a W · W table without bias.
- Norms have a scale of W numbers: one for the embedding, one for each layer but the first, one at the end.
- The last bracket, the head, has W in the place of E. Of two widths that are equally near, take the smaller.""",
    why="Layers of one width are not of one size. Compare at equal width, and you compare sizes.",
    difficulty=3,
    minutes=15,
    first="count the LSTM model's parameters in a function, and try it with V = 9, W = 2, L = 1: 89 comes out.",
    hints=(
        "Count first, then search. One layer has 4 · (W² + W² + W + W) + W² numbers.",
        "Norms: 1 + (L - 1) + 1. The whole is V W + L · layer + (L + 1) W + W² + W + V.",
        "Try W = 1, 2, 3, ... until the count is above the Transformer's. Nearest is the last width or the one before.",
    ),
    explanation="""\
The counts grow with W, so a loop finds the first that is large enough, and `min` with the distance as its key takes the
nearest; of equal ones it takes the first. The Transformer of section 8 on the known language has 64 numbers, and the
LSTM model gets 72.""",
    stub="""
def same_size(V, E, L, F):
    '''The width of the LSTM model that is nearest in size to the Transformer, and its parameters: two ints.'''
    raise NotImplementedError
""",
    right=("same_size", "same_size_by_root", "same_size_by_building"),
    inputs=shape_of_a_transformer,
    more=(shape_of_the_contest, shape_of_a_tie),
    may_draw=True,
    wrong=catalogue("""
# one bias
You counted one bias for each gate. PyTorch's LSTM has two: one with the word, one with the past.
- lstm_parameters(V, len(counts) + 1, L)
+ lstm_parameters(V, len(counts) + 1, L) - 4 * L * (len(counts) + 1)

# no biases
You counted no biases in the gates. There are eight.
- lstm_parameters(V, len(counts) + 1, L)
+ lstm_parameters(V, len(counts) + 1, L) - 8 * L * (len(counts) + 1)

# three gates
You counted three gates: that is a GRU. An LSTM has four.
- lstm_parameters(V, len(counts) + 1, L)
+ lstm_parameters(V, len(counts) + 1, L) - 2 * L * ((len(counts) + 1) ** 2 + len(counts) + 1)

# the past forgotten
You counted one table for each gate. The past has one, too.
- lstm_parameters(V, len(counts) + 1, L)
+ lstm_parameters(V, len(counts) + 1, L) - 4 * L * (len(counts) + 1) ** 2

# no output table
The table at the end of each layer is missing.
- lstm_parameters(V, len(counts) + 1, L)
+ lstm_parameters(V, len(counts) + 1, L) - L * (len(counts) + 1) ** 2

# both directions
You counted a BiLSTM: two LSTMs in each layer, and an output table for both. This one reads from the left alone.
- lstm_parameters(V, len(counts) + 1, L)
+ lstm_parameters(V, len(counts) + 1, L) + L * (9 * (len(counts) + 1) ** 2 + 8 * (len(counts) + 1))

# the Transformer's norms
You counted two norms for each layer. The LSTM model has one before each layer but the first, and two more.
- lstm_parameters(V, len(counts) + 1, L)
+ lstm_parameters(V, len(counts) + 1, L) + L * (len(counts) + 1)

# one norm too many
You counted a norm before the first layer as well. Its input is normed already.
- lstm_parameters(V, len(counts) + 1, L)
+ lstm_parameters(V, len(counts) + 1, L) + len(counts) + 1

# no head
Your LSTM model has no head.
- lstm_parameters(V, len(counts) + 1, L)
+ lstm_parameters(V, len(counts) + 1, L) - (len(counts) + 1) ** 2 - (len(counts) + 1) - V

# the tied table twice
You counted the embedding once more, at the output. Tied means: one table, used twice.
- lstm_parameters(V, len(counts) + 1, L)
+ lstm_parameters(V, len(counts) + 1, L) + V * (len(counts) + 1)

# no bias for the words
In the head of your LSTM model a number for each word is missing.
- lstm_parameters(V, len(counts) + 1, L)
+ lstm_parameters(V, len(counts) + 1, L) - V

# the larger of two
Of two widths that are equally near you take the larger.
- key=lambda i: abs(counts[i] - wanted))
+ key=lambda i: (abs(counts[i] - wanted), -i))

# no embedding
Your LSTM model has no embedding.
- lstm_parameters(V, len(counts) + 1, L)
+ lstm_parameters(V, len(counts) + 1, L) - V * (len(counts) + 1)

# one layer
You counted a single LSTM layer. There are L.
- lstm_parameters(V, len(counts) + 1, L)
+ lstm_parameters(V, len(counts) + 1, 1)

# the same width
You took the Transformer's width. The two differ in size then: the width is to be found.
- return W, counts[W - 1]
+ return E, lstm_parameters(V, E, L)

# the next larger one
You take the first width that is large enough. The one before it may be nearer.
- W = min(range(len(counts)), key=lambda i: abs(counts[i] - wanted)) + 1
+ W = len(counts)

# the next smaller one
You take the last width that is not too large. The next one may be nearer.
- W = min(range(len(counts)), key=lambda i: abs(counts[i] - wanted)) + 1
+ W = max(1, len(counts) - (counts[-1] > wanted))

# the Transformer's number
The width is right. The number is to be the LSTM model's, and you return the Transformer's.
- return W, counts[W - 1]
+ return W, wanted

# the wrong way round
The width comes first, and then the number of parameters.
- return W, counts[W - 1]
+ return counts[W - 1], W

# counted from 0
Your width is one too small: a list counts from 0, and its first width is 1.
- return W, counts[W - 1]
+ return W - 1, counts[W - 1]
"""),
)

EXERCISES = (LEFT_AT, SAME_SIZE)
