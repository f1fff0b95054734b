"""Exercises of lesson 09, the training loop, third part: a batch in parts."""

from __future__ import annotations

from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.code import Mend
from llm_lab.checks.deck import Draw

# -------------------------------------------------------------------------------------------------------------- mend


class Guesser(nn.Module):
    """A table of logits that keeps an eye on how it is used."""

    def __init__(self, weights: Tensor, bias: Tensor):
        super().__init__()
        self.weights, self.bias = nn.Parameter(weights), nn.Parameter(bias)
        self.calls = self.rows = self.kept = 0  # rows: the most of a call; kept: the most calls that waited for slopes
        self.open: WeakValueDictionary[int, Any] = WeakValueDictionary()  # hooks that wait; they die with their graph

    def __repr__(self) -> str:
        return f"a model: {self.weights.shape[0]} numbers -> the logits of {self.weights.shape[1]} words"

    def forward(self, x: Tensor) -> Tensor:
        """x (N, E) -> logits (N, V)."""
        self.rows, self.kept, number = max(self.rows, len(x)), max(self.kept, len(self.open)), self.calls
        logits = x @ self.weights + self.bias

        def arrived(slope: Tensor) -> None:
            self.open.pop(number, None)

        if logits.requires_grad:
            self.open[number] = arrived
            logits.register_hook(arrived)
        self.calls += 1
        return logits


def model_and_parts(draw: Draw) -> tuple[Any, ...]:
    """A model with old slopes, and parts of a batch: vectors (N, E), and labels (N,) that are -100 where nothing is
    asked.
    """
    E, V = draw.E, draw.V
    model = Guesser(draw.normal(E, V).contiguous(), draw.normal(V).contiguous())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    parts = []
    for number in range(1 + draw.B):
        labels = draw.integers(0, V, draw.T + number)
        share = draw.choice(0.0, 0.3, 0.9) if number else 0.7
        asked = draw.flags(draw.T + number, share=share)
        asked[0] = asked[0] | (number == 0)
        parts.append((draw.normal(draw.T + number, E), labels.masked_fill(~asked, -100)))
    return model, parts


def look_at_slopes(answer: Any, model: Guesser, parts: list[Any]) -> dict[str, Any]:
    """The loss, the slopes that are left, and whether one part was read after the other."""
    found = answer(model, parts)
    facts: dict[str, Any] = {"the loss": found}
    facts["slopes are left in `.grad`"] = all(parameter.grad is not None for parameter in model.parameters())
    if not facts["slopes are left in `.grad`"]:
        return facts
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None  # seen before
        facts[f"the slopes of the {name}"] = parameter.grad.clone()
    facts["one part is read at a time"] = model.rows <= max(len(x) for x, _ in parts)
    facts["a part's slopes are made before the next is read"] = model.kept < 2  # one may be empty, and left out
    return facts


