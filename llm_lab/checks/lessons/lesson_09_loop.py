"""Exercises of lesson 09, the training loop, sixth part: the whole loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.code import Write
from llm_lab.checks.compare import kind_of
from llm_lab.checks.deck import Draw
from llm_lab.checks.lessons.lesson_09_checkpoint import load_adamw


class Curve(nn.Module):
    """A small model, in evaluation mode at first, that keeps in mind in which mode it was asked."""

    def __init__(self, draw: Draw):
        super().__init__()
        self.first, self.second = nn.Linear(draw.E, 4), nn.Linear(4, 1)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(draw.normal(*parameter.shape))
        self.to(draw.dtype).eval()
        self.modes: list[bool] = []

    def __repr__(self) -> str:
        return f"a model: {self.first.in_features} numbers -> 1"

    def forward(self, x: Tensor) -> Tensor:
        """x (N, E) -> (N,)."""
        self.modes.append(self.training)
        return self.second(self.first(x).tanh())[:, 0]


class SquaredError:
    """The loss of a batch (x, y)."""

    def __repr__(self) -> str:
        return "the mean squared error"

    def __call__(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """The scalar loss."""
        return (model(batch[0]) - batch[1]).square().mean()


class Batches:
    """Batches one after the other, each once: they have no length, and can't be asked by number."""

    def __init__(self, batches: list[tuple[Tensor, Tensor]]):
        self.reader = iter(batches)

    def __repr__(self) -> str:
        return "batches, one after the other"

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.reader


def a_batch(draw: Draw, model: Curve) -> tuple[Tensor, Tensor]:
    """A batch (x, y) whose slopes are short, or long."""
    x = draw.normal(5, draw.E)
    with torch.no_grad():
        return x, model(x) + draw.choice(0.01, 0.1, 1.0, 10.0) * draw.normal(5)


