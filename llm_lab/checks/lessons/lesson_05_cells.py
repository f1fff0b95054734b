"""Exercises of lesson 05, recurrent models, first part: the cells, written word by word."""

from __future__ import annotations

from typing import Any

from torch import nn

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.code import Write
from llm_lab.checks.deck import Draw

INTRODUCTION = """\
# 05 - Recurrent models: exercises

Seven exercises to [lesson 05](../notebooks/05_recurrent_models.ipynb). They climb, and none blocks the next. You write
both cells, turn a row round, follow an influence back through time, and at last build a memory of thirty words."""

# ------------------------------------------------------------------------------------------------------------- write


def filled(draw: Draw, layer: nn.Module) -> nn.Module:
    """The layer with weights from this input's chance, and of its dtype."""
    layer = layer.to(draw.dtype)
    for parameter in layer.parameters():
        parameter.data = 0.7 * draw.normal(*parameter.shape).contiguous()
    return layer


def rnn_and_words(draw: Draw) -> tuple[Any, ...]:
    """An nn.RNN whose states are not as wide as its words, and words (B, T, D)."""
    return filled(draw, nn.RNN(draw.D, draw.E, batch_first=True)), draw.normal(draw.B, draw.T, draw.D)


RNN_STATES = Write(
    id="05.rnn_states",
    title="A cell that takes notes",
    task="""\
Write `rnn_states(rnn, x)`. `rnn` is an `nn.RNN` of one layer with `batch_first=True`, and `x` holds the words of a
batch, a tensor (B, T, D). `rnn.parameters()` gives four tensors: W (E, D), U (E, E), and the bias in two parts,
(E,) each. Return all hidden states, (B, T, E): from zeros on, each is the tanh of what W makes of the word, what U
makes of the last state, and both parts of the bias, added up. (`rnn(x)[0]` passes. Write the loop.)""",
    why="Elman's cell of 1990: a chain in which each step waits for the last. Attention was to cut it.",
    difficulty=2,
    minutes=8,
    first="compute one state, that of the first word: `x[:, 0]` has the shape (B, D), and U has nothing to say yet.",
    hints=(
        "A loop over T, with a state (B, E) that is replaced at each word, and a list in which you keep the states.",
        "The tables have one row for each number that comes out: `x[:, t] @ W.T` has the shape (B, E).",
        "At the end, `torch.stack(states, dim=1)` makes (B, T, E) of T tensors (B, E).",
    ),
    explanation="""\
The package's own loop. Each state needs the one before, so no step can start before the last has ended. `nn.RNN`
computes the same.""",
    stub="""
def rnn_states(rnn, x):
    '''What one layer of nn.RNN computes, word by word: x (B, T, D) -> (B, T, E).'''
    from_word, from_past, word_bias, past_bias = rnn.parameters()
    raise NotImplementedError
""",
    right=("llm_lab.model.recurrent.rnn_loops", "rnn_states_of_torch", "rnn_states_by_a_cell"),
    inputs=rnn_and_words,
    wrong=catalogue("""
# no tanh
Nothing bends: your states are sums. They may grow without limit, and two steps are no more than one with another
table.
- .tanh()
+

# a sigmoid
Your states lie between 0 and 1. tanh gives numbers from -1 to 1.
- .tanh()
+ .sigmoid()

# the table of the past transposed
U is applied the wrong way round. Its rows belong to the numbers that come out: which form has W in your code?
- hidden @ from_past.T
+ hidden @ from_past

# nothing is carried
Each state depends on its own word alone. Which state goes into the next step?
- hidden @ from_past.T
+ 0 * hidden @ from_past.T

# one word late
You keep each state before you change it: the first is zeros, and the last is missing.
- hidden = (x[:, t] @ from_word.T + word_bias + hidden @ from_past.T + past_bias).tanh()
-         outputs.append(hidden)
+ outputs.append(hidden)
+         hidden = (x[:, t] @ from_word.T + word_bias + hidden @ from_past.T + past_bias).tanh()

# the last state alone
You return the state after the last word. All states are wanted.
- return torch.stack(outputs, dim=1)
+ return hidden

# a part of the bias forgotten
One part of the bias is missing. PyTorch has two, one beside each table.
-  + past_bias
+

# the past outside of tanh
You bend what the word says, and add the past unbent. Both are added first.
- (x[:, t] @ from_word.T + word_bias + hidden @ from_past.T + past_bias).tanh()
+ (x[:, t] @ from_word.T + word_bias + past_bias).tanh() + hidden @ from_past.T

# the old state added
You add the old state to the new one. That is a good idea, but of another model.
- hidden = (x[:, t] @ from_word.T + word_bias + hidden @ from_past.T + past_bias).tanh()
+ hidden = hidden + (x[:, t] @ from_word.T + word_bias + hidden @ from_past.T + past_bias).tanh()

# the start is not zero
You start from ones. Nothing has been read yet: the first state before any word is zero.
- new_zeros
+ new_ones

# read from the right
You begin at the last word. This cell reads from left to right.
- range(x.shape[1])
+ range(x.shape[1] - 1, -1, -1)

# words before rows
The shape of the result is (T, B, E). `batch_first` means that the rows come first, in the result as well.
- dim=1
+ dim=0
"""),
)

