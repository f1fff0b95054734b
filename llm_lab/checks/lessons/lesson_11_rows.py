"""Exercises of lesson 11, the training clinic, third part: a fair exam, and rows that mind their own business."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.code import Mend, Write
from llm_lab.checks.compare import as_number, kind_of
from llm_lab.checks.deck import Draw
from llm_lab.text.masking import IGNORED

# --------------------------------------------------------------------------------------------------------------- mend


class Examined(nn.Module):
    """A small model with dropout. It notes in which mode it was asked, and whether slopes were prepared."""

    def __init__(self, weights: Tensor):
        super().__init__()
        self.weights, self.dropout = nn.Parameter(weights), nn.Dropout(0.5)
        self.asked: list[tuple[bool, bool]] = []

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs (B, T) -> scores (B, T, V)."""
        self.asked.append((self.training, torch.is_grad_enabled()))
        table = self.weights / self.weights.norm(dim=1, keepdim=True)
        return self.dropout(table[inputs] + table[inputs].mean(dim=1, keepdim=True)) @ table.T * 4


def an_exam(draw: Draw) -> tuple[Any, ...]:
    """A model in either mode, and batches of different numbers of targets; one of them may have none."""
    model = Examined(draw.normal(draw.V, draw.E)).train(draw.choice(True, True, False))
    batches = []
    for share in (0.9, 0.2, draw.choice(0.0, 0.5)):
        labels = draw.tokens(draw.B, draw.T)
        targets = draw.flags(draw.B, draw.T, share=share)
        targets[0, 0] = share > 0
        batches.append((draw.tokens(draw.B, draw.T), labels.masked_fill(~targets, IGNORED)))
    return model, batches


def look_at_exam(answer: Any, model: Examined, batches: list[Any]) -> dict[str, Any]:
    """The properties of a held-out loss, up to the first that fails, and the loss."""
    before = model.training
    result = answer(model, batches)
    number = as_number(result)
    facts: dict[str, Any] = {"the result": "a number" if number is not None else kind_of(result)}
    facts["no dropout in the exam"] = not any(training for training, _ in model.asked)
    if number is None or not all(facts.values()):
        return facts
    facts["nats a target"] = float(number)
    facts["no slopes are prepared"] = not any(slopes for _, slopes in model.asked)
    facts["the model is left in the mode that it was in"] = model.training == before
    return facts


EXAM = Mend(
    id="11.exam",
    title="An exam that nobody can repeat",
    task="""\
`exam(model, batches)` should return the held-out loss, a number: the nats a target over *all* targets of all batches.
`batches` is a list of pairs: inputs (B, T) and labels (B, T) with -100 where there is no target, masked once and for
all. `model(inputs)` gives the scores (B, T, V). The code below gives another loss each time that it is called, and when
a batch has no target it gives NaN. Beside this it weighs the batches wrongly, keeps the graph that only `backward`
needs, and a model must afterwards be in the mode in which it came. Mend it.""",
    why="Every comparison of this course hangs on this number.",
    difficulty=3,
    minutes=10,
    first="call it twice: the two losses should agree. Which layer of a model behaves differently in training?",
    hints=(
        "Who comes back to the model afterwards, and how will they find it? And what weighs a batch with few targets?",
        """`model.eval()` before, and afterwards the mode that `model.training` had at the start. A batch with few
        targets must not weigh as much as one with many: what should be added up, and what divided?""",
        """`F.cross_entropy(..., reduction="sum")` gives the nats of a batch; count its labels that are not -100. All
        under `torch.no_grad()`, and one division at the end.""",
    ),
    explanation="""\
Sums of nats and counts of targets, divided once at the end: a batch without targets adds nothing to either. Dropout is
off, no slopes are kept, and the model leaves the room as it came in.""",
    setup="import torch.nn.functional as F\nfrom torch import nn",
    stub="""
def exam(model, batches):
    '''Nats a target over all batches.'''
    losses = []
    for inputs, labels in batches:
        scores = model(inputs).flatten(0, 1)
        losses.append(F.cross_entropy(scores, labels.flatten(), ignore_index=-100))
    return (sum(losses) / len(losses)).item()
""",
    right=("exam", "exam_target_by_target"),
    inputs=an_exam,
    probe=look_at_exam,
    tolerance=1e-4,
    may_draw=True,
    wrong=catalogue("""
# dropout is on
The same weights get another loss each time: some numbers are dropped in the exam. Which mode is the model in?
- model.eval()
+ model.train()

# the mean of means
Each batch is averaged by itself, then the averages. A target in a batch of few targets counts more than one of many.
def wrong(model, batches):
    was_training, means = model.training, []
    model.eval()
    with torch.no_grad():
        for inputs, labels in batches:
            if (labels != -100).any():
                scores = model(inputs).flatten(0, 1)
                means.append(F.cross_entropy(scores, labels.flatten(), ignore_index=-100).item())
    model.train(was_training)
    return sum(means) / len(means)

# an empty batch is NaN
Where a batch has no target, its mean is 0 / 0, and one NaN makes all NaN.
def wrong(model, batches):
    was_training, nats, targets = model.training, 0.0, 0
    model.eval()
    with torch.no_grad():
        for inputs, labels in batches:
            count = (labels != -100).sum().item()
            mean = F.cross_entropy(model(inputs).flatten(0, 1), labels.flatten(), ignore_index=-100)
            nats, targets = nats + count * mean.item(), targets + count
    model.train(was_training)
    return nats / targets

# left in the exam's mode
After the exam training goes on without dropout: nobody has put the model back into its mode.
- model.train(was_training)
+ pass

# training, whatever it was
A model that came in the mode of evaluation leaves in that of training. Keep what it was.
- model.train(was_training)
+ model.train()

# slopes are prepared
The losses are right. But PyTorch keeps all that `backward` would need, for each batch: memory and time for nothing.
- with torch.no_grad():
+ if True:

# divided by all places
You divide by the number of places, and most of them are no targets.
- (labels != -100).sum().item()
+ labels.numel()

# never divided
You return the sum over all targets. It grows with the exam.
- nats / targets
+ nats

# the last batch alone
Each batch replaces the one before: what you return is the loss of the last.
- nats += F.cross
+ nats = F.cross
- targets += (
+ targets = (

# the filler counts
The places without a target count as if word 0 were asked there.
- labels.flatten(), ignore_index=-100,
+ labels.flatten().clamp(min=0),
"""),
)

