"""Exercises of lesson 03, corpus and batches, second part: documents become rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.code import Write
from llm_lab.checks.deck import Draw
from llm_lab.checks.design import Design
from llm_lab.checks.number import Number
from llm_lab.lessons import budget

# ----------------------------------------------------------------------------------------------------------- predict

REAL_SHARE = Number(
    id="03.real_share",
    title="How much of a padded row is real?",
    task="""\
Five documents have 2, 5, 8, 19 and 4 tokens. Each gets a row of 10 places of its own: what is longer is cut, what
is shorter is filled up with `[PAD]`. Which share of all places holds a real token? Give two digits.""",
    why="A padded place costs as much time as a real one. This share is the first thing to print of a data loader.",
    difficulty=1,
    minutes=3,
    first="draw the five rows, and write into each how many of its ten places are real.",
    hints=(
        "There are 50 places. How many real tokens does each document bring into its row?",
        "No row holds more than ten: of the document of 19 tokens nine are lost.",
        "2 + 5 + 8 + 10 + 4, divided by 50.",
    ),
    explanation="29 of 50 places are real: 2 + 5 + 8 + 10 + 4. The cut costs 9 of 38 tokens on top of that.",
    truth=0.58,
    tolerance=0.005,
    look="Count the real tokens row by row, none with more than ten, and divide by all places.",
    wrong=catalogue("""
# the cut tokens counted
All 38 tokens are in your count. A row of ten places can't hold nineteen.
= 0.76

# the share of the padding
That is the share of the places that are *not* real.
= 0.42

# the long document in pieces
You cut the long document into two rows. That is a better plan, but here each document has one row.
= 0.6333

# rows as long as the longest
You padded all rows to 19 places. A row has ten.
= 0.4

# what is left of the tokens
That is the share of the tokens that survive the cut. The question is about places.
= 0.7632

# packed
Packed rows are real throughout. These are padded.
= 1.0
"""),
)

# ------------------------------------------------------------------------------------------------------------- write


def framed_documents(draw: Draw) -> tuple[Any, ...]:
    """Framed documents of different lengths, the shortest not first, and a row length that they fill."""
    lengths = [int(draw.integers(1, draw.T + 3, 1)) for _ in range(draw.B + 2)]
    documents = [[2, *draw.integers(5, draw.V, length).tolist(), 3] for length in lengths]
    return documents, draw.choice(2, 3, min(5, sum(lengths)), min(7, sum(lengths)))


def full_rows(draw: Draw) -> tuple[Any, ...]:
    """Nothing is left over at the end, and one document is longer than two rows."""
    return [[2, 9, 3], [2, *range(5, 14), 3], [2, 3]], 4


def too_little_text(draw: Draw) -> tuple[Any, ...]:
    """All documents together are shorter than a row."""
    return [[2, 7, 3], [2, 8, 9, 3]], 8


def no_text(draw: Draw) -> tuple[Any, ...]:
    """Not one document."""
    return [], 2


PACK = Write(
    id="03.pack",
    title="No padding at all",
    task="""\
Write `pack(documents, row_length)`. `documents` is a list of lists of ids, each framed by `[CLS]` (2) and `[SEP]`
(3). Lay them end to end, frames and all, and cut the ribbon into rows of `row_length` tokens. Return a NumPy array
of int64, (N, row_length). The last tokens, fewer than a row, are left out. If all documents together do not fill a
row, raise a `ValueError`.""",
    why="On the corpus of this course packed rows carry about twice as many real tokens a second as padded ones.",
    difficulty=2,
    minutes=8,
    first="""\
lay the documents `[2, 7, 8, 3]` and `[2, 9, 3]` end to end on paper, and cut into rows of 3: what is left over?""",
    hints=(
        "Make one long list of all tokens first.",
        "How many whole rows does it hold? `//` divides and rounds down. Cut the list to that many tokens.",
        "`np.array(ribbon[: rows * row_length]).reshape(rows, row_length)`, and a ValueError when there are 0 rows.",
    ),
    explanation="""\
The package's own function: concatenate, cut to a multiple of the row length, reshape. The frames stay, since they
are all that tells the model where one document ends.""",
    stub="""