def a_training(draw: Draw) -> tuple[Any, ...]:
    """A model, batches of different sizes of slopes, the loss, and the plan of the run."""
    load_adamw()
    model, steps = Curve(draw), min(draw.T, 5) + 1
    warmup = draw.choice(0, 1, 2, steps // 2) if steps > 2 else draw.choice(0, 1)
    batches = [a_batch(draw, model) for _ in range(steps + draw.choice(0, 0, 3))]
    model.modes.clear()
    taken = Batches(batches) if draw.seed % 2 else batches
    return model, taken, SquaredError(), steps, draw.choice(0.003, 0.03), warmup


def no_warmup(draw: Draw) -> tuple[Any, ...]:
    """A run whose rate only falls."""
    return (*a_training(draw)[:5], 0)


def look_at_loop(answer: Any, model: Curve, batches: Any, *rest: Any) -> dict[str, Any]:
    """The losses, and the weights that are left."""
    found = answer(model, batches, *rest)
    steps, fits = rest[1], isinstance(found, list)
    facts: dict[str, Any] = {"the result": f"a list of {len(found)}" if fits else kind_of(found)}
    if facts["the result"] != f"a list of {steps}":
        return facts
    facts["the losses"] = [x.detach() if isinstance(x, Tensor) else x for x in found]
    facts["each loss is a float of Python"] = all(isinstance(x, float) for x in found)
    facts["the weights afterwards"] = torch.cat([p.detach().flatten() for p in model.parameters()])
    facts["the model trains in training mode"] = all(model.modes)
    return facts


LOOP = Write(
    id="09.loop",
    title="A loop of your own",
    task="""\
Write `train(model, batches, loss_of, steps, peak_rate, warmup)`. It returns a list of `steps` floats: the loss of each
step, before its update. The model is left as it is after the last step.

- `batches` is an iterable of at least `steps` batches, to be taken in order, one a step; it may have no length.
- `loss_of(model, batch)` returns the scalar loss, a tensor that you can call `backward` on.
- The optimizer is `torch.optim.AdamW` over `model.parameters()`, with all its defaults but the learning rate.
- At step s = 0, 1, ..., steps - 1 the rate is `peak_rate` · (s + 1) / `warmup` as long as s < `warmup`, and after that
  `peak_rate` · (`steps` - s) / (`steps` - `warmup`). `warmup` may be 0, and is less than `steps`.
- The slopes of all parameters together are clipped to norm 1.0. Each step begins with cleared slopes.
- The model trains in training mode, whatever mode it comes in: `model.train()`.""",
    why="It is the loop of your own trainer: in lesson 12 it trains your encoder on real text.",
    difficulty=5,
    minutes=30,
    first="write it with a constant rate and without clipping: five lines in a `for`. Then add one thing at a time.",
    hints=(
        """\
The order of a step: set the rate, compute the loss, clear, `backward`, clip, `optimizer.step()`, note the loss. Which
of these must not change places?""",
        """\
`for step, batch in zip(range(steps), batches)` takes the right number. `optimizer.param_groups` is a list of
dictionaries, whose key `"lr"` is the rate. `nn.utils.clip_grad_norm_(model.parameters(), 1.0)` clips in place.""",
        """\
The optimizer is made once, before the loop: it remembers its running means. The loss is noted as `loss.item()`. The
rate is an `if`: the climb while step < warmup, else the fall.""",
    ),
    explanation="""\
Twelve lines. The rate is set before the update of its step; the slopes are cleared before `backward` and clipped after
it; the loss was computed before the weights moved, so it is the loss before the update.""",
    setup="from torch import nn",
    stub="""
def train(model, batches, loss_of, steps, peak_rate, warmup):
    '''Train the model in place, and return the loss of each step before its update: a list of floats.'''
    raise NotImplementedError
""",
    right=("train", "train_with_a_scheduler", "train_by_hand"),
    inputs=a_training,
    more=(no_warmup,),
    probe=look_at_loop,
    tolerance=2e-4,
    wrong=catalogue("""
# slopes never cleared
Nothing clears the slopes, so each step moves along the sum of all slopes since the start.
-         optimizer.zero_grad()
+

# nothing moves
Your weights stay as they are. Are the slopes cleared between `backward` and the update, or does the optimizer hold the
parameters of another model?
-         optimizer.zero_grad()
+
-         optimizer.step()
+         optimizer.zero_grad()
+         optimizer.step()

# not clipped
The slopes are not clipped, or clipped when they have been used already.
-         nn.utils.clip_grad_norm_(model.parameters(), 1.0)
+

# each number clipped
You clip each number by itself. The norm of all slopes together is meant, and one factor for all.
- clip_grad_norm_
+ clip_grad_value_

# each parameter clipped
You clip each parameter by its own norm. The norm of all slopes together is meant.
- nn.utils.clip_grad_norm_(model.parameters(), 1.0)
+ [nn.utils.clip_grad_norm_([parameter], 1.0) for parameter in model.parameters()]

# always to norm 1
You bring the slopes to norm 1 in every step. Those that are shorter stay as they are.
- nn.utils.clip_grad_norm_(model.parameters(), 1.0)
+ norm = nn.utils.clip_grad_norm_(model.parameters(), 1e9)
+         [parameter.grad.div_(norm) for parameter in model.parameters()]

# plain descent
You move against the slopes themselves (SGD). AdamW gives each number its own pace.
- AdamW(
+ SGD(

# Adam without the W
Your weights do not decay: that is Adam. AdamW's default decay is 0.01.
- AdamW(
+ Adam(

# other betas
Your optimizer has other betas than (0.9, 0.999). The package takes (0.9, 0.98); the card asks for PyTorch's defaults.
- lr=peak_rate)
+ lr=peak_rate, betas=(0.9, 0.98))

# the package's optimizer
You took the package's optimizer. It has other betas, and decays matrices alone: the card asks for PyTorch's defaults.
- optimizer = torch.optim.AdamW(model.parameters(), lr=peak_rate)
+ from llm_lab.train.optimizer import build_optimizers
+
+     (optimizer,) = build_optimizers(model, "adamw", peak_rate, 0.05)

# the optimizer made anew
Your optimizer is made anew in each step, and has forgotten its running means.
- loss = loss_of(model, batch)
+ optimizer = torch.optim.AdamW(model.parameters(), lr=peak_rate * rate)
+         loss = loss_of(model, batch)

# a constant rate
Your rate is the peak all the time.
- group["lr"] = peak_rate * rate
+ group["lr"] = peak_rate

# the peak left out
Your rates are shares, without the peak.
- group["lr"] = peak_rate * rate
+ group["lr"] = rate

# the first step stands still
Your first rate is 0, so the first batch is read for nothing: the climb begins at 1 / warmup.
- (step + 1) / warmup if
+ step / warmup if

# no warm-up
There is no climb: your rate falls from the first step on.
- (step + 1) / warmup if step < warmup else (steps - step) / (steps - warmup)
+ (steps - step) / steps

# no fall
After the climb your rate stays at the peak. It shall fall in a line.
- else (steps - step) / (steps - warmup)
+ else 1.0

# the fall counts from step 0
After the climb your rate jumps down: the fall divides by the steps that are left after the warm-up.
- / (steps - warmup)
+ / steps

# the last step stands still
Your rate is 0 in the last step already, so its batch is read for nothing. 0 comes one step later, past the end.
- (steps - step) / (steps - warmup)
+ (steps - step - 1) / (steps - warmup)

# a wave in place of a line
Your rate falls along a cosine. That is a good schedule, and not the one of the card.
- else (steps - step) / (steps - warmup)
+ else (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2

# the rate one step late
You set the rate after the update, so that each step moves with the rate of the step before.
-         for group in optimizer.param_groups:
-             group["lr"] = peak_rate * rate
-         loss = loss_of(model, batch)
+         loss = loss_of(model, batch)
-         optimizer.step()
+         optimizer.step()
+         optimizer.param_groups[0]["lr"] = peak_rate * rate

# slopes and rate of two steps
Each update has the slopes of one step and the rate of the next, and the last update is missing. Does the update stand
before `backward`, or does a scheduler move on before it?
- rate = (step + 1) / warmup if step < warmup else (steps - step) / (steps - warmup)
+ after = step + 1
+         rate = (after + 1) / warmup if after < warmup else (steps - after) / (steps - warmup)

# the loss after the update
You compute the loss anew after the update. The one before it is wanted, and is there already.
- losses.append(loss.item())
+ losses.append(loss_of(model, batch).item())

# a running mean
Your list holds means over the steps so far. Each step's own loss is wanted.
- losses.append(loss.item())
+ losses.append((sum(losses[-1:]) * step + loss.item()) / (step + 1))

# tensors in place of floats
Your losses are tensors that hold on to all that was computed for them, so memory grows with each step: `.item()`.
- loss.item()
+ loss

# the last loss alone
You return one number. The loss of every step is wanted.
- return losses
+ return losses[-1]

# one batch again and again
Each step learns from the first batch: `next(iter(batches))` begins anew in each step.
- for step, batch in zip(range(steps), batches, strict=False):
+ batch = next(iter(batches))
+     for step in range(steps):

# all batches
You train as long as there are batches. There may be more than `steps`.
- zip(range(steps), batches, strict=False)
+ enumerate(batches)

# one step too few
Your list is one short.
- range(steps)
+ range(steps - 1)

# the mode left as it came
The model came in evaluation mode, and trained in it: its dropout sleeps. `model.train()` wakes it.
-     model.train()
+

# a copy is trained
The model that you were given is as it was: you trained a copy of it.
- optimizer = torch
+ model = copy.deepcopy(model)
+     optimizer = torch
"""),
)

EXERCISES = (LOOP,)
