"""Peak memory of one contestant, in a fresh process of its own.

On a CPU: the largest resident size that the kernel notes for the process (`VmHWM` of /proc/self/status on Linux;
`ru_maxrss` elsewhere, which on Linux would include the parent's size), and beside it the size before the model was
built, libraries loaded: the difference is what training takes. On a GPU: PyTorch's own peak of allocated memory.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks.batches import full_rows, ragged
from benchmarks.contestants import CONTESTANTS, Ours, Setup, Variant
from benchmarks.work import Size

STEPS = 3  # the optimizers' states exist after the first


def apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """The result of `work(*arguments)`, computed in a fresh process."""
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        return pool.apply(work, arguments)


def resident(kind: str) -> float:
    """This process's resident size in MB: `VmRSS` is now, `VmHWM` the largest so far."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith(kind))
        return int(line.split()[1]) / 1e3
    if sys.platform == "win32":
        return float("nan")
    import resource

    unit = 1e6 if sys.platform == "darwin" else 1e3  # bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def measure(
    name: str, layout: str, size: Size, setup: Setup, variant: Variant, threads: int, checkpointed: bool = False
) -> dict[str, float]:
    """Train one contestant for three steps; to be called in a fresh process."""
    torch.set_num_threads(threads)
    shelf = full_rows(size, 1) if layout == "full" else ragged(size, 1)[layout]
    if CONTESTANTS[name].kind in ("BERT", "ModernBERT"):
        from transformers import BertForMaskedLM, ModernBertForMaskedLM  # noqa: F401  their code's size is no model's
    before = resident("VmRSS")
    runner = CONTESTANTS[name].build(size, setup, shelf, variant)
    if checkpointed and isinstance(runner, Ours):
        checkpoint_blocks(runner)
    for _ in range(STEPS):
        runner.take()
    if setup.device.type == "cuda":
        return {"peak_mb": round(torch.cuda.max_memory_allocated() / 1e6, 1), "before_mb": 0.0}
    return {"peak_mb": round(resident("VmHWM"), 1), "before_mb": round(before, 1)}


def checkpoint_blocks(runner: Ours) -> None:
    """Keep only what goes into each block, and compute the rest again in the backward pass; arXiv 1604.06174."""
    from functools import partial

    from torch.utils.checkpoint import checkpoint

    for block in runner.model.encoder.blocks:  # type: ignore[union-attr]
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)  # type: ignore[union-attr]
