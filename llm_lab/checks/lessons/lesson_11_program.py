"""Exercises of lesson 11, the training clinic, fourth part: a program with five bugs, all of them silent."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.code import Mend
from llm_lab.checks.compare import as_number
from llm_lab.checks.deck import Draw
from llm_lab.checks.lessons.lesson_09_checkpoint import load_adamw
from llm_lab.text.masking import IGNORED

PAD, MASK, ROWS = 0, 1, 4  # rows of a batch


class Patient(nn.Module):
    """A small model that keeps what it is given."""

    def __init__(self, weights: Tensor, mixing: Tensor):
        super().__init__()
        self.embedding, self.mixing = nn.Parameter(weights), nn.Parameter(mixing)
        self.given: list[tuple[Tensor, Tensor]] = []

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """inputs (B, T), mask (B, T) -> scores (B, T, V)."""
        self.given.append((inputs, mask))
        return self.scores(inputs, mask)

    def scores(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """The same, without keeping anything."""
        x, real = self.embedding[inputs], mask[..., None].to(self.embedding.dtype)
        mean = (x * real).sum(dim=1, keepdim=True) / real.sum(dim=1, keepdim=True).clamp(min=1)
        return (x + mean) @ self.mixing @ self.embedding.T


class Hide:
    """Hides words of rows: other ones for another step. It keeps what it was asked, and what it gave."""

    def __init__(self, seed: int):
        self.seed = seed
        self.asked: list[tuple[Tensor, int]] = []
        self.gave: list[tuple[Tensor, Tensor]] = []

    def __call__(self, ids: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """ids (B, T) -> what the model sees, and the labels, each (B, T)."""
        chance = torch.Generator().manual_seed(self.seed + step)
        targets = (torch.rand(ids.shape, generator=chance) < 0.4) & (ids != PAD)
        targets[:, 0] = True
        self.asked.append((ids.clone(), step))
        self.gave.append((ids.masked_fill(targets, MASK), ids.masked_fill(~targets, IGNORED)))
        return self.gave[-1]


def a_program(draw: Draw) -> tuple[Any, ...]:
    """What the program is given: a model, rows with padding, a way to hide words, the id of padding, steps, a rate."""
    load_adamw()
    width, length, steps = draw.E + 2, draw.T + 2, 1 if draw.seed % 3 else 3
    model = Patient(draw.normal(draw.V, width), draw.normal(width, width))
    ids = 2 + draw.integers(0, draw.V - 2, ROWS + 1 + draw.B, length)
    lengths = draw.integers(1, length, len(ids), 1)
    return model, ids.masked_fill(torch.arange(length) >= lengths, PAD), Hide(100 * draw.seed), PAD, steps, 0.01


class Watch:
    """Looks at the slopes before each step of any optimizer, and computes what they should be."""

    def __init__(self, model: Patient, hide: Hide):
        self.model, self.hide = model, hide
        self.fresh: list[bool] = []  # the slopes point where this step's slopes point
        self.lengths: list[float] = []
        self.losses: list[float] = []

    def __call__(self, *_: Any) -> None:
        """Called before each step."""
        parameters = list(self.model.parameters())
        (inputs, labels), ids = self.hide.gave[-1], self.hide.asked[-1][0]
        scores = self.model.scores(inputs, ids != PAD)
        loss = F.cross_entropy(scores.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
        wanted = torch.cat([slope.flatten() for slope in torch.autograd.grad(loss, parameters)])
        found = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in parameters])
        self.fresh.append(bool(F.cosine_similarity(wanted, found, dim=0) > 0.999))
        self.lengths.append(found.norm().item())
        self.losses.append(loss.item())


def look_at_program(answer: Any, model: Patient, rows: Tensor, hide: Hide, *rest: Any) -> dict[str, Any]:
    """The marks of a healthy program in words, up to the first that is missing, and its losses."""
    watch = Watch(model, hide)
    hook = register_optimizer_step_pre_hook(watch)
    try:
        losses = answer(model, rows, hide, *rest)
    finally:
        hook.remove()
    steps = rest[1]
    numbers = [as_number(loss) for loss in losses]
    facts: dict[str, Any] = {"losses": len(numbers), "steps of the optimizer": len(watch.losses)}
    if (len(numbers), len(watch.losses)) != (steps, steps):
        return facts
    found = dict(marks(model, rows, hide, watch, losses))
    if not any(found[words] for words in TO_MEND):
        facts["one thing is mended"] = False
    for words, holds in found.items():
        if words == "the loss is the mean over the targets":
            facts["first loss"] = numbers[0]
        facts[words] = holds
        if not holds:
            return facts
    return facts | {f"loss {step}": number for step, number in enumerate(numbers)}


TO_MEND = (
    "the step decides which words are hidden",
    "the mask is True at real tokens",
    "the loss is the mean over the targets",
    "each step follows its own slopes",
    "the slopes are clipped to length 1 before the step",
)


def marks(model: Patient, rows: Tensor, hide: Hide, watch: Watch, losses: list[Any]) -> list[tuple[str, bool]]:
    """What must hold, in the order in which it is looked at."""
    read = all(torch.equal(mask, ids != PAD) for (_, mask), (ids, _) in zip(model.given, hide.asked, strict=False))
    seen = all(torch.equal(x, y) for (x, _), (y, _) in zip(model.given, hide.gave, strict=False))
    places = [torch.arange(ROWS * step, ROWS * (step + 1)) % len(rows) for step in range(len(losses))]
    in_turn = all(torch.equal(ids, rows[place]) for (ids, _), place in zip(hide.asked, places, strict=False))
    steps = [step for _, step in hide.asked]
    paid = all(math.isclose(float(a), b, rel_tol=1e-3) for a, b in zip(losses, watch.losses, strict=True))
    return [
        ("every batch is hidden anew", len(steps) == len(losses)),
        ("four rows a step, in turn, over and over", in_turn),
        ("the step decides which words are hidden", len(set(steps)) == len(losses)),
        ("the model sees what hide gave", seen),
        ("the mask is True at real tokens", read),
        ("the loss is the mean over the targets", paid),
        ("the losses are plain numbers, without a graph", not any(isinstance(loss, Tensor) for loss in losses)),
        ("a step finds slopes", min(watch.lengths) > 0),
        ("each step follows its own slopes", all(watch.fresh)),
        ("the slopes are clipped to length 1 before the step", max(watch.lengths) < 1.001),
    ]


CURED = Mend(
    id="11.cured",
    title="Five bugs and no error",
    task="""\
