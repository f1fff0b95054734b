"""Exercises of lesson 11, the training clinic, second part: two tests that catch a bug before it costs a night."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.code import Write
from llm_lab.checks.deck import Draw
from llm_lab.text.masking import IGNORED

# -------------------------------------------------------------------------------------------------------------- write


class Reader(nn.Module):
    """A small model with one fault: a part that is cut off, unused, silenced, or frozen."""

    def __init__(self, vocabulary_size: int, width: int, fault: str):
        super().__init__()
        self.fault = fault
        self.embedding = nn.Embedding(vocabulary_size, width)
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width, bias=fault == "cut")
        if fault == "unused":
            self.spare = nn.Linear(width, 3)
        self.output = nn.Linear(width, vocabulary_size)
        self.gate = nn.Parameter(torch.full((1,), 0.0 if fault == "silenced" else 0.5))
        self.first.weight.requires_grad_(fault != "frozen")

    def forward(self, ids: Tensor) -> Tensor:
        """ids (B, T) -> scores (B, T, V)."""
        x = self.embedding(ids)
        heard = self.first(x)
        x = x + self.gate * self.second(heard.detach() if self.fault == "cut" else heard)
        return self.output(x)


FAULTS = ("none", "cut", "unused", "silenced", "frozen")


def a_model_in_training(draw: Draw) -> tuple[Any, ...]:
    """A model with slopes of the step before, an optimizer that may not know all of it, and a loss."""
    model = Reader(draw.V, draw.E, FAULTS[draw.seed % len(FAULTS)])
    for parameter in model.parameters():
        if parameter is not model.gate:
            parameter.data = draw.normal(*parameter.shape).float() * 0.3
    model.to(draw.dtype)
    every = list(model.named_parameters())
    known = [p for name, p in every if not (draw.seed % 3 == 0 and name.startswith("first"))]
    cut = len(known) // 2
    groups = [{"params": known[:cut], "weight_decay": 0.1}, {"params": known[cut:], "weight_decay": 0.0}]
    for p in known:
        p.grad = torch.ones_like(p) if p.requires_grad else None
    ids, labels, scale = draw.tokens(draw.B, draw.T), draw.tokens(draw.B, draw.T), 1e-4 if draw.seed % 4 == 1 else 1.0

    def loss_of(model: nn.Module) -> Tensor:
        return scale * F.cross_entropy(model(ids).flatten(0, 1), labels.flatten())

    return model, torch.optim.AdamW(groups, lr=1e-2), loss_of


def look_at_sleepers(answer: Any, model: nn.Module, optimizer: Any, loss_of: Any) -> dict[str, Any]:
    """The names that are found, and that the weights are left alone."""
    before = [p.detach().clone() for p in model.parameters()]
    found = answer(model, optimizer, loss_of)
    stays = all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    return {"names": found, "the weights stay as they are": stays}


ASLEEP = Write(
    id="11.asleep",
    title="Parameters that sleep",
    task="""\
Write `asleep(model, optimizer, loss_of)`. It returns a list: the names of the parameters that a step would not teach
anything, in the order of `model.named_parameters()`. A parameter sleeps if the loss gives it no slope (`grad` is
None, or 0 throughout), or if it is in no group of the optimizer. `loss_of(model)` gives a loss, a tensor without axes.
The parameters may still hold slopes of the step before: they don't count. Take no step: the weights must stay as they
are.""",
    why="A detached layer, a forgotten list, an optimizer that is older than the layer: none of them raises an error.",
    difficulty=2,
    minutes=10,
    first="call `loss_of(model).backward()`, and print name and `p.grad` of every parameter.",
    hints=(
        "Three things to ask of a parameter: is there a slope, is it anything but 0, and does the optimizer know it?",
        "`backward` adds to what `.grad` holds: what has to be done before it, so that old slopes don't count?",
        """The parameters of an optimizer lie in `optimizer.param_groups`, a list of dictionaries with the key "params".
        Two tensors are compared as objects with `is`, or by their `id`: == compares their numbers.""",
    ),
    explanation="""\
`model.zero_grad()` forgets the old slopes, of the parameters that the optimizer doesn't know, too. A set of `id`s says
whom the optimizer moves. Rows of 0 in an embedding are no sleep: only these words were not in the batch.""",
    stub="""
def asleep(model, optimizer, loss_of):
    '''The names of the parameters that a step would not teach anything.'''
    raise NotImplementedError
""",
    right=("asleep", "asleep_by_autograd"),
    inputs=a_model_in_training,
    probe=look_at_sleepers,
    wrong=catalogue("""
