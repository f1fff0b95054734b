"""Does every weight learn: a true gradient for each, and one optimizer that moves it, with settings that make sense?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import nn

from llm_lab.train.doctor.learning import move
from llm_lab.train.doctor.subject import (
    Finding,
    Subject,
    backward,
    dropouts,
    first_batch,
    mean_loss,
    peak_of,
)
from llm_lab.train.doctor.untouched import untouched

NUDGE, DRAWS = 2e-3, 3  # how far weights are moved to measure a slope, and how often
OFF = 0.3  # of a gradient's length
MOST_DROPPED = 0.7
MOST_SHRUNK = 8.0  # powers of e by which weight decay shrinks a weight over the run


def examine_parameters(subject: Subject) -> list[Finding]:
    """A gradient for every parameter, and an optimizer that moves it."""
    found, model = [], subject.model.train()
    batch = first_batch(subject)
    backward(model, batch)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if any(p.grad is not None and not torch.isfinite(p.grad).all() for p in trained.values()):
        return [Finding("gradient not a number", "the first batch gives a gradient of NaN or infinity.")]
    silent = _silent(trained)
    if silent:  # behind matrices that start at zero, gradients come after a step or two
        with untouched(subject):
            for _ in range(3):
                move(subject, batch, 1.0)
            backward(model, batch)
            silent = [name for name in silent if name in _silent(trained)]
    if silent:
        sentence = f"no gradient reaches {listed(silent)}: it is cut off by detach, no_grad or a part that isn't used."
        found.append(Finding("parameters without gradient", sentence))
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    if frozen:
        found.append(Finding("frozen parameters", f"{listed(frozen)} has requires_grad False and stays as it is."))
    found += _held(subject, trained) + _settings(subject)
    return found or _slopes(subject, trained)


def _silent(parameters: dict[str, nn.Parameter]) -> list[str]:
    return [name for name, p in parameters.items() if p.grad is None or not p.grad.any()]


def _held(subject: Subject, trained: dict[str, nn.Parameter]) -> list[Finding]:
    """Each parameter in one group of one optimizer, once."""
    times = Counter(id(p) for o in subject.optimizers for group in o.param_groups for p in group["params"])
    found = []
    left_out = [name for name, p in trained.items() if not times[id(p)]]
    if left_out:
        sentence = f"{listed(left_out)} will never move: build the optimizer after the model is complete."
        found.append(Finding("parameters without optimizer", sentence))
    twice = [name for name, p in trained.items() if times[id(p)] > 1]
    if twice:
        sentence = f"{listed(twice)} belong to two optimizers or groups and move twice a step: give each to one."
        found.append(Finding("parameters in two optimizers", sentence))
    for table in {m.weight for m in subject.model.modules() if isinstance(m, nn.Embedding)}:
        for name, p in trained.items():
            if p is not table and p.shape == table.shape and torch.equal(p, table) and p.std() > 0:
                sentence = f"{name} starts as a copy of an embedding: assign the parameter itself to tie them."
                found.append(Finding("copied, not tied", sentence))
    return found


def _settings(subject: Subject) -> list[Finding]:
    """Numbers that are never meant."""
    said = []
    half = [name for name, p in subject.model.named_parameters() if p.dtype in (torch.float16, torch.bfloat16)]
    if half:
        said.append(("weights in half precision", f"{listed(half)}: small updates are rounded away. Use autocast."))
    dropped = [getattr(module, name) for module, name in dropouts(subject.model)]
    if max(dropped, default=0) > MOST_DROPPED:
        said.append(("dropout too high", f"{max(dropped):.0%} of some activations are dropped: p is not what is kept."))
    total = sum(max(0.0, subject.schedule(step)) for step in range(subject.steps))
    for group in (group for optimizer in subject.optimizers for group in optimizer.param_groups):
        first, second = group.get("betas", (0.0, 1.0))
        if first > second or second < 0.5:
            said.append(("betas swapped", f"the optimizer's betas are {first:g}, {second:g}; 0.9, 0.98 are usual."))
        if group.get("eps", 0) > 1e-4:
            said.append(("epsilon too large", f"eps is {group['eps']:g} and slows small gradients; 1e-8 is usual."))
        if group.get("maximize"):
            said.append(("optimizer climbs", "maximize=True makes the loss larger."))
        if peak_of(group) <= 0:
            said.append(("learning rate zero", "a group of parameters has a learning rate of 0."))
        shrunk = total * peak_of(group) * group.get("weight_decay", 0)
        if shrunk > MOST_SHRUNK:
            sentence = f"a weight decay of {group['weight_decay']:g} shrinks a weight e^{shrunk:.0f} times in the run."
            said.append(("weight decay too large", sentence))
    return [Finding(*item) for item in dict(said).items()]


def _slopes(subject: Subject, trained: dict[str, nn.Parameter]) -> list[Finding]:
    """Each gradient against what the loss does when its parameter is nudged both ways, in evaluation mode."""
    model, batch = subject.model.train(False), first_batch(subject)
    try:
        backward(model, batch)
    except RuntimeError:
        return []  # an LSTM on a GPU has no gradient in evaluation mode
    draw, wrong = torch.Generator().manual_seed(0), []
    for name, p in trained.items():
        if p.grad is None or p.dtype != torch.float32 or p.grad.norm() < 1e-3:
            continue
        errors = []
        for _ in range(DRAWS):
            way = torch.randn(p.shape, generator=draw).to(p.device)
            errors.append(_slope(model, batch, p, way) - (p.grad * way).sum().item())
            if abs(errors[-1]) < OFF * p.grad.norm().item():
                break
        else:
            wrong.append(name)
    if not wrong:
        return []
    sentence = (
        f"nudged by hand, {listed(wrong)} changes the loss otherwise than its gradient says: part of the gradient is "
        "cut off, by detach, no_grad, .data or a hook."
    )
    return [Finding("gradient cut off", sentence)]


@torch.no_grad()
def _slope(model: nn.Module, batch: object, p: nn.Parameter, way: torch.Tensor) -> float:
    before = p.detach().clone()
    losses = [mean_loss(model, batch) for sign in (1, -1) if p.copy_(before + sign * NUDGE * way) is not None]
    p.copy_(before)
    return (losses[0] - losses[1]) / (2 * NUDGE)


def listed(names: Sequence[str]) -> str:
    """The first three names, and how many more there are.

    >>> listed(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
