"""A run comes back bit for bit, whatever is done to it inside, and after an error too."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from llm_lab.train.doctor.untouched import untouched
from llm_lab.ward import TrainingRun
from tests.train.doctor.runs import SMALL


def state_of(subject):
    """Everything that an examination could change, as one list of comparable things."""
    model = subject.model
    state = [(name, value.clone()) for name, value in model.state_dict().items()]
    state += [(name, None if p.grad is None else p.grad.clone()) for name, p in model.named_parameters()]
    state += [module.training for module in model.modules()]
    state += [getattr(module, "p", None) for module in model.modules()]
    for optimizer in subject.optimizers:
        state += [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
        for values in optimizer.state.values():
            state += [(k, v.clone() if isinstance(v, torch.Tensor) else v) for k, v in values.items()]
        state.append(len(optimizer._optimizer_step_pre_hooks))
    chance = (torch.get_rng_state(), torch.from_numpy(np.random.get_state()[1].astype(np.int64)), random.getstate())
    return [*state, *chance]


def equal(a, b):
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and bool(a == b)


def begun(steps=3):
    """A subject whose optimizers have states and whose model has gradients; modes differ among its modules."""
    run = TrainingRun(**SMALL)
    subject = run.subject()
    for step in range(steps):
        run.update(step)
    run.model.encoder.blocks[0].eval()
    return run, subject


def spoil(run):
    """Change whatever there is."""
    for step in range(5, 8):
        run.update(step)
    run.model.eval()
    with torch.no_grad():
        for p in run.model.parameters():
            p.add_(1)
            p.grad = None
    for optimizer in run.optimizers:
        optimizer.param_groups[0]["new"] = 1
        optimizer.param_groups[0]["weight_decay"] = 9.0
        optimizer.state.clear()
    torch.manual_seed(123)
    np.random.seed(123)
    random.seed(123)


@pytest.mark.parametrize("steps", [0, 3])
def test_everything_is_put_back(steps):
    run, subject = begun(steps)
    before, groups = state_of(subject), [optimizer.param_groups[0] for optimizer in run.optimizers]
    with untouched(subject):
        spoil(run)
        assert not equal(before, state_of(subject))
    assert equal(before, state_of(subject))
    assert all(optimizer.param_groups[0] is group for optimizer, group in zip(run.optimizers, groups, strict=True))


def test_after_an_error_too():
    run, subject = begun()
    before = state_of(subject)
    with pytest.raises(RuntimeError, match="inside"), untouched(subject):
        spoil(run)
        raise RuntimeError("inside")
    assert equal(before, state_of(subject))


def test_the_run_goes_on_as_if_nothing_had_been():
    (run, subject), (twin, _) = begun(), begun()
    with untouched(subject):
        spoil(run)
    torch.manual_seed(0)
    here = [run.update(step) for step in range(3, 6)]
    torch.manual_seed(0)
    assert here == [twin.update(step) for step in range(3, 6)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_the_random_numbers_of_a_gpu_are_put_back():
    _, subject = begun()
    before = torch.cuda.get_rng_state()
    with untouched(subject):
        torch.rand(3, device="cuda")
    assert torch.equal(before, torch.cuda.get_rng_state())