def pack(documents, row_length):
    '''Lists of ids -> rows without padding, an array of int64 (N, row_length).'''
    raise NotImplementedError
""",
    right=("llm_lab.text.packing.pack", "pack_token_by_token"),
    inputs=framed_documents,
    more=(full_rows, too_little_text, no_text),
    wrong=catalogue("""
# the last row filled up
You keep the last tokens and fill their row up. Then the rows hold padding after all.
- stream[: num_rows * row_length].reshape(num_rows, row_length)
+ np.pad(stream, (0, -len(stream) % row_length)).reshape(-1, row_length)

# frames lost
`[CLS]` and `[SEP]` are gone, so nothing tells the model where one document ends.
- np.asarray(document, dtype=np.int64)
+ np.asarray(document[1:-1], dtype=np.int64)

# only one end of each document marked
You leave out the `[CLS]`. Both ends of the frame belong to the ribbon.
- np.asarray(document, dtype=np.int64)
+ np.asarray(document[1:], dtype=np.int64)

# each document cut by itself
You cut each document into rows and leave out *its* last tokens. Only at the end of the whole ribbon something may be
left.
- pieces = [np.asarray(document, dtype=np.int64)
+ pieces = [np.asarray(document[: len(document) // row_length * row_length], dtype=np.int64)

# one document a row
Each document has a row of its own: that is padding.
def wrong(documents, row_length):
    if sum(map(len, documents)) < row_length:
        raise ValueError
    return pad(documents, row_length, 0)

# down the columns
The ribbon runs down your columns. A row must hold neighbours.
- .reshape(num_rows, row_length)
+ .reshape(row_length, num_rows).T

# the last whole row lost
You leave out a whole row when the ribbon is used up exactly. Is the last row whole?
- len(stream) // row_length
+ (len(stream) - 1) // row_length

# the start left out
You leave out the first tokens, and keep the last.
- stream[: num_rows * row_length]
+ stream[len(stream) - num_rows * row_length :]

# overlapping rows
Your rows overlap: each begins one token after the last. Every token shall be read once.
- stream[: num_rows * row_length].reshape(num_rows, row_length)
+ np.lib.stride_tricks.sliding_window_view(stream, row_length).copy()

# sorted by length
You sort the documents. They come in the order in which they are given.
- for document in documents]
+ for document in sorted(documents, key=len)]

# an empty array
Where the text does not fill a row you return no rows. Who trains on that waits long for a first batch: raise the
error.
- if num_rows == 0:
+ if num_rows < 0:
"""),
)

# ------------------------------------------------------------------------------------------------------------ design

FEW, PLACES = (3, 16, 5, 9, 4, 4, 12, 8, 2, 7, 3, 11, 6, 5, 14, 1), 16


def facts_of_rows(answer: Any) -> dict[str, Any]:
    """What is seen of a plan for a few documents: who is read, how full the rows are, and in which order they were
    filled."""
    rows = [[int(number) for number in row] for row in answer(list(FEW), PLACES)]
    read = [number for row in rows for number in row]
    known = [number for number in read if 0 <= number < len(FEW)]
    lengths = [FEW[number] for number in known]
    return {
        "unknown": len(known) < len(read),
        "lost": len(set(known)) < len(FEW),
        "twice": len(set(known)) < len(known),
        "fullest": max(sum(FEW[number] for number in row if 0 <= number < len(FEW)) for row in rows),
        "alone": all(len(row) == 1 for row in rows),
        "as they came": read == sorted(read),
        "one row open": lengths in (sorted(lengths), sorted(lengths, reverse=True)),
    }


def empty_places(answer: Any) -> float:
    """Which share of the places is empty, in percent, when the plan is made for some thousand documents."""
    chance, number = np.random.default_rng(0), budget(full=3000, fast=100)
    lengths = np.clip(np.rint(np.exp(chance.normal(3.1, 0.8, number))), 3, 64).astype(int).tolist()
    rows = [list(row) for row in answer(list(lengths), 64)]
    if (
        sorted(i for row in rows for i in row) != list(range(number))
        or max(sum(lengths[i] for i in row) for row in rows) > 64
    ):
        raise ValueError("the plan for many documents loses one, reads one twice, or has a row that is too long")
    return 100 * (1 - sum(lengths) / (64 * len(rows)))


WHOLE_DOCUMENTS = Design(
    id="03.whole_documents",
    title="Full rows, and no document cut",
    task="""\
Packing cuts nearly half of the documents at the end of a row. Write `whole_documents(lengths, row_length)`, a plan
that cuts none: `lengths` is the list of the documents' lengths, each at most `row_length`. Return a list of rows,
each a list of numbers of documents (0 for the first). Every document stands in one row, and the lengths of a row's
documents add up to at most `row_length`. The check gives you 3,000 documents with lengths like those of the
course's corpus and rows of 64, and counts empty places, in percent. Less is better; filling row after row in the
order of arrival leaves 22%, and the goal is 1%.""",
    why="""\
In the lesson 46% of the documents were cut, and the end of such a document has lost its beginning.""",
    difficulty=3,
    minutes=30,
    first="fill one row after the other in the order of arrival: open a new row when the next document does not fit.",
    hints=(
        "Why close a row for good? A short document may come later that fits into what it has left.",
        "For each document look for a row among *all* rows that has room enough. Which documents are hardest to place?",
        "Sort the numbers of the documents by length, the longest first, and give each the first row that has room.",
    ),
    explanation="""\
The long ones first, each into the first row with room: the short ones fill the gaps at the end. It leaves 0.3%
empty. The method is called first fit decreasing. In the order of arrival, the first row with room leaves 1.7%.""",
    stub="""
def whole_documents(lengths, row_length):
    '''Rows of numbers of documents, no row longer than `row_length`: a list of lists.'''
    raise NotImplementedError
""",
    right=("whole_documents", "whole_documents_into_the_fullest"),
    facts=facts_of_rows,
    measure=empty_places,
    goal=1.0,
    unit="percent of the places empty",
    about="packing 3,000 documents ...",
    when={
        "no such document": lambda facts: facts["unknown"],
        "documents read twice": lambda facts: facts["twice"],
        "documents lost": lambda facts: facts["lost"],
        "a row too long": lambda facts: facts["fullest"] > PLACES,
        "one document a row": lambda facts: facts["alone"],
        "row after row": lambda facts: facts["as they came"],
        "sorted, row after row": lambda facts: facts["one row open"],
    },
    wrong=catalogue("""
# no such document
A row holds a number that is no document's. Numbers go from 0 to `len(lengths) - 1`; do you return lengths, or begin
with 1?
def wrong(lengths, row_length):
    return [[lengths[number] for number in row] for row in whole_documents(lengths, row_length)]

# documents read twice
A document stands in two rows. Once it has a row, take it off your list.
def wrong(lengths, row_length):
    rows = whole_documents(lengths, row_length)
    return [*rows, rows[0]]

# documents lost
A document is in no row. What happens to the row that is open when your loop ends?
def wrong(lengths, row_length):
    return whole_documents(lengths, row_length)[:-1]

# a row too long
The documents of a row have more tokens than it has places. Do you look at the room before you add, or after?
- room[row] >= lengths[number]
+ room[row] > 0

# one document a row
Each document has a row of its own: that is padding, and most places stay empty.
def wrong(lengths, row_length):
    return [[number] for number in range(len(lengths))]

# row after row
You fill one row after the other in the order of arrival. What fits into the room that a closed row has left?
def wrong(lengths, row_length):
    rows, room = [], 0
    for number, length in enumerate(lengths):
        if length > room:
            rows.append([])
            room = row_length
        rows[-1].append(number)
        room -= length
    return rows

# sorted, row after row
You sort, and that is half of it. But each row is closed when the next document does not fit, and neighbours are
equally long.
def wrong(lengths, row_length):
    rows, room = [], 0
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        if lengths[number] > room:
            rows.append([])
            room = row_length
        rows[-1].append(number)
        room -= lengths[number]
    return rows
"""),
)

EXERCISES = (REAL_SHARE, PACK, WHOLE_DOCUMENTS)
