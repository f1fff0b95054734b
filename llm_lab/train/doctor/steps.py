"""Does the loop do what its parts promise? Its gradients and learning rates, seen when the optimizer steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_lab.train.doctor.subject import Finding, Subject, backward, dropouts, peak_of, to_model, without_dropout
from llm_lab.train.doctor.untouched import untouched

WATCHED = 4  # steps
PARTS = (2, 4, 8)  # into which a loop may cut a batch
ALIKE, TWIN = 0.999, 0.9995  # cosines of gradients


@dataclass
class Watch:
    """What was seen at each step: gradients as one vector, by the loop and by the book; learning rates; modes."""

    used: list[Tensor] = field(default_factory=list)
    book: list[Tensor] = field(default_factory=list)
    of_parts: list[dict[int, Tensor]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    training: list[bool] = field(default_factory=list)
    stuck: list[int] = field(default_factory=list)


def examine_steps(subject: Subject) -> list[Finding]:
    """What `update` really does in its first steps."""
    if subject.update is None:
        return []
    watch = _watched(subject, ())
    if watch.stuck:
        return [Finding("weights don't move", f"step {watch.stuck[0]} leaves every weight as it was.")]
    if len(watch.used) != WATCHED:
        sentence = f"{WATCHED} calls of update made {len(watch.used)} steps of the optimizer."
        return [Finding("steps miscounted", sentence)]
    found = _gradients(subject, watch) + _rates(subject, watch)
    if not all(watch.training) and dropouts(subject.model):
        found.append(Finding("training in evaluation mode", "dropout is off in training: call model.train()."))
    return found


def _watched(subject: Subject, parts: Sequence[int]) -> Watch:
    """The first steps of the loop, without dropout, and what their gradients should be at the same weights."""
    assert subject.update is not None
    watch, model = Watch(), subject.model
    parameters = [p for p in model.parameters() if p.requires_grad]

    def note(optimizer: Any, *_: Any) -> None:
        group = optimizer.param_groups[0]
        watch.used.append(_gradient(parameters))
        watch.rates.append(group["lr"] / peak)
        watch.training.append(model.training)

    peak = peak_of(subject.optimizers[0].param_groups[0])
    with untouched(subject), without_dropout(model):
        hook = subject.optimizers[0].register_step_pre_hook(note)
        try:
            torch.manual_seed(len(parts))  # another one the second time: what changes with it is no gradient to trust
            model.zero_grad(set_to_none=True)
            for step in range(WATCHED):
                _by_the_book(subject, step, parts, parameters, watch)
                before = [p.detach().clone() for p in parameters]
                subject.update(step)
                moved = any(not torch.equal(a, b) for a, b in zip(before, parameters, strict=True))
                if not moved and subject.schedule(step) and watch.book[-1].any():
                    watch.stuck.append(step)
        finally:
            hook.remove()
    return watch


def _by_the_book(
    subject: Subject, step: int, parts: Sequence[int], parameters: list[nn.Parameter], watch: Watch
) -> None:
    """Note the gradient that the step should use; what the loop left in `grad` stays there."""
    model = subject.model.train()
    left = [p.grad for p in parameters]
    batch = to_model(subject, subject.stream.batch(step))
    backward(model, batch)
    watch.book.append(_gradient(parameters))
    watch.of_parts.append({})
    for n in (n for n in parts if len(batch.inputs) % n == 0):
        backward(model, batch, n)
        watch.of_parts[-1][n] = _gradient(parameters)
    for p, gradient in zip(parameters, left, strict=True):
        p.grad = gradient


def _gradient(parameters: Sequence[nn.Parameter]) -> Tensor:
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])


def cosine(a: Tensor, b: Tensor) -> float:
    """The cosine of the angle between two vectors; two zeros are alike."""
    if not a.any() and not b.any():
        return 1.0
    return F.cosine_similarity(a.double(), b.double(), dim=0).item()


def least_cosine(some: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """The smallest cosine of pairs of vectors."""
    return min(cosine(a, b) for a, b in zip(some, others, strict=True))


def _gradients(subject: Subject, watch: Watch) -> list[Finding]:
    worst = least_cosine(watch.used, watch.book)
    if worst < ALIKE:
        return _wrong_gradient(subject, watch, worst)
    if max((u.norm() / b.norm().clamp(min=1e-12)).item() for u, b in zip(watch.used, watch.book, strict=True)) > 1.5:
        sentence = (
            "the gradient is a multiple of the mean loss's, so clipping acts at every step: divide by the targets."
        )
        return [Finding("gradient too large", sentence)]
    return []


def _wrong_gradient(subject: Subject, watch: Watch, worst: float) -> list[Finding]:
    """Which known mistake gives these gradients."""
    again = _watched(subject, PARTS)
    if cosine(watch.book[0], again.book[0]) < ALIKE:
        return []  # the model draws random numbers that the doctor can't switch off: nothing can be compared
    shared = set.intersection(*(set(parts) for parts in again.of_parts))
    for n in sorted(shared):
        if least_cosine(again.used, [parts[n] for parts in again.of_parts]) > TWIN:
            sentence = f"each of {n} parts is averaged by itself, then the means: divide sums by all targets instead."
            return [Finding("mean of means", sentence)]
    kept = all(spanned(watch.used[s], [watch.used[s - 1], watch.book[s]]) for s in range(1, WATCHED))
    if cosine(watch.used[0], watch.book[0]) > ALIKE and kept:
        sentence = "each step still holds the gradients of the steps before: call zero_grad after every step."
        return [Finding("gradients not cleared", sentence)]
    sentence = (
        f"the gradient at the optimizer's step has a cosine of {worst:.3f} with that of the batch's mean loss: the "
        "loop uses another batch, part of it, or another loss."
    )
    return [Finding("wrong gradient", sentence)]


def spanned(vector: Tensor, basis: Sequence[Tensor]) -> bool:
    """True if the vector is nearly a mixture of the basis, whatever clipping did to their sizes."""
    matrix, vector = torch.stack(list(basis), dim=1).double(), vector.double()
    rest = vector - matrix @ torch.linalg.lstsq(matrix, vector[:, None]).solution[:, 0]
    return bool(rest.norm() < 0.05 * vector.norm())


def _rates(subject: Subject, watch: Watch) -> list[Finding]:
    wanted = [subject.schedule(step) for step in range(WATCHED)]
    if np.allclose(watch.rates, wanted, rtol=1e-3, atol=1e-6):
        return []
    moves = np.diff(wanted)
    for n in PARTS:
        if np.allclose(np.diff(watch.rates), n * moves, rtol=0.05, atol=1e-6) and moves.any():
            sentence = (
                f"the learning rate moves {n} times a step: step the scheduler once an update, not per micro-batch."
            )
            return [Finding("schedule runs ahead", sentence)]
    sentence = f"the first learning rates are {_rounded(watch.rates)} of the peak, the schedule says {_rounded(wanted)}"
    return [Finding("schedule not followed", f"{sentence}.")]


def _rounded(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)
