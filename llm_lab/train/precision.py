"""Which device, and which number format is fast on it: asked of the machine, not guessed from its name."""

from __future__ import annotations

import contextlib
import time
from functools import lru_cache

import torch

FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str) -> torch.device:
    """`auto` takes a CUDA GPU, else Apple's MPS (untested here), else the CPU. Raises ValueError for one that is
    absent.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, present in available.items() if present)
    if not available[name]:
        raise ValueError(f"this machine has no {name} device that PyTorch can use: choose --device auto or cpu.")
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> str:
    """`auto` becomes the fastest safe format of the device: fp32, bf16 or fp16.

    CUDA: bf16 from compute capability 8.0 on, fp16 on 7.x, which only emulates bf16 (so `is_bf16_supported()`
    misleads). MPS: fp32. CPU: bf16 if its matrix product is measured to be faster, which takes AMX or AVX512-BF16
    instructions.
    """
    if name != "auto":
        if name == "fp16" and device.type == "cpu":
            raise ValueError("fp16 needs a GPU: choose --precision auto, fp32 or bf16 on a CPU.")
        return name
    if device.type == "cuda":
        major = torch.cuda.get_device_capability(device)[0]
        return "bf16" if major >= 8 else "fp16" if major == 7 else "fp32"
    return "bf16" if device.type == "cpu" and cpu_prefers_bf16() else "fp32"


@lru_cache(maxsize=1)
def cpu_prefers_bf16() -> bool:
    """True if this CPU multiplies bf16 matrices faster than fp32 ones.

    The instructions decide: 2 to 7 times faster with them, 3 to 30 times slower without. The best of many short
    products, the two kinds in turn, tells these apart on a busy machine, too.
    """
    fastest = {"fp32": 0.0, "bf16": 0.0}
    for _ in range(8):
        for precision in fastest:
            fastest[precision] = max(fastest[precision], matrix_speed(precision, size=256))
    return fastest["bf16"] > 1.2 * fastest["fp32"]


def matrix_speed(precision: str, device: torch.device | str = "cpu", size: int = 1024) -> float:
    """GFLOP/s of a product of two `size` x `size` matrices in a format: the best of four."""
    a = torch.ones(size, size, dtype=FORMATS[precision], device=device)
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        (a @ a)[0, 0].item()  # reading a number waits until a GPU has finished
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds) / 1e9


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[None]:
    """A context in which matrix products run in `precision`; weights and their updates stay in fp32."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, FORMATS[precision])
