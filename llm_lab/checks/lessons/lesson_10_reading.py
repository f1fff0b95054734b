"""Exercises of lesson 10, pretraining, second part: what a model reads, and in which order it learns."""

from __future__ import annotations

import json
from typing import Any

import torch

from llm_lab import home
from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.choice import Choice
from llm_lab.checks.code import Mend
from llm_lab.checks.deck import Draw

# ---------------------------------------------------------------------------------------------------------- diagnose


def three_contexts() -> None:
    """Print what a guesser who knows the words of a row, and not their order, pays in three contexts."""
    chance = torch.Generator().manual_seed(0)
    log_p = (3 * torch.randn(5, 60, generator=chance)).log_softmax(dim=-1)  # how often each of 60 words comes, by topic
    topic = torch.arange(1000) % 5
    rows = torch.multinomial(log_p[topic].exp(), 16, replacement=True, generator=chance)  # (1000, 16)
    hidden, visible = rows[:, 0], rows[:, 1:]
    mixed = visible.gather(1, torch.rand(visible.shape, generator=chance).argsort(dim=1))
    for name, words in (("its row", visible), ("its row, shuffled", mixed), ("another row", visible.roll(1, dims=0))):
        belief = log_p[:, words].sum(dim=-1).T.softmax(dim=-1)  # which topic the words speak of, (1000, 5)
        p = (0.95 * belief + 0.01) @ log_p.exp()
        print(f"in {name:19} {-p.gather(1, hidden[:, None]).log().mean():.2f} nats")
    unigram = log_p.exp().mean(dim=0).log()
    print(f"word frequencies       {-unigram[hidden].mean():.2f} nats")


READS = Choice(
    id="10.reads",
    title="What does it read?",
    task="""\
A colleague's model of documents on five topics has left its plateau. The cell below shows the same questions in three
contexts, as in section 3 of the lesson: the blank in its own row, in its own row with the visible words shuffled, and
in the row of another document. What does the model go by?""",
    why="The loss alone says that something is read. The three contexts say what, and what is missing.",
    difficulty=2,
    minutes=5,
    evidence=three_contexts,
    first="run the cell, and look at two differences: of the first two lines, and of the second and the third.",
    hints=(
        "Another row is worse than its own. So the context is read.",
        "Its own row is as good shuffled as in order. What does shuffling take away?",
        "Whoever does not mind the order knows *which* words are there. Which part of the model brings the order?",
    ),
    explanation="""\
It reads a bag of words. Shuffling changes nothing, so the order does not reach it: its positions are missing. A healthy
model is worse on shuffled rows than on the plateau.""",
    choices={
        "a": "By the word frequencies alone: it reads nothing.",
        "b": "By which words are in the row, whatever their order.",
        "c": "By the order: who stands next to whom.",
        "d": "By the answers, which it sees: visible words are among the targets.",
        "e": "By sentences that it knows by heart.",
        "f": "That can't be told: the differences are luck.",
    },
    right="b",
    wrong=catalogue("""
# reads nothing
Then another row would be as good as its own.
= a

# the order
Then the shuffled row would be worse than the row in order.
= c

# sees the answers
Then the loss in its own row would be near 0.
= d

# by heart
A sentence that is known by heart is not recognised when its words are shuffled: the second line would be worse.
= e

# luck
The same questions are asked three times, so the first two lines could differ. They agree, and the third does not.
= f
"""),
)


# ---------------------------------------------------------------------------------------------------------- diagnose


COLUMNS = {"P": "adjacent verb", "Q": "full stop", "R": "distant verb, 1 attractor", "S": "paired conjunction"}


def nameless_columns() -> None:
    """Print the excess of four kinds of dependency at the end of section 8's runs, without their names."""
    path = home.REPOSITORY / "experiments" / "architectures.json"
    runs = [run for run in json.loads(path.read_text(encoding="utf-8"))["runs"] if run["corpus_name"] == "grammar"]
    print(" " * 12 + "".join(f"{column:>8}" for column in COLUMNS))
    for kind in ("transformer", "bilstm"):
        mine = [run for run in runs if run["kind"] == kind]
        rates = [run["learning_rate"] for run in mine]
        best = [run["excess_by_kind"] for run in mine if run["learning_rate"] == max(rates, key=rates.count)]
        means = (sum(run[name] for run in best) / len(best) for name in COLUMNS.values())
        print(f"{kind:12}" + "".join(f"{mean:8.2f}" for mean in means))