# -------------------------------------------------------------------------------------------------------------- write


class Company(nn.Module):
    """A model whose rows may read each other, in one of several ways. It begins in training mode, with dropout."""

    def __init__(self, table: Tensor, leak: str):
        super().__init__()
        self.register_buffer("table", table / table.norm(dim=1, keepdim=True))
        self.leak, self.dropout = leak, nn.Dropout(0.2)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids (B, T), mask (B, T) -> scores (B, T, V)."""
        x = self.table[ids]  # type: ignore[index]
        real = (mask[:1].expand_as(mask) if self.leak == "the first row's mask" else mask)[..., None].to(x.dtype)
        mean = (x * real).sum(dim=1, keepdim=True) / real.sum(dim=1, keepdim=True).clamp(min=1)
        if self.leak == "the batch's mean":
            mean = mean - 0.5 * mean.mean(dim=0)
        elif self.leak == "the rows above":
            mean = mean + 0.5 * (mean.cumsum(dim=0) - mean)
        elif self.leak == "the next row":
            mean = mean + 0.5 * mean.roll(1, dims=0)
        elif self.leak == "the first reads the last":
            mean = torch.cat((mean[:1] + 0.5 * mean[-1:] * (len(mean) > 1), mean[1:]))
        elif self.leak == "the second reads the last" and len(mean) > 2:
            mean = torch.cat((mean[:1], mean[1:2] + 0.5 * mean[-1:], mean[2:]))
        elif self.leak == "a whisper":
            mean = mean + 0.02 * mean.amax(dim=0)
        x = x + mean * (1 + len(ids) * 1e-7)  # a kernel adds in another order when the batch is another
        return self.dropout(x) @ self.table.T  # type: ignore[operator]


LEAKS = (
    "none", "the batch's mean", "the rows above", "none", "the next row", "the first row's mask",
    "the first reads the last", "the second reads the last", "a whisper",
)  # fmt: skip


def some_company(draw: Draw) -> tuple[Any, ...]:
    """A model, rows, and a mask that is True at the first tokens of each row, at least at one."""
    leak = LEAKS[draw.seed % len(LEAKS)]
    leak = "none" if draw.T == 1 and "mask" in leak else leak  # where all masks are equal it does not show
    model = Company(draw.normal(draw.V, draw.E), leak)
    lengths = draw.integers(1, max(2, draw.T), draw.B, 1)
    lengths[0] = draw.T
    return model, draw.tokens(draw.B, draw.T), torch.arange(draw.T) < lengths


def large_company(leak: str) -> Any:
    """A maker of three rows and a leak, with masks that differ."""

    def make(draw: Draw) -> tuple[Any, ...]:
        mask = torch.arange(6) < torch.tensor([[6], [3], [1]])
        return Company(draw.normal(draw.V, draw.E), leak), draw.tokens(3, 6), mask

    return make


OWN_ROW = Write(
    id="11.own_row",
    title="Rows that read each other",
    task="""\
