"""A run is put back as it was, whatever the doctor did to it."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from llm_lab.train.doctor.subject import Subject


@contextlib.contextmanager
def untouched(subject: Subject) -> Iterator[None]:
    """Put back weights, gradients, modes, optimizers and random generators, whatever happens inside.

    A stream or a loop that remembers something of its own is not put back.
    """
    model = subject.model
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = [(p, None if p.grad is None else p.grad.clone()) for p in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    optimizers = [(optimizer, *_state_of(optimizer)) for optimizer in subject.optimizers]
    chance = _chance()
    try:
        yield
    finally:
        model.load_state_dict(weights, strict=False)
        for p, gradient in gradients:
            p.grad = gradient
        for module, training in modes:
            module.training = training
        for optimizer, state, groups in optimizers:
            _restore(optimizer, state, groups)
        _restore_chance(chance)


@contextlib.contextmanager
def sharpened(subject: Subject, enough: Callable[[], bool] | None = None, doublings: int = 2) -> Iterator[None]:
    """Larger matrices inside, doubled until it is enough: a fresh model guesses and attends alike, which hides much."""
    with untouched(subject), torch.no_grad():
        for _ in range(doublings):
            if enough is not None and enough():
                break
            for p in subject.model.parameters():
                if p.ndim > 1:
                    p.mul_(2)
        yield


def _state_of(optimizer: torch.optim.Optimizer) -> tuple[dict[Any, Any], list[dict[str, Any]]]:
    state = {parameter: copy.deepcopy(values) for parameter, values in optimizer.state.items()}
    return state, [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]


def _restore(optimizer: torch.optim.Optimizer, state: dict[Any, Any], groups: list[dict[str, Any]]) -> None:
    # By hand: `load_state_dict` makes new groups, and a scheduler may hold the old ones.
    optimizer.state.clear()
    optimizer.state.update(state)
    for group, saved in zip(optimizer.param_groups, groups, strict=True):
        for name in set(group) - set(saved) - {"params"}:
            del group[name]
        group.update(saved)


def _chance() -> tuple[Any, ...]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return torch.get_rng_state(), cuda, np.random.get_state(), random.getstate()


def _restore_chance(chance: tuple[Any, ...]) -> None:
    cpu, cuda, numpy_state, python_state = chance
    torch.set_rng_state(cpu)
    if cuda:
        torch.cuda.set_rng_state_all(cuda)
    np.random.set_state(numpy_state)
    random.setstate(python_state)
