"""Exercises of lesson 05, recurrent models, third part: what is left of a word after many."""

from __future__ import annotations

from typing import Any

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.code import Write
from llm_lab.checks.deck import Draw
from llm_lab.checks.number import Number

# ----------------------------------------------------------------------------------------------------------- predict

FADING = Number(
    id="05.fading",
    title="What is left after twenty words?",
    task="""\
An RNN of single numbers has U = 1.2, and all its states happen to be 0.5. By which factor does a small change of a
state change the state twenty words later? Give two digits that are not 0. (One step multiplies by U times the
slope of tanh, which is 1 minus the square of the state.)""",
    why="U is above 1, and still the influence fades: the tanh takes its share at every word.",
    difficulty=1,
    minutes=2,
    first="compute the factor of one step.",
    hints=(
        "The slope of tanh where its value is 0.5 is 1 - 0.25.",
        "One step multiplies by 1.2 times 0.75, that is 0.9.",
        "Twenty steps multiply twenty times: 0.9 to the power of 20.",
    ),
    explanation="1.2 times 0.75 is 0.9, and 0.9 to the power of 20 is 0.12. Without tanh it would be 38.",
    truth=0.9**20,
    tolerance=0.002,
    look="Find the factor of one step first. How often is it applied?",
    wrong=catalogue("""
# the slope of tanh left out
That is 1.2 to the power of 20. At a state of 0.5, tanh is not as steep as at 0.
= 38.3376

# U left out
That is the slope of tanh alone, twenty times.
= 0.00317

# the state in place of the slope
You multiplied by the state, or by 1 minus the state. The slope is 1 minus its *square*.
= 0.0000366

# one step
That is the factor of a single step. The influence passes twenty of them.
= 0.9

# twenty times
You multiplied by 20. Factors that follow each other are multiplied with each other.
= 18.0

# what is lost
That is the share that is lost. What is left?
= 0.8784

# a tenth lost each time
You took a tenth of the *start* away at each step. A tenth of what is left goes.
= -1.0
"""),
)

# ------------------------------------------------------------------------------------------------------------- write


def table_and_states(draw: Draw) -> tuple[Any, ...]:
    """A table U (E, E), and states (T, E) of an RNN."""
    E = draw.H + 1
    return draw.normal(E, E) * draw.choice(0.3, 0.6, 1.0), draw.normal(draw.T, E).tanh()


INFLUENCE = Write(
    id="05.influence",
    title="An influence, followed back",
    task="""\
Write `influence(U, states)`. `U` has shape (E, E) and `states` (T, E): the states of an RNN after its words 1 to
T, with h_t = tanh(W x_t + U h_{t-1} + b). Return a tensor (T,). Its entry number d - 1, for d = 1 to T, is the
length of the table of slopes of h_T for h_{T-d}: how much the last state depends on the one d words before. The
length of a table is the root of the sum of its squares. (The last entry, d = T, belongs to the start h_0.)""",
    why="It is the vanishing gradient itself: T tables multiplied with each other, and one number for what is left.",
    difficulty=4,
    minutes=20,
    first="""\
do it for E = 1 on paper: with U = 1.2 and all states 0.5 the entries are 0.9, 0.81, 0.729 and so on.""",
    hints=(
        "One step: number i of h_t has the slope (1 - h_t[i]^2) times U[i, j] for number j of h_{t-1}.",
        "As a table: row i of U, multiplied by 1 - h_t[i]^2. `(1 - h.square())[:, None] * U` does it for all rows.",
        """Begin at the last state with a table of 1s on the diagonal, multiply from the right by one step after
        the other, backwards, and keep the length after each.""",
    ),
    explanation="""\
The chain rule from the end to the start: each word adds one table on the right. It is the product of tables whose
length counts; the product of their lengths would be a bound, and larger.""",
    stub="""
def influence(U, states):
    '''Length of d h_T / d h_(T-d) for d = 1 .. T: U (E, E), states (T, E) -> (T,).'''
    raise NotImplementedError
""",
    right=("influence", "influence_by_autograd"),
    inputs=table_and_states,
    wrong=catalogue("""
# the slope of tanh left out
You multiply by U alone. Each step passes a tanh, whose slope is below 1.
- (1 - h.square())[:, None] * U
+ U

# the square forgotten
The slope of tanh is 1 minus the *square* of its value.
- (1 - h.square())
+ (1 - h)

# the slope of a sigmoid
h (1 - h) is the slope of a sigmoid. For tanh it is another formula.
- (1 - h.square())
+ (h * (1 - h))

# the slope on the wrong side
You multiply the columns of U by the slopes. tanh comes after U: its slopes belong to what comes out, the rows.
- (1 - h.square())[:, None]
+ (1 - h.square())[None, :]

# U transposed
You use U the other way round. Row i of U makes number i of the new state.
- [:, None] * U
+ [:, None] * U.T

# the tables in the wrong order
You multiply each new table from the left. The slope of an earlier step stands to the right.
- table @ ((1 - h.square())[:, None] * U)
+ ((1 - h.square())[:, None] * U) @ table

# from the start on
You begin at the first word. Entry 0 belongs to the last step, from the state before the last word.
- states.flip(0)
+ states

# the entries in reverse order
The first entry is the influence of the start. The first shall be that of the nearest state.
- torch.stack(lengths)
+ torch.stack(lengths).flip(0)

# one step late
Your first entry is the table of 1s, before any step.
- table = table @ ((1 - h.square())[:, None] * U)
-         lengths.append(table.square().sum().sqrt())
+ lengths.append(table.square().sum().sqrt())
+         table = table @ ((1 - h.square())[:, None] * U)

# no root
You return sums of squares. A length is their root.
- .sum().sqrt()
+ .sum()

# the longest stretch
You take the largest singular value: the most that the table can stretch a vector. The card asks for the root of the
sum of squares.
- table.square().sum().sqrt()
+ torch.linalg.matrix_norm(table, 2)

# the product of the lengths
You multiply the lengths of the single steps. A product of tables is mostly much shorter: each turns what the last has
stretched.
def wrong(U, states):
    steps = (1 - states.flip(0).square())[:, :, None] * U
    return steps.square().sum(dim=(1, 2)).sqrt().cumprod(dim=0)

# each step alone
Your entries are the lengths of single steps. The influence d words back has passed d of them.
def wrong(U, states):
    steps = (1 - states.flip(0).square())[:, :, None] * U
    return steps.square().sum(dim=(1, 2)).sqrt()

# the whole way alone
You return the last entry only. Keep the length after each step.
- return torch.stack(lengths)
+ return lengths[-1][None]
"""),
)

EXERCISES = (FADING, INFLUENCE)
