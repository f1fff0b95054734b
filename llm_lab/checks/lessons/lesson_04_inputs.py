"""Exercises of lesson 04, masking, second part: what stands at a target, and what its label says."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.choice import Choice
from llm_lab.checks.code import Mend, Write
from llm_lab.checks.compare import kind_of
from llm_lab.checks.deck import Draw

# ---------------------------------------------------------------------------------------------------------- diagnose


def colleagues_shares() -> None:
    """Print what stands at a million targets of a function that is not quite 80/10/10."""
    first, second = torch.rand(2, 1_000_000, generator=torch.Generator().manual_seed(0))
    masked, random = first < 0.8, (first >= 0.8) & (second < 0.1)
    for name, here in (("[MASK]", masked), ("a random word", random), ("its own word", ~masked & ~random)):
        print(f"{name:14} {here.double().mean():.3f}")


TWO_DRAWS = Choice(
    id="04.two_draws",
    title="A colleague's 80/10/10",
    task="""\
The cell below counts what a colleague's function puts at a million targets. (A random word that happens to be the right
one is counted as random.) What did the colleague do?""",
    why="Two draws can be right, too: Hugging Face's collator makes two. One number decides.",
    difficulty=2,
    minutes=6,
    evidence=colleagues_shares,
    first="run the cell with the counts, and compute for each statement which three shares it makes.",
    hints=(
        "0.800 of a million targets, to three digits: nothing disturbed the first step.",
        "20% of the targets are left after that step. Which part of them became random?",
        "0.02 of 0.2 is one in ten. Which part should it be, so that 10% of all targets are random?",
    ),
    explanation="""\
80% became [MASK]. Of the 20% that were left, one in ten became random: 2% of all. Half of them should have: a second
draw below 0.5 makes 80/10/10.""",
    choices={
        "a": "10% become random; then 10% of the rest are kept; what remains becomes `[MASK]`.",
        "b": "80% become `[MASK]`; then 10% of *all* targets become random, over whatever stands there.",
        "c": "The random words are drawn from the whole vocabulary, special tokens among them.",
        "d": "80% become `[MASK]`; then 10% *of those left* become random.",
        "e": "Nothing is wrong: such shares scatter.",
        "f": "The function is right, but a random word often is the right word by chance.",
    },
    right="d",
    wrong=catalogue("""
# 81/10/9
That makes 0.81, 0.10 and 0.09. Compare the first share with the table.
= a

# 72/10/18
The share of kept words fits, 0.18. But the random words would be 0.10, and [MASK] 0.72.
= b

# special tokens as words
A bad thing, but it changes which words are random, and not how many.
= c

# chance
The standard error with a million targets is 0.0004 at most. These shares are off by 0.08.
= e

# hit by chance
Those are counted as random here. And with 8,192 words it happens once in 8,192 times.
= f
"""),
)

# -------------------------------------------------------------------------------------------------------------- mend


def chosen_words(draw: Draw) -> tuple[Any, ...]:
    """Ids (B, T), targets among their words, and the id of [MASK]."""
    ids = draw.tokens(draw.B, draw.T, special_ids=(0, 1, 2, 3, 6))
    return ids, (ids > 3) & (ids != 6) & draw.flags(draw.B, draw.T), 6


LABELS = Mend(
    id="04.labels",
    title="The labels that knew nothing",
    task="""\
