"""Exercises of lesson 09, the training loop, fifth part: a checkpoint."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import nn

from llm_lab.checks.catalogue import catalogue
from llm_lab.checks.code import Mend
from llm_lab.checks.compare import kind_of
from llm_lab.checks.deck import Draw

# -------------------------------------------------------------------------------------------------------------- mend


@cache
def load_adamw() -> None:
    """Make one step: the first loads much of torch, seconds that an answer would have to pay."""
    weight = nn.Parameter(torch.zeros(1))
    weight.grad = torch.zeros(1)
    torch.optim.AdamW([weight]).step()


class Small(nn.Sequential):
    """A small model with dropout."""

    def __init__(self, E: int):
        super().__init__(nn.Linear(E, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.E = E

    def __repr__(self) -> str:
        return "a small model with dropout"


def go_on(model: Small, optimizer: Any, steps: range) -> list[float]:
    """Some steps of a run. Batch and learning rate are functions of the step's number; dropout draws."""
    losses = []
    for step in steps:
        chance = torch.Generator().manual_seed(step)
        optimizer.param_groups[0]["lr"] = 0.1 / (1 + step)
        x = torch.randn(4, model.E, generator=chance)
        loss = (model(x)[:, 0] - x[:, 0]).square().mean()
        for parameter in model.parameters():
            parameter.grad = None
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def a_run(draw: Draw) -> tuple[Any, ...]:
    """A model and an optimizer in the middle of a run, and the number of the step that comes next."""
    load_adamw()
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(draw.seed)
        model, step = Small(draw.E), draw.T
        optimizer = torch.optim.AdamW(model.parameters(), weight_decay=draw.choice(0.0, 0.1))
        go_on(model, optimizer, range(max(0, step - 2), step))
    return model, optimizer, step


def look_at_checkpoint(answer: Any, model: Small, optimizer: Any, step: int) -> dict[str, Any]:
    """The losses of a run at one go, and those after a break, twice."""
    torch.default_generator.manual_seed(7)
    torch.rand(3)  # the run is in the middle of its chance
    saved = answer(model, optimizer, step)
    facts: dict[str, Any] = {"losses at one go": go_on(model, optimizer, range(step, step + 2))}
    for name in ("after a break", "after a second break")[: 1 + step % 2]:
        torch.default_generator.manual_seed(4)  # another process: nothing is left but what was saved
        model = Small(model.E)
        optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.5)
        back = saved.restore(model, optimizer)
        facts[f"the step {name}"] = back if isinstance(back, int) else kind_of(back)
        facts[f"losses {name}"] = go_on(model, optimizer, range(step, step + 2))
    return facts


CHECKPOINT = Mend(
    id="09.checkpoint",
    title="As if nothing had happened",
    task="""\
A `Checkpoint` is made between two steps of a run: of a model with dropout, its optimizer, and the number of the step
that comes next. In another process, `restore(model, optimizer)` puts everything back into a fresh model and a fresh
optimizer of the same kind, and returns that number. From there on every loss must be the one of a run that was never
broken off, to the last digit; the checkpoint can be restored more than once. Batches and learning rates are functions
of the step, and dropout draws from PyTorch's global generator. The class below runs, and what it restores is not what
was saved. Mend it: more than one thing is wrong.""",
    why="A resumed run that is nearly the same run is another run, and nobody sees where it changed.",
    difficulty=4,
    minutes=15,
    first="""\
keep `model.state_dict()` under a name, change a weight of the model, and look at what the name holds now.""",
    hints=(
        "What does the next step depend on, beside the weights and the step's number? Section 9 has the list.",
        "`state_dict()` hands out the tensors themselves. The run goes on and changes them: `copy.deepcopy`.",
        """Optimizers have `state_dict` and `load_state_dict` as well, and the latter takes the tensors that it is
        given: hand it a copy. Dropout's chance is in `torch.get_rng_state()`; `torch.set_rng_state` puts it back.""",
    ),
    explanation="""\
Weights, the optimizer's state and the state of the generator, all as copies: what is saved must not go on learning, not
even after it was restored. The package's checkpoint holds the same, and a checksum.""",
    setup="import copy",
    stub="""
class Checkpoint:
    '''All that the next step depends on.'''

    def __init__(self, model, optimizer, step):
        self.model = model.state_dict()
        self.step = step

    def restore(self, model, optimizer):
        '''Puts everything back, and returns the number of the step that comes next.'''
        model.load_state_dict(self.model)
        return self.step
""",
    right=("Checkpoint", "CheckpointInOne"),
    inputs=a_run,
    probe=look_at_checkpoint,
    may_draw=True,
    wrong=catalogue("""
# the weights alone
Now the weights are a copy. But the first losses after the break go astray: Adam's running means start from nothing.
- self.optimizer = copy.deepcopy(optimizer.state_dict())
+
- self.random = torch.get_rng_state()
+
- optimizer.load_state_dict(copy.deepcopy(self.optimizer))
+
- torch.set_rng_state(self.random)
+

# the optimizer forgotten
Weights and chance are right. Adam's running means start from nothing: they belong to the optimizer.
- self.optimizer = copy.deepcopy(optimizer.state_dict())
+
- optimizer.load_state_dict(copy.deepcopy(self.optimizer))
+

# chance forgotten
Weights and optimizer are right. But dropout draws other places than it would have: where is its chance kept?
- self.random = torch.get_rng_state()
+
- torch.set_rng_state(self.random)
+

# a seed in place of the state
You set a seed. The run was in the middle of its random numbers, not at their start: keep the generator's state.
- torch.set_rng_state(self.random)
+ torch.manual_seed(0)

# the first seed again
You go back to the seed of the run, and dropout repeats the places of its first steps: keep the generator's state.
- self.random = torch.get_rng_state()
+ self.random = torch.initial_seed()
- torch.set_rng_state(self.random)
+ torch.manual_seed(self.random)

# only a name for the weights
The saved weights went on learning after they were saved: `state_dict()` hands out the tensors themselves.
- self.model = copy.deepcopy(model.state_dict())
+ self.model = model.state_dict()

# a name for the weights, and no chance
The optimizer is right now. The saved weights went on learning, and the chance of dropout is not kept.
- self.model = copy.deepcopy(model.state_dict())
+ self.model = model.state_dict()
- self.random = torch.get_rng_state()
+
- torch.set_rng_state(self.random)
+

# only a name for the optimizer's state
The saved running means went on after they were saved. The weights are a copy; the optimizer's state must be one, too.
- self.optimizer = copy.deepcopy(optimizer.state_dict())
+ self.optimizer = optimizer.state_dict()

# restored once
The first restore is right, the second is not: `load_state_dict` of an optimizer takes the saved tensors themselves, and
the run goes on with them.
- optimizer.load_state_dict(copy.deepcopy(self.optimizer))
+ optimizer.load_state_dict(self.optimizer)

# only names for both
Neither weights nor running means are copies: what you saved went on learning.
- self.model = copy.deepcopy(model.state_dict())
+ self.model = model.state_dict()
- self.optimizer = copy.deepcopy(optimizer.state_dict())
+ self.optimizer = optimizer.state_dict()

# one step further
You return the step after the next: one batch is never read.
- return self.step
+ return self.step + 1

# one step back
You return the step that is done. Its batch would be read a second time: give the one that comes next.
- return self.step
+ return self.step - 1

# from the start again
You return 0: the run would read its first batches again, at the learning rate of the start.
- return self.step
+ return 0

# the step not returned
`restore` returns nothing. Who goes on must know the number of the step.
- return self.step
+
"""),
)

EXERCISES = (CHECKPOINT,)