`cured(model, rows, hide, pad_id, steps, rate)` trains a model and returns the loss of each step, as plain numbers.
`rows` (N, T) holds ids, with `pad_id` behind the end of a row; a batch is four rows in turn, over and over. `hide(ids,
step)` gives what the model sees and the labels, -100 where nothing is asked; another `step` hides other words.
`model(inputs, mask)` wants a mask that is True at *real* tokens, and gives scores (B, T, V). The slopes are to be
clipped to length 1. The program below runs, and its loss falls. Five things are wrong with it. Mend them all, and
leave the rest as it is: AdamW, and its rate.""",
    why="So they come in life: several at once, and the loss falls all the same.",
    difficulty=4,
    minutes=30,
    first="read it line by line beside a loop that is healthy, that of lesson 09. Which lines differ?",
    hints=(
        "Three questions: which words does step 7 hide, what is True in the mask, which places does the loss count?",
        "Then the three lines that learn: what is in `.grad` when `backward` begins, and what does clipping change?",
        """Mask: `ids != pad_id`. Loss: `ignore_index=-100`, without `clamp`. Hide: with `step`. The other two: a
        `zero_grad`, and the order of the last three lines.""",
    ),
    explanation="""\
The masks never changed, padding was read and words were not, the filler was asked as if it were word 0, old slopes were
never cleared, and clipping came after the step that it should tame. The lesson has tests for the mask, the filler and
the old slopes. For the others, look at what each step hides, and at the slopes' length just before the step.""",
    setup="import torch.nn.functional as F\nfrom torch import nn",
    stub="""
def cured(model, rows, hide, pad_id, steps, rate):
    '''Train on four rows a step; the loss of each step.'''
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    losses = []
    for step in range(steps):
        ids = rows[torch.arange(4 * step, 4 * step + 4) % len(rows)]
        inputs, labels = hide(ids, 0)
        scores = model(inputs, ids == pad_id)
        loss = F.cross_entropy(scores.flatten(0, 1), labels.clamp(min=0).flatten())
        loss.backward()
        optimizer.step()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        losses.append(loss.item())
    return losses
""",
    right=("cured", "cured_by_hand"),
    inputs=a_program,
    probe=look_at_program,
    tolerance=1e-3,
    wrong=catalogue("""
# masks that never change
The same step is given to `hide` each time, so a row hides the same words for ever, and they are learnt by heart.
- hide(ids, step)
+ hide(ids, 0)

# the mask upside down
The model reads the padding and not the words. True is for what may be read.
- ids != pad_id
+ ids == pad_id

# the filler is asked
The loss is not the mean over the targets: the places where nothing is asked count as if word 0 were hidden there.
- labels.flatten(), ignore_index=-100)
+ labels.clamp(min=0).flatten())

# word 0 in place of the filler
What is left out of the loss must be the filler. Which number does `hide` put where nothing is asked?
- labels.flatten(), ignore_index=-100)
+ labels.clamp(min=0).flatten(), ignore_index=0, reduction="sum") / labels.numel()

# never cleared
Each step follows the sum of all slopes so far: `backward` adds to what is there.
- optimizer.zero_grad()
+ pass

# cleared too late
The slopes are cleared between `backward` and the step, so that the step finds none.
- optimizer.zero_grad()
-         loss.backward()
+ loss.backward()
+         optimizer.zero_grad()

# clipped too late, or never
Nothing limits the slopes of a step: when they are clipped, it is done, and the next one has its own. Where must the
clipping stand?
- nn.utils.clip_grad_norm_(model.parameters(), 1.0)
-         optimizer.step()
+ optimizer.step()
+         nn.utils.clip_grad_norm_(model.parameters(), 1.0)

# losses with their graphs
You keep the losses as tensors. Each holds the whole graph of its step, and the memory fills.
- losses.append(loss.item())
+ losses.append(loss)

# the answers in sight
The model is given the rows as they are, and sees the words that it should guess.
- model(inputs,
+ model(ids,

# the masks of the first step
The words are hidden before the loop, so that all steps read the same batch.
- losses = []
+ losses, first = [], hide(rows[:4], 0)
- hide(ids, step)
+ first

# the sum over the targets
The slopes are clipped, so the sum does little harm; but your losses are not nats a target.
- ignore_index=-100)
+ ignore_index=-100, reduction="sum")
"""),
)

EXERCISES = (CURED,)