ACCUMULATE = Mend(
    id="09.accumulate",
    title="Four small batches, one large one",
    task="""\
A batch that does not fit into memory comes in `parts`: pairs of `x` (N, E) and labels (N,), which are -100 where
nothing is asked. `accumulate(model, parts)` shall leave in `.grad` the slopes of the mean loss over *all* targets of
the batch, and return that mean, a number. It reads one part at a time. The code below runs, and its slopes are not
those of the whole batch. Mend it. A part may have no target at all; the batch has one at least.""",
    why="This fault was in widely used libraries until 2024. It makes no error, only a slightly different training.",
    difficulty=3,
    minutes=12,
    first="two parts, with 30 targets of 2 nats and 10 targets of 4: what does the code return, and what is right?",
    hints=(
        "`F.cross_entropy` divides by the targets of *its* part. A target in a part with few of them counts too much.",
        'Ask it for the sum, `reduction="sum"`. By which number is each sum to be divided?',
        "By the number of targets of the whole batch, so count before the loop: `(labels != -100).sum()` of each part.",
    ),
    explanation="""\
Each part adds its sum divided by the targets of the whole batch. A part without targets adds 0; its mean would have
been 0/0, NaN.""",
    setup="import torch.nn.functional as F",
    stub="""
def accumulate(model, parts):
    '''The mean loss over all targets of all parts; its slopes are left in `.grad`.'''
    model.zero_grad()
    total = 0.0
    for x, labels in parts:
        loss = F.cross_entropy(model(x), labels) / len(parts)
        loss.backward()
        total += loss.item()
    return total
""",
    right=("accumulate", "accumulate_by_shares", "accumulate_then_divide"),
    inputs=model_and_parts,
    probe=look_at_slopes,
    wrong=catalogue("""
# empty parts skipped
Nothing is NaN any more, but it is still a mean of means: a target in a part with few of them counts too much.
def wrong(model, parts):
    model.zero_grad()
    total = 0.0
    for x, labels in parts:
        if (labels >= 0).any():
            loss = F.cross_entropy(model(x), labels) / len(parts)
            loss.backward()
            total += loss.item()
    return total

# divided by the parts that ask
You leave out the parts without targets, and divide by the number of the others. That is still a mean of means.
def wrong(model, parts):
    model.zero_grad()
    parts = [part for part in parts if (part[1] >= 0).any()]
    total = 0.0
    for x, labels in parts:
        loss = F.cross_entropy(model(x), labels) / len(parts)
        loss.backward()
        total += loss.item()
    return total

# not divided at all
The sums are added up and not divided: slopes and loss grow with the size of the batch.
-  / count
+

# divided by the parts
You divide the sums by the number of parts. A mean over targets divides by targets.
-  / count
+  / len(parts)

# all rows counted
You divide by all rows. Those with the label -100 are not asked.
- (labels != -100).sum().item()
+ len(labels)

# word 0 not counted
You count labels above 0. Word 0 is a word, too: only -100 says that nothing is asked.
- labels != -100
+ labels > 0

# divided by the part
You divide each sum by the targets of its own part: so the means come back, and are not even divided by the parts.
-  / count
+  / (labels != -100).sum().clamp(min=1)

# only the last part
The slopes are cleared for each part, so that those of the last one remain.
- loss.backward()
+ model.zero_grad()
+         loss.backward()

# old slopes left
The slopes of the step before are still in `.grad`: they must be cleared once, before the first part.
- model.zero_grad()
+

# the loss of the last part
The slopes are right, but you return the loss of the last part alone.
- total += loss.item()
+ total = loss.item()

# the sum returned
The slopes are right, but you return the sum over the targets. Their mean is wanted.
- return total
+ return total * count

# cleared at the end
Your loss is right, and `.grad` is empty: you cleared it after the last part. The optimizer would find nothing.
- return total
+ model.zero_grad()
+     return total

# the loss divided, the slopes not
The loss is right, but the slopes are those of the sum: what you divide is only the number that you return.
- reduction="sum") / count
+ reduction="sum")
- return total
+ return total / count

# weighed by rows
You weigh each part by its rows. Rows that are not asked do not count: weigh by targets.
def wrong(model, parts):
    model.zero_grad()
    total, rows = 0.0, sum(len(labels) for _, labels in parts)
    for x, labels in parts:
        if (labels >= 0).any():
            loss = F.cross_entropy(model(x), labels) * len(labels) / rows
            loss.backward()
            total += loss.item()
    return total

# -100 made a word
You made a word of -100, and score it. `F.cross_entropy` leaves out -100 by itself.
- F.cross_entropy(model(x), labels,
+ F.cross_entropy(model(x), labels.clamp(min=0),

# all parts at once
The numbers are right, but you put all parts together. That batch does not fit into memory: read one at a time.
def wrong(model, parts):
    return accumulate(model, [tuple(map(torch.cat, zip(*parts)))])

# backward at the end
The numbers are right, but you call `backward` once, at the end. Until then all that every part computed is kept, and
that is the memory of the large batch.
def wrong(model, parts):
    model.zero_grad()
    count = sum((labels != -100).sum().item() for _, labels in parts)
    loss = sum(F.cross_entropy(model(x), labels, reduction="sum") for x, labels in parts) / count
    loss.backward()
    return loss.item()

# slopes divided once more
The loss is right, but the slopes are divided by the number of parts once more.
- loss.backward()
+ (loss / len(parts)).backward()
"""),
)

EXERCISES = (ACCUMULATE,)