# only None is sleep
A layer behind a gate of 0 has a slope, and it is 0 throughout. You take it for awake.
- not p.grad.any() or
+

# a slope of None forgotten
You ask whether the slope is 0, and not whether there is one: where nothing was computed, `grad` is None or still old.
- p.grad is None or not p.grad.any()
+ p.grad is not None and not p.grad.any()

# the optimizer is not asked
A parameter that no group of the optimizer holds gets a slope and never moves. You call it awake.
- or id(p) not in moved
+

# only the optimizer is asked
A detached layer is in the optimizer, and gets no slope. You call it awake.
- p.grad is None or not p.grad.any() or
+

# old slopes count
`backward` adds to the slopes of the step before, and where it adds nothing, those are still there. They look alive.
- model.zero_grad()
+ pass

# the first group alone
An optimizer may hold several groups of parameters. You look into one of them.
- in optimizer.param_groups for
+ in optimizer.param_groups[:1] for

# those that are awake
You return the names of those that learn. Asked for are the others.
- if p.grad is None or not p.grad.any() or id(p) not in moved
+ if not (p.grad is None or not p.grad.any() or id(p) not in moved)

# every number must have a slope
A 0 among the slopes is no sleep: the words that were not in the batch have one in a healthy embedding.
- p.grad.any()
+ p.grad.all()

# a small slope
A slope of a ten-thousandth is one, too: AdamW divides by its size. Asleep is what has none at all.
- not p.grad.any()
+ p.grad.abs().max() < 1e-3

# slopes that add up to 0
You add up the slopes of a parameter. Those of the last layer's bias add up to 0, and each of them moves its number.
- not p.grad.any()
+ p.grad.sum().abs() < 1e-7

# found by a step
You took a step and looked for what stayed. The step moves the weights, and weight decay moves some that learn nothing.
def wrong(model, optimizer, loss_of):
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.zero_grad()
    loss_of(model).backward()
    optimizer.step()
    return [name for name, p in model.named_parameters() if torch.equal(p, before[name])]