`labels(ids, targets, mask_id)` returns a pair: what the model sees, with `[MASK]` at every target, and the labels,
which hold the hidden token at a target and -100 elsewhere. The code below runs. A model trained with it soon has a
loss near 0, and can't fill a single blank. Mend it.""",
    why="The bug makes no error and a wonderful curve. One printed row shows it.",
    difficulty=2,
    minutes=6,
    first="run it on one row, `torch.tensor([[5, 9, 8]])`, and print the labels.",
    hints=(
        "Print `ids` before and after the call.",
        "`inputs = ids` gives the same tensor a second name. What happens to `ids` in the next line?",
        "Work on a copy, `ids.clone()`; or use `ids.masked_fill(targets, mask_id)`, which makes a new tensor.",
    ),
    explanation="""\
`inputs = ids` makes no copy, so the words were gone before the labels were made. `masked_fill`, without an
underscore at its end, makes a new tensor.""",
    stub="""
def labels(ids, targets, mask_id):
    '''What the model sees (B, T), and the labels (B, T): -100 where nothing is asked.'''
    inputs = ids
    inputs[targets] = mask_id
    return inputs, ids.masked_fill(~targets, -100)
""",
    right=("labels", "labels_by_copying"),
    inputs=chosen_words,
    wrong=catalogue("""
# the label is the mask
Your labels hold [MASK] at the targets, so the model learns to answer [MASK]. From which tensor are they made?
- ids.masked_fill(~t
+ ids.masked_fill(targets, mask_id).masked_fill(~t

# labels upside down
-100 stands at the targets, and what the model sees is asked. Where should nothing be asked?
- ~targets
+ targets

# asked everywhere
The labels hold every token. Then visible words count, too, and copying them earns a low loss.
- ids.masked_fill(~targets, -100)
+ ids.clone()

# 0 for not asked
0 is the id of a token, so the loss counts it as an answer. Which number does `cross_entropy` skip?
- -100
+ 0

# -1 for not asked
`cross_entropy` does not skip -1: it is outside the vocabulary, an error.
- -100
+ -1

# the wrong way round
The labels come first. The caller feeds the first of the pair to the model.
def wrong(ids, targets, mask_id):
    return labels(ids, targets, mask_id)[::-1]

# -100 in the input
The model sees -100 at the targets. No token has that id: what stands there in the table of the lesson?
- ids.masked_fill(targets, mask_id)
+ ids.masked_fill(targets, -100)

# targets found by their looks
You find the targets by looking for [MASK] in the input. A text may hold a [MASK] of its own, and 80/10/10 shows words.
- ids.masked_fill(~targets, -100)
+ ids.masked_fill(ids.masked_fill(targets, mask_id) != mask_id, -100)

# all hidden
The input shows [MASK] everywhere: no context is left to guess from.
- ids.masked_fill(targets, mask_id)
+ torch.full_like(ids, mask_id)
"""),
)

# ------------------------------------------------------------------------------------------------------------- write

MANY = 10_000  # targets, for shares that can be told apart
MASK_ID = 6


def rows_to_corrupt(draw: Draw) -> tuple[Any, ...]:
    """Ids, targets among their words, and noise, for both schemes; the special ids are not the first ones."""
    specials = draw.choice((0, 1, 2, 3, 6), (0, 6), (4, 6, 8))
    ids = draw.tokens(draw.B, draw.T, special_ids=specials)
    targets = ~torch.isin(ids, torch.tensor(specials)) & draw.flags(draw.B, draw.T, share=0.7)
    scheme = draw.choice("pure", "80/10/10")
    return ids, targets, scheme, MASK_ID, specials, draw.V, draw.uniform(2, draw.B, draw.T)


def many_targets(draw: Draw) -> tuple[Any, ...]:
    """10,000 targets whose noise is Hammersley's set, spread evenly in the square: shares need no luck."""
    specials, vocabulary_size = (0, 2, 3, 6, 29), 30
    ids = draw.tokens(30, 500, special_ids=specials)
    words = (~torch.isin(ids, torch.tensor(specials))).flatten().nonzero()[:MANY, 0]
    targets = torch.zeros(ids.numel(), dtype=torch.bool).index_fill(0, words, True).view_as(ids)
    noise, number = draw.uniform(2, 30, 500), torch.randperm(MANY, generator=draw.chance)
    digits = [(number >> bit & 1) * 2.0 ** -(bit + 1) for bit in range(16)]
    backwards = torch.stack(digits).sum(dim=0)  # van der Corput's numbers: the binary digits read from the other end
    noise[0][targets], noise[1][targets] = ((number + 0.5) / MANY).to(noise.dtype), backwards.to(noise.dtype)
    return ids, targets, "80/10/10", MASK_ID, specials, vocabulary_size, noise


def look_at_mixture(answer: Any, ids: Tensor, targets: Tensor, scheme: str, mask_id: int, *rest: Any) -> dict[str, Any]:
    """What holds of a corrupted text, in words, and shares where targets are many. It ends at the first fault."""
    seen = answer(ids, targets, scheme, mask_id, *rest)
    facts: dict[str, Any] = {"the result": kind_of(seen)}
    if kind_of(seen) != kind_of(ids):
        return facts
    shown, hidden, special_ids = seen[targets], ids[targets], torch.tensor(rest[0])
    facts["the rest of the text stays"] = torch.equal(seen[~targets], ids[~targets])
    if scheme == "pure":
        return {**facts, "pure: every target shows [MASK]": bool((shown == mask_id).all())}
    masked, own = shown == mask_id, shown == hidden
    facts["a target shows [MASK] or a word"] = not (torch.isin(shown, special_ids) & ~masked).any()
    if len(shown) < MANY or not all(facts.values()):
        return facts
    row = targets.nonzero()[:, 0]
    by_row = torch.bincount(row, masked.double()) / torch.bincount(row)
    facts["each target is decided by itself"] = bool(by_row.nan_to_num(0.8).std() < 0.1)
    facts |= {"share of [MASK]": masked.double().mean().item(), "share of kept words": own.double().mean().item()}
    counts = torch.bincount(shown[~masked & ~own], minlength=rest[1])
    counts = counts[~torch.isin(torch.arange(len(counts)), special_ids)]
    facts["different random words"] = int((counts > 0).sum())
    usual = counts.double().mean()
    facts["random words are equally likely"] = bool((counts >= 0.65 * usual).all() and (counts <= 1.35 * usual).all())
    few = torch.stack((rest[2][0, :3], rest[2][1, :3].flip(1)))  # three rows will do
    other = answer(ids[:3], targets[:3], scheme, mask_id, *rest[:2], few)
    facts["other noise, other random words"] = not torch.equal(other, seen[:3])
    return facts


