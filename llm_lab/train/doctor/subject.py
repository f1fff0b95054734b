"""What the doctor examines, what it says, and what its examinations share."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_lab.train.loop import LossSum, Stream

IGNORED = -100  # a target that counts for nothing


class Finding(NamedTuple):
    """What is wrong: a short name, and a sentence that says what was seen and what to change."""

    name: str
    sentence: str


@dataclass(frozen=True)
class Subject:
    """A training run as the doctor sees it. What is None isn't examined.

    `model(inputs, mask, positions)` gives logits (B, K, V); `stream.batch(s)` has inputs (B, T), positions and targets
    (B, K), mask (B, T) or None; `loss_sum(model, batch)` is a sum over the targets, in nats. `schedule(s)` is the share
    of the peak learning rate at step s. `update(s)` is one whole step of the loop, number s; `evaluate()` its held-out
    loss. `stream_of(rank, world_size)` are the streams of several processes, `resumed(s)` the stream of a run taken up
    at step s.
    """

    model: nn.Module
    stream: Stream
    loss_sum: LossSum
    optimizers: Sequence[torch.optim.Optimizer]
    schedule: Callable[[int], float]
    steps: int
    vocabulary_size: int
    mask_id: int
    pad_id: int
    special_ids: Sequence[int]
    update: Callable[[int], Any] | None = None
    evaluate: Callable[[], float] | None = None
    stream_of: Callable[[int, int], Stream] | None = None
    resumed: Callable[[int], Stream] | None = None


def logits_of(model: nn.Module, batch: Any) -> Tensor:
    return model(batch.inputs, batch.mask, batch.positions).float()


def to_model(subject: Subject, batch: Any) -> Any:
    return batch.to(next(subject.model.parameters()).device)


def reference_sum(subject: Subject, batch: Any) -> Tensor:
    logits = logits_of(subject.model, batch)
    return F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORED, reduction="sum")


def backward(subject: Subject, step: int) -> float:
    """Fresh gradients of the mean loss of a batch, by the book. Returns the mean loss."""
    for p in subject.model.parameters():
        p.grad = None
    batch = to_model(subject, subject.stream.batch(step))
    loss = reference_sum(subject, batch) / max(1, batch.num_targets)
    if loss.requires_grad:
        loss.backward()
    return loss.item()


def dropouts(model: nn.Module) -> list[nn.Dropout]:
    return [module for module in model.modules() if isinstance(module, nn.Dropout) and module.p > 0]


@contextlib.contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    before = [(module, module.p) for module in dropouts(model)]
    for module, _ in before:
        module.p = 0.0
    try:
        yield
    finally:
        for module, p in before:
            module.p = p


@contextlib.contextmanager
def untouched(subject: Subject) -> Iterator[None]:
    """Put back the weights, gradients, modes, optimizer states and random generators, whatever happens inside."""
    model = subject.model
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = [(p, None if p.grad is None else p.grad.clone()) for p in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    states = [copy.deepcopy(optimizer.state_dict()) for optimizer in subject.optimizers]
    numbers, numpy_state = torch.get_rng_state(), np.random.get_state()
    try:
        yield
    finally:
        model.load_state_dict(weights, strict=False)
        for p, gradient in gradients:
            p.grad = gradient
        for module, training in modes:
            module.training = training
        for optimizer, state in zip(subject.optimizers, states, strict=True):
            optimizer.load_state_dict(state)
        torch.set_rng_state(numbers)
        np.random.set_state(numpy_state)
