"""Several processes as one: who am I, how many are we, and sums over all of us.

`torchrun --nproc-per-node N -m llm_lab pretrain ...` starts N processes with the variables that `join` reads. Each
computes the gradients of its share of the batch; summed, they are the gradient of the whole. One process alone needs
nothing of this: every function is then the identity.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import nn


def join() -> tuple[int, int]:
    """Meet the other processes of a `torchrun` start. Returns (rank, world_size); (0, 1) when alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return 0, 1
    if not dist.is_initialized():
        on_gpu = torch.cuda.is_available()
        if on_gpu:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl" if on_gpu else "gloo")
    return dist.get_rank(), dist.get_world_size()


def leave() -> None:
    """Part from the others, after the last sum."""
    if dist.is_initialized():
        dist.destroy_process_group()


def is_first() -> bool:
    """True in the process that writes files and prints."""
    return not dist.is_initialized() or dist.get_rank() == 0


def wait_for_all() -> None:
    """Return when every process has come here."""
    if dist.is_initialized():
        dist.barrier()


def total(value: float, device: torch.device) -> float:
    """The sum of a number over all processes."""
    if not dist.is_initialized():
        return value
    summed = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(summed)
    return summed.item()


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add up the gradients of all processes, in one message."""
    if not dist.is_initialized():
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, summed in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(summed.view_as(gradient))