ORDER = Choice(
    id="10.order",
    title="The columns without a name",
    task="""\
The cell below shows the ends of the runs of section 8 on the known language: how many nats a model is above the best
guess, for four kinds of hidden words. The names of the columns are lost. The kinds are: the full stop; a verb beside
its subject; a verb with a noun of the other number between it and its subject (one attractor); and the second word of
*either ... or* and *if ... then*. Which column is which?""",
    why="A mean loss hides what has not been learnt yet, and what one architecture finds easier than another.",
    difficulty=3,
    minutes=6,
    evidence=nameless_columns,
    first="run the cell. Which kind is learnt first, and must be done by the end of the run?",
    hints=(
        "Often and near first, rare and far last: section 5 has the order, and two of the four columns follow from it.",
        "Of the other two, the Transformer is better at one, and the BiLSTM at the other.",
        "What must a BiLSTM carry through a whole clause, and attention reach in one step?",
    ),
    explanation="""\
Q is done: the full stop. R is farthest from done: another noun stands in between. Of P and S the Transformer is better
at S, where a word from the beginning of a clause decides: the paired conjunction. P is the verb beside its subject.""",
    choices={
        "a": "P verb beside its subject, Q full stop, R verb with an attractor, S paired conjunction",
        "b": "P paired conjunction, Q full stop, R verb with an attractor, S verb beside its subject",
        "c": "P verb with an attractor, Q full stop, R verb beside its subject, S paired conjunction",
        "d": "P verb beside its subject, Q paired conjunction, R verb with an attractor, S full stop",
        "e": "P verb beside its subject, Q full stop, R paired conjunction, S verb with an attractor",
        "f": "P full stop, Q verb beside its subject, R verb with an attractor, S paired conjunction",
    },
    right="a",
    wrong=catalogue("""
# the BiLSTM carries farther
The BiLSTM would then be better at what is far, and the Transformer at what is near. Section 8 measured the contrary.
= b

# an attractor helps
The verb with an attractor would be learnt better than the one beside its subject. Another noun between makes it harder.
= c

# the full stop last
The full stop comes in every sentence, and can be told from its place: it is the first to be learnt.
= d

# far is all that counts
The conjunction stands far from its partner, too. But there are few of them, each announced by a word of its own. An
attractor misleads, and is the hardest.
= e

# verbs first
Verbs carry the meaning, and there are many of them to choose from. What is learnt first is what leaves no choice.
= f
"""),
)

# -------------------------------------------------------------------------------------------------------------- mend


def rows_and_noise(draw: Draw) -> tuple[Any, ...]:
    """Ids (B, T) with special ones among them, and noise (B, T)."""
    special_ids = draw.choice((0, 1, 2, 3, 6), (0, 4), (2, 6, 8))
    return draw.tokens(draw.B, draw.T, special_ids=special_ids, share=0.3), special_ids, draw.uniform(draw.B, draw.T)


def long_rows(draw: Draw) -> tuple[Any, ...]:
    """Rows so long that a sort which is not stable shows."""
    return draw.tokens(3, 60, special_ids=(0, 4), share=0.4), (0, 4), draw.uniform(3, 60)


