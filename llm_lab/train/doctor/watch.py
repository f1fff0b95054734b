"""The first steps of a loop, watched: what its optimizers get, and what they should get."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from llm_lab.train.doctor.subject import (
    Subject,
    backward,
    dropouts,
    peak_of,
    to_model,
    without_dropout,
)
from llm_lab.train.doctor.untouched import untouched

WATCHED = 4  # steps
PARTS = (2, 4, 8)  # into which a loop may cut a batch
NEAR = (-1, 1)  # batches beside the right one that a loop may take


@dataclass
class Watch:
    """What was seen at each step. Gradients are one vector each: `used` by the loop, `book` of the batch's mean loss,
    `others` of what a loop may take in its stead, by name. `rates` are lists, one a group of parameters.
    """

    used: list[Tensor] = field(default_factory=list)
    book: list[Tensor] = field(default_factory=list)
    others: list[dict[str, Tensor]] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    records: list[Any] = field(default_factory=list)
    rates: list[list[float]] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    training: list[bool] = field(default_factory=list)
    stuck: list[int] = field(default_factory=list)
    remembered: float | None = None
    evaluated: bool = False


def watched(subject: Subject, parts: Sequence[int]) -> Watch:
    """The first steps of the loop, after an evaluation, without dropout; with parts, other gradients are noted too."""
    assert subject.update is not None
    watch, model = Watch(steps=[0] * len(subject.optimizers)), subject.model
    parameters = [p for p in model.parameters() if p.requires_grad]
    dropping = [module for module, _ in dropouts(model)]
    with untouched(subject), without_dropout(model):
        hooks = _listeners(subject, watch, parameters)
        try:
            model.train()
            if subject.evaluate is not None:
                subject.evaluate()
                watch.evaluated = True
            torch.manual_seed(len(parts))  # another one the second time: what changes with it is no gradient to trust
            model.zero_grad(set_to_none=True)
            for step in range(WATCHED):
                _by_the_book(subject, step, parts, parameters, watch)
                before = _flat(parameters)
                with _modes_noted(dropping, watch):
                    watch.records.append(subject.update(step))
                if torch.equal(before, _flat(parameters)) and subject.schedule(step) and watch.book[-1].any():
                    watch.stuck.append(step)
            watch.remembered = _remembered(subject)
        finally:
            for hook in hooks:
                hook.remove()
    return watch


@contextlib.contextmanager
def _modes_noted(dropping: Sequence[nn.Module], watch: Watch) -> Iterator[None]:
    """Inside, each forward of a dropout notes the mode that it is in."""
    hooks = [m.register_forward_pre_hook(lambda m, _: watch.training.append(m.training)) for m in dropping]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _listeners(subject: Subject, watch: Watch, parameters: list[nn.Parameter]) -> list[Any]:
    """Hooks that note gradients and rates when an optimizer steps."""
    peaks = [[peak_of(group) for group in optimizer.param_groups] for optimizer in subject.optimizers]
    places = {}
    for number, optimizer in enumerate(subject.optimizers):
        for group, _ in enumerate(optimizer.param_groups):
            places[number, group] = len(watch.rates)
            watch.rates.append([])

    def listener(number: int) -> Callable[..., None]:
        def note(optimizer: Any, *_: Any) -> None:
            watch.steps[number] += 1
            for group, peak in enumerate(peaks[number]):
                watch.rates[places[number, group]].append(optimizer.param_groups[group]["lr"] / (peak or 1.0))
            if number == 0:
                watch.used.append(gradient_of(parameters))

        return note

    return [o.register_step_pre_hook(listener(number)) for number, o in enumerate(subject.optimizers)]


def _remembered(subject: Subject) -> float | None:
    """The steps that the optimizers count in their states, the fewest."""
    counts = [float(s["step"]) for o in subject.optimizers for s in o.state.values() if "step" in s]
    return min(counts) if counts else None


def _by_the_book(
    subject: Subject, step: int, parts: Sequence[int], parameters: list[nn.Parameter], watch: Watch
) -> None:
    """Note the gradient that the step should use; what the loop left in `grad`, and its modes, stay."""
    modes = [(module, module.training) for module in subject.model.modules()]
    left = [p.grad for p in parameters]
    model = subject.model.train()
    batch = to_model(subject, subject.stream.batch(step))
    watch.losses.append(backward(model, batch))
    watch.book.append(gradient_of(parameters))
    watch.weights.append(_flat(parameters))
    watch.others.append(_others(subject, step, batch, parameters) if parts else {})
    for p, gradient in zip(parameters, left, strict=True):
        p.grad = gradient
    for module, training in modes:
        module.training = training


def _others(subject: Subject, step: int, batch: Any, parameters: list[nn.Parameter]) -> dict[str, Tensor]:
    """Gradients of what a loop may take for the batch: parts of it, means of means, neighbours."""
    model, rows, others = subject.model, len(batch.inputs), {}
    for n in (n for n in (*PARTS, rows) if rows % n == 0 and n <= rows):
        backward(model, batch, n)
        others[f"means {n}"] = gradient_of(parameters)
    for n in (n for n in PARTS if rows % n == 0 and n <= rows):
        pieces = batch.split(n)
        for name, piece in (("first", pieces[0]), ("last", pieces[-1])):
            backward(model, piece)
            others[f"the {name} of {n} parts"] = gradient_of(parameters)
    for number in {0, *(step + near for near in NEAR), 2 * step} - {step}:
        if number >= 0:
            backward(model, to_model(subject, subject.stream.batch(number)))
            others[f"batch {number - step:+d}"] = gradient_of(parameters)
    return others


def _flat(parameters: Sequence[nn.Parameter]) -> Tensor:
    return torch.cat([p.detach().flatten() for p in parameters])


def gradient_of(parameters: Sequence[nn.Parameter]) -> Tensor:
    """All gradients as one vector, zeros where there is none."""
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