# ------------------------------------------------------------------------------------------------------------- write


def lstm_and_words(draw: Draw) -> tuple[Any, ...]:
    """An nn.LSTM whose states are not as wide as its words, and words (B, T, D)."""
    return filled(draw, nn.LSTM(draw.D, draw.E, batch_first=True)), draw.normal(draw.B, draw.T, draw.D)


LSTM_STATES = Write(
    id="05.lstm_states",
    title="A cell with gates",
    task="""\
Write `lstm_states(lstm, x)`. `lstm` is an `nn.LSTM` of one layer with `batch_first=True`, and `x` has shape (B, T,
D). `lstm.parameters()` gives W (4E, D), U (4E, E) and the bias in two parts, (4E,) each: four cells of an RNN,
stacked in the order write (i), keep (f), news (n), show (o). Return all hidden states, (B, T, E). With every sum
as in the RNN, and no tanh yet: the cell state is sigmoid(keep) times the old cell state plus sigmoid(write) times
tanh(news); the hidden state is sigmoid(show) times the tanh of the cell state. Both begin at zero. (`lstm(x)[0]`
passes. Write it.)""",
    why="Two lines differ from the RNN. In the lesson they were worth 0.16 nats.",
    difficulty=3,
    minutes=15,
    first="write one step of the sums, (B, 4E), as for the RNN, and cut it with `.chunk(4, dim=-1)`.",
    hints=(
        "Two things are carried from word to word: the hidden state, which the sums use, and the cell state.",
        """Cut the sums into four, in the order that the card gives. Three of the four go through a sigmoid, one
        through tanh.""",
        """`cell = keep.sigmoid() * cell + write.sigmoid() * news.tanh()`; then make the hidden state of it, and
        keep that.""",
    ),
    explanation="""\
The package's own loop, with names that say what each gate does. Only the line of the cell state carries things
far: there the past is multiplied by one number between 0 and 1, and by no table.""",
    stub="""
def lstm_states(lstm, x):
    '''What one layer of nn.LSTM computes, word by word: x (B, T, D) -> (B, T, E).'''
    from_word, from_past, word_bias, past_bias = lstm.parameters()
    raise NotImplementedError
""",
    right=("llm_lab.model.recurrent.lstm_loops", "lstm_states_of_torch", "lstm_states_gate_by_gate"),
    inputs=lstm_and_words,
    wrong=catalogue("""
# write and keep exchanged
Your first two gates have changed places. In which order does PyTorch stack them?
- write, keep, news, show = gates
+ keep, write, news, show = gates

# news and show exchanged
Your last two parts have changed places. Which of the four is no gate, and where does it stand?
- write, keep, news, show = gates
+ write, keep, show, news = gates

# the cell state returned
You return the cell states. What other layers see are the hidden states.
- outputs.append(hidden)
+ outputs.append(cell)

# the sums see the cell state
Your sums use the cell state. The gates are decided by the word and the *hidden* state.
- hidden @ from_past.T
+ cell @ from_past.T

# the cell state is shown unbent
The last tanh is missing: the hidden state can grow beyond 1.
- show.sigmoid() * cell.tanh()
+ show.sigmoid() * cell

# news unbent
What is new is written without tanh.
- news.tanh()
+ news

# news through a sigmoid
What is new goes through a sigmoid, so notes can only grow. It is no gate.
- news.tanh()
+ news.sigmoid()

# the old notes dropped
The cell state holds only what is new. The kept part of the old one belongs to it.
- keep.sigmoid() * cell + write
+ write

# everything is kept
The old cell state is added whole: the keep gate plays no part, and nothing is ever forgotten.
- keep.sigmoid() * cell + write
+ cell + write

# gates without a sigmoid
Your gates are no numbers between 0 and 1: they may be negative, or 7.
- keep.sigmoid() * cell + write.sigmoid()
+ keep * cell + write
- show.sigmoid()
+ show

# keep what is not written
You keep what the write gate leaves. Here the two gates are free of each other, and keep has its own part of the sums.
- keep.sigmoid()
+ (1 - write.sigmoid())

# the new is forgotten at once
The keep gate is applied to the new part as well. It belongs to the old notes alone.
- keep.sigmoid() * cell + write.sigmoid() * news.tanh()
+ keep.sigmoid() * (cell + write.sigmoid() * news.tanh())

# a bias of 1 added
You add 1 to the keep gate. That is how training should *start*: the bias you are given holds it, if anybody wants it.
- keep.sigmoid()
+ (keep + 1).sigmoid()

# everything is shown
The show gate plays no part.
- show.sigmoid() * cell.tanh()
+ cell.tanh()

# the past decides nothing
The gates see the word alone. The hidden state belongs to the sums.
- hidden @ from_past.T
+ 0 * hidden @ from_past.T
"""),
)

EXERCISES = (RNN_STATES, LSTM_STATES)