Write `own_row(model, ids, mask)`: True if the scores of every row depend on that row alone, else False. `ids` (B, T)
are the rows, `mask` (B, T) is True at real tokens, and `model(ids, mask)` gives scores (B, T, V). The model comes in
training mode, with dropout; the question is about the model without it. Every row must be tested: a row may read those
above it and not those below. Beware of two things. Equal formulas may differ in the last digit when a batch has
another size, by 1e-6 say. And a row may also read the *mask* of another.""",
    why="A wrong reshape, or a norm over the wrong axis, lets rows read each other. The curve shows nothing of it.",
    difficulty=3,
    minutes=15,
    first="think of a row that stands alone: it can't read others. What should its scores be, if it never did?",
    hints=(
        "Ask the model for the whole batch, and for the first row alone, `ids[:1]` and `mask[:1]`. Compare.",
        "Loop over all rows, each a batch of one: `ids[b : b + 1]`, with its own mask. And no dropout: `model.eval()`.",
        "`torch.allclose(a, b, atol=1e-4)` is True when two tensors differ by no more than rounding.",
    ),
    explanation="""\
Each row alone against the same row in company, words and mask together: whatever it reads of others is missing when it
is alone. The tolerance is far above rounding and far below any real influence.""",
    stub="""
def own_row(model, ids, mask):
    '''True if no row's scores depend on another row.'''
    raise NotImplementedError
""",
    right=("own_row", "own_row_in_other_company"),
    inputs=some_company,
    more=tuple(large_company(leak) for leak in dict.fromkeys(LEAKS)),
    wrong=catalogue("""
# the first row alone
You test one row. If each row reads those above it, the first one reads nobody.
- for b in range(len(ids))]
+ for b in range(1)]
- together, alone
+ together[:1], alone

# rows in another order
You turn the batch round and compare. A mean over the batch is the same in any order, and you don't see it.
def wrong(model, ids, mask):
    model.eval()
    turned = model(ids.flip(0), mask.flip(0)).flip(0)
    return torch.allclose(model(ids, mask), turned, atol=1e-4)

# the last digit
You ask for equal numbers to the last digit. Another batch size adds in another order, and healthy models fail.
- torch.allclose(together, alone, atol=1e-4)
+ torch.equal(together, alone)

# dropout is on
Two calls differ by what dropout dropped, and you take it for a neighbour's influence.
- model.eval()
+ model.train()

# a tolerance too wide
A small influence is one, too. Your tolerance lets a hundredth pass.
- atol=1e-4
+ atol=0.1

# other words, the same masks
You change the words of the other rows and leave their masks. A row may read the mask of another.
def wrong(model, ids, mask):
    model.eval()
    for b in range(len(ids)):
        others = torch.arange(len(ids)) != b
        company = torch.where(others[:, None], (ids + 1) % (ids.max() + 1), ids)
        if (model(company, mask)[b] - model(ids, mask)[b]).abs().max() > 1e-4:
            return False
    return True

# the mask of the batch
You ask each row alone with the mask of the first row. It needs its own.
- mask[b : b + 1]
+ mask[:1]

# the sick are healthy
You say True where rows read each other. The name of the function says what True should mean.
- return torch
+ return not torch

# one healthy row is enough
You return at the first row that is as it should be. All must be.
def wrong(model, ids, mask):
    model.eval()
    together = model(ids, mask)
    alone = [model(ids[b : b + 1], mask[b : b + 1])[0] for b in range(len(ids))]
    return any(torch.allclose(a, t, atol=1e-4) for a, t in zip(alone, together))

# the model twice
You ask the same batch twice. That finds dropout, and no neighbours.
def wrong(model, ids, mask):
    model.eval()
    return torch.allclose(model(ids, mask), model(ids, mask), atol=1e-4)
"""),
)

EXERCISES = (EXAM, OWN_ROW)