SHUFFLED = Mend(
    id="10.shuffled",
    title="The same words in another order",
    task="""\
`shuffled(ids, special_ids, noise)` makes the second exam of section 1: in each row of `ids` (B, T) the visible words
come in another order. `noise` (B, T) has a number for each token, all different: the word with the smallest comes
first. Tokens of `special_ids`, `[MASK]` among them, stay where they are. The code below runs. With it, a model that
reads only which words are there gets another loss than in order. Mend it.""",
    why="An exam that changes two things at once says nothing about either.",
    difficulty=3,
    minutes=12,
    first="""\
run it on `torch.tensor([[1, 9, 8, 7]])` with the special id 1 and the noise [[0.5, 0.3, 0.1, 0.2]]: 1, 8, 7, 9 should
come out.""",
    hints=(
        "What happens to [CLS] and to [MASK]? The questions must stand where they stood.",
        "Row by row: the places of the words, and the words by their noise. Then put these at those places.",
        """\
Without a loop: give special tokens the noise 2, and sort (`stable=True`): words first, in their new order. Sort the
places the same way, words first. `scatter` puts the one at the other.""",
    ),
    explanation="""\
Two orders, both with the words first: by noise, and by place. What stands at one goes to the other. Special tokens
stand last in both, in the order of the row, so each comes back to its own place.""",
    stub="""
def shuffled(ids, special_ids, noise):
    '''The ids (B, T), the words of each row in the order of their noise, special tokens in place.'''
    order = noise.argsort(dim=1)
    return ids.gather(1, order)
""",
    right=("shuffled", "shuffled_row_by_row"),
    inputs=rows_and_noise,
    more=(long_rows,),
    wrong=catalogue("""
# words lost
The special tokens are back in place, but they took the places of words: some words are gone now, others stand twice.
def wrong(ids, special_ids, noise):
    special = torch.isin(ids, torch.tensor(special_ids))
    return torch.where(special, ids, ids.gather(1, noise.argsort(dim=1)))

# special tokens at the end
The words are in order, but all special tokens have moved to the end of the row.
def wrong(ids, special_ids, noise):
    special = torch.isin(ids, torch.tensor(special_ids))
    return ids.gather(1, noise.masked_fill(special, 2.0).argsort(dim=1, stable=True))

# the largest first
The word with the largest noise comes first.
- noise.masked_fill(special, 2.0)
+ (1 - noise).masked_fill(special, 2.0)

# the inverse order
You send the first word to the place that the order names first. The order says which word *comes* there: `gather`
takes, `scatter` gives.
def wrong(ids, special_ids, noise):
    rows = ids.clone()
    for row, chance in zip(rows, noise, strict=True):
        words = (~torch.isin(row, torch.tensor(special_ids))).nonzero()[:, 0]
        row[words[chance[words].argsort()]] = row[words]
    return rows

# the noise of other places
You count out the noise among the words alone: the third word has the third number. Each token has its own, at its
place.
def wrong(ids, special_ids, noise):
    rows = ids.clone()
    for row, chance in zip(rows, noise, strict=True):
        words = (~torch.isin(row, torch.tensor(special_ids))).nonzero()[:, 0]
        row[words] = row[words][chance[: len(words)].argsort()]
    return rows

# one order for all rows
All rows are put in the order of the first row's noise. Each has its own.
- noise.masked_fill(special, 2.0)
+ noise[:1].expand_as(noise).masked_fill(special, 2.0)

# the mask alone stays
Only the last of the special ids stays in place: the others are shuffled like words.
- torch.tensor(special_ids)
+ torch.tensor(special_ids[-1:])

# the words turned round
The words come in reverse. That is one order of many: let the noise decide.
- noise.masked_fill(special, 2.0)
+ torch.arange(ids.shape[1], 0, -1).expand_as(ids).masked_fill(special, ids.shape[1] + 1)

# sorted
The words are sorted by their ids. That is always the same order, whatever the noise.
- noise.masked_fill(special, 2.0)
+ ids.masked_fill(special, ids.max() + 1)

# special tokens shuffled
The special tokens are shuffled, and the words stay.
- noise.masked_fill(special, 2.0)
+ noise.masked_fill(~special, 2.0)
- special.int()
+ (~special).int()

# nothing moved
The row comes out as it went in. The order of the noise is nowhere used.
- ids.gather(1, by_noise)
+ ids.gather(1, by_place)

# across the rows
Words have moved from row to row. Shuffle each row by itself.
def wrong(ids, special_ids, noise):
    return shuffled(ids.reshape(1, -1), special_ids, noise.reshape(1, -1)).view(ids.shape)

# sorted too quickly
Special tokens have come out in another order: equal numbers keep theirs only with `stable=True`.
- .masked_fill(special, 2.0).argsort(dim=1, stable=True)
+ .masked_fill(special, 2.0).flip(1).argsort(dim=1, stable=True).mul(-1).add(ids.shape[1] - 1)
"""),
)

EXERCISES = (READS, ORDER, SHUFFLED)