# parameters in place of names
You return the parameters themselves. Their names are asked for: a name can be printed and found in the code.
- [name for
+ [p for
"""),
)

Loss = Callable[[Tensor, Tensor], Tensor]


def honest(scores: Tensor, labels: Tensor) -> Tensor:
    """The mean over the targets."""
    return F.cross_entropy(scores.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)


def honest_sum(scores: Tensor, labels: Tensor) -> Tensor:
    """The sum over the targets, by another way."""
    log_p = scores.log_softmax(dim=-1)[labels != IGNORED]
    return -log_p.gather(1, labels[labels != IGNORED][:, None]).sum()


def everywhere(scores: Tensor, labels: Tensor) -> Tensor:
    """The filler counts as if it were word 0."""
    return F.cross_entropy(scores.flatten(0, 1), labels.clamp(min=0).flatten())


def one_word_forgotten(scores: Tensor, labels: Tensor) -> Tensor:
    """The word of the first target is ignored wherever it stands, and another counts as filler."""
    word = labels[labels != IGNORED][0]
    return F.cross_entropy(scores.flatten(0, 1), labels.masked_fill(labels == word, IGNORED).flatten(), reduction="sum")


def scalar_mask(scores: Tensor, labels: Tensor) -> Tensor:
    """A mean over all places, times the mask."""
    return (everywhere(scores, labels) * (labels != IGNORED)).sum()


def next_door(scores: Tensor, labels: Tensor) -> Tensor:
    """Each label is held against the scores of the place before."""
    return honest(scores, labels.roll(-1, dims=1))


def the_last_left_out(scores: Tensor, labels: Tensor) -> Tensor:
    """The last target of the batch does not count."""
    last = (labels != IGNORED).flatten().nonzero()[-1]
    return F.cross_entropy(scores.flatten(0, 1), labels.flatten().index_fill(0, last, IGNORED), reduction="sum")


def a_whisper(scores: Tensor, labels: Tensor) -> Tensor:
    """The visible places count a little, a hundredth."""
    return honest(scores, labels) + 0.01 * everywhere(scores, labels)


def small_scores(scores: Tensor, labels: Tensor) -> Tensor:
    """The mean over the targets, and all scores are kept small, the visible ones, too."""
    return honest(scores, labels) + 0.01 * scores.logsumexp(dim=-1).square().mean()


LOSSES: tuple[Loss, ...] = (
    honest, everywhere, honest_sum, one_word_forgotten, scalar_mask, next_door, the_last_left_out, a_whisper,
    small_scores,
)  # fmt: skip


def a_loss(draw: Draw) -> tuple[Any, ...]:
    """A loss, healthy or not, with scores (B, T, V) and labels (B, T) among which at least one is a target."""
    labels = draw.tokens(draw.B, draw.T)
    targets = draw.flags(draw.B, draw.T, share=0.4)
    targets[draw.B - 1, 0] = True
    return LOSSES[draw.seed % len(LOSSES)], draw.normal(draw.B, draw.T, draw.V), labels.masked_fill(~targets, IGNORED)


def a_loss_of_many(draw: Draw) -> tuple[Any, ...]:
    """The whisper, on more places."""
    _, scores, labels = a_loss(draw)
    return a_whisper, scores.repeat(2, 3, 1), labels.repeat(2, 3)


ONLY_TARGETS = Write(
    id="11.only_targets",
    title="What counts?",
    task="""\
Write `only_targets(loss_of, scores, labels)`: True if the loss depends on the scores of every target, and on those of
no other place; else False. `scores` has shape (B, T, V), `labels` (B, T) with -100 where there is no target.
`loss_of(scores, labels)` returns a loss, a tensor without axes; how it is computed is not yours to know. It may be a
sum or a mean.""",
    why="Visible words that count make a wonderful curve; a target that doesn't count is a word that is never learnt.",
    difficulty=3,
    minutes=12,
    first="think: a place counts if the loss changes with its scores. How does PyTorch say how much it does?",
    hints=(
        """Let `scores.requires_grad_()` know that you want slopes, call `backward` on the loss, and look at the
        shape of `scores.grad`: of (B, T, V) slopes you need one answer for each place.""",
        """Add up the slopes of a place for cross-entropy: what comes out? p minus 1 for the right word, p for all
        others. Take absolute values first.""",
        "Two maps of bool, (B, T): where a slope is, and where a target is. They must be equal, in both directions.",
    ),
    explanation="""\
The slopes of one place add up to 0, for softmax pays what it takes, so absolute values are added. Then two maps must be
the same. Without slopes it goes, too: change the scores of one place at a time, but not all V by the same amount.""",
    stub="""
def only_targets(loss_of, scores, labels):
    '''True if every target counts in the loss, and nothing else does.'''
    raise NotImplementedError
""",
    right=("only_targets", "only_targets_place_by_place"),
    inputs=a_loss,
    more=(a_loss_of_many,),
    wrong=catalogue("""
# targets may be left out
You only ask that nothing else counts. A loss that ignores a word would pass, and the word is never learnt.
- torch.equal(counts, labels != -100)
+ not (counts & (labels == -100)).any().item()

# other places may count
You only ask that every target counts. A loss over all places would pass: the most common bug of all.
- torch.equal(counts, labels != -100)
+ not (~counts & (labels != -100)).any().item()

# as many as there should be
You compare how many places count. They may be the wrong ones: each the neighbour of a target, say.
- torch.equal(counts, labels != -100)
+ counts.sum().item() == (labels != -100).sum().item()

# what softmax does not see
You add up the V slopes of a place, or shift its V scores by one amount. Softmax takes from one word what it gives to
another: the sum is 0, and the shift changes nothing.
- scores.grad.abs().sum(dim=-1) > 0
+ scores.grad.sum(dim=-1).abs() > 1e-4

# the sick are healthy
You say True where something is wrong. The name of the function says what True should mean.
- torch.equal(counts, labels != -100)
+ not torch.equal(counts, labels != -100)

# the right word alone
You look whether the score of the right word is pulled up. At a visible place all scores may be pushed down.
- counts = scores.grad.abs().sum(dim=-1) > 0
+ counts = scores.grad.gather(2, labels.clamp(min=0)[..., None])[..., 0] < 0

# one place is enough
One place that is as it should be makes you say True. All must be.
- torch.equal(counts, labels != -100)
+ (counts == (labels != -100)).any().item()

# a coarse eye
A slope of a visible place may be small, a hundredth of the others, and it counts all the same.
- > 0
+ > 0.01 * scores.grad.abs().sum(dim=-1).max()

# a map in place of a verdict
You return a map of places. One True or False for all of them is asked for.
- torch.equal(counts, labels != -100)
+ counts == (labels != -100)

# the loss by hand
You compute the loss yourself, as a mean, and compare. A sum over the same places is healthy, too.
def wrong(loss_of, scores, labels):
    by_hand = torch.nn.functional.cross_entropy(scores.flatten(0, 1), labels.flatten(), ignore_index=-100)
    return torch.allclose(loss_of(scores, labels), by_hand, atol=1e-4)
"""),
)

EXERCISES = (ASLEEP, ONLY_TARGETS)