MIXTURE = Write(
    id="04.mixture",
    title="80/10/10",
    task="""\
Write `mixture(ids, targets, scheme, mask_id, special_ids, vocabulary_size, noise)`. It returns what the model sees,
(B, T). With the scheme "pure" every target shows `mask_id`. With "80/10/10" a target shows it with probability 0.8, a
random word with 0.1, and its own word with 0.1. `noise` has shape (2, B, T) and is uniform in [0, 1): all chance comes
from it. A random word is an id below `vocabulary_size` that is not in `special_ids`; all of them are equally
likely.""",
    why="This is BERT's masking. Its usual bug changes one share by one point in a hundred, and nothing crashes.",
    difficulty=3,
    minutes=15,
    first='do the scheme "pure": one line, `ids.masked_fill(targets, mask_id)`.',
    hints=(
        """\
One number, `noise[0]`, decides for each target. Where must it fall for [MASK], a random word, the word itself?""",
        "The other, `noise[1]`, picks a place in a list of words: multiply it by the length of the list, and cut.",
        """`torch.where(condition, x, ids)` shows x where the condition holds. Two of them, one after the other, do it;
        both conditions begin with `targets &`.""",
    ),
    explanation="""\
The package's own function. `decision` falls below 0.8, between 0.8 and 0.9, or above: three cases that can't overlap.
`draw` picks the random word, from a list without special tokens.""",
    stub="""
def mixture(ids, targets, scheme, mask_id, special_ids, vocabulary_size, noise):
    '''What the model sees, (B, T). `ids` and `targets` are (B, T), `noise` (2, B, T).'''
    raise NotImplementedError
""",
    right=("llm_lab.text.masking.corrupt", "mixture_token_by_token"),
    inputs=rows_to_corrupt,
    more=(many_targets,),
    probe=look_at_mixture,
    tolerance=0.004,
    wrong=catalogue("""
# two draws
[MASK] stands at 81% of the targets and the word itself at 9%. Two draws overlap: what the first one leaves is not 100%
any more.
- (decision < 0.8)
+ (decision >= 0.1) & (draw >= 0.1)
- (decision >= 0.8) & (decision < 0.9)
+ (decision < 0.1)

# random words over the masks
[MASK] stands at 72% of the targets: random words are written over some of them.
- (decision >= 0.8) & (decision < 0.9)
+ (draw < 0.1)
- draw.double()
+ draw.double() * 10 % 1

# a tenth of the rest
Only 2% of the targets show a random word. A tenth of what [MASK] left over is not a tenth of all.
- (decision < 0.9)
+ (decision < 0.82)

# no word stays
A fifth of the targets show a random word, and none keeps its own.
-  & (decision < 0.9)
+

# no random words
A fifth of the targets show their own word, and none a random one: then a word that is seen is always right.
- (decision >= 0.8)
+ (decision >= 0.9)

# shares exchanged
[MASK] stands at a tenth of the targets. On which side of 0.8 do most numbers fall?
- (decision < 0.8)
+ (decision >= 0.9)
- (decision >= 0.8) & (decision < 0.9)
+ (decision < 0.1)

# special tokens as words
Some targets show a special token that is not [MASK]: the random words come from the whole vocabulary.
- sorted(set(range(vocabulary_size)) - set(special_ids))
+ range(vocabulary_size)

# places that nobody asked
Words that are no targets are changed, too: the model sees errors on which nobody scores it.
- where(targets & (decision < 0.8)
+ where((decision < 0.8)

# one random word for all
All random words are the same one. Each target needs a number of its own.
- words[(draw.double()
+ words[(draw[0, 0].double()

# one draw for both
The same number decides and picks the word, so that only words at one end of the list are ever picked.
- draw.double()
+ decision.double()

# one decision for a row
All targets of a row have the same fate. Each needs a decision of its own.
- decision, draw = noise
+ decision, draw = noise[0][:, :1], noise[1]

# pure is mixed
With the scheme "pure" some targets show a word.
- scheme == "pure"
+ False

# always pure
With the scheme "80/10/10" every target shows [MASK].
- scheme == "pure"
+ True
"""),
)

EXERCISES = (TWO_DRAWS, LABELS, MIXTURE)
