"""What the numbers were measured on: processor, instruction sets, versions, and the speed of a matrix product there.

A share of the peak is only worth something if the peak was measured on the same machine in the same minutes.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Any

import torch

from llm_lab.train.precision import FORMATS, matrix_speed

INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_bf16", "amx_fp16")
LEVELS = ("amx_tile", "avx512_bf16", "avx512f", "avx2")  # the first that is there names the machine
ISA_LIMIT = "ONEDNN_MAX_CPU_ISA"  # a variable of the environment: matrix products as on a lesser processor
PACKAGES = ("torch", "transformers", "numpy")

# Dense TFLOP/s of fp16 or bf16 products with fp32 sums, from the makers' data sheets; the longest fitting name counts.
CARD_PEAKS = {
    "T4": 65.0,
    "V100": 125.0,
    "A10": 125.0,
    "A100": 312.0,
    "L4": 121.0,
    "L40S": 362.0,
    "RTX 3090": 71.0,
    "RTX 4090": 165.0,
    "H100": 989.0,
    "H100 PCIe": 756.0,
    "H200": 989.0,
}


def describe(device: torch.device | str = "cpu") -> dict[str, Any]:
    """The machine as a results file keeps it."""
    device = torch.device(device)
    about = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "instruction_sets": instruction_sets(),
        "isa_limit": os.environ.get(ISA_LIMIT, ""),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": versions(),
    }
    if device.type == "cuda":
        about |= {"card": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return about


def processor() -> str:
    """The processor's name."""
    for line in _cpuinfo():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def instruction_sets() -> list[str]:
    """Which of the instruction sets that decide the speed of matrix products the system reports."""
    flags = next((line.split(":", 1)[1].split() for line in _cpuinfo() if line.startswith("flags")), [])
    seen = [name for name in INSTRUCTION_SETS if name in flags]
    return seen or [torch.backends.cpu.get_cpu_capability().lower()]


def _cpuinfo() -> list[str]:
    information = Path("/proc/cpuinfo")
    return information.read_text(encoding="utf-8").splitlines() if information.is_file() else []


def versions() -> dict[str, str]:
    """The versions of what is compared; what isn't installed is left out."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def slug(about: dict[str, Any]) -> str:
    """A machine's name for a file: `amd-epyc-avx2`, or the card's."""
    if "card" in about:
        name = about["card"]
    else:
        level = about["isa_limit"] or next((x for x in LEVELS if x in about["instruction_sets"]), "")
        name = f"{about['processor']} {level}"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def headline(about: dict[str, Any]) -> str:
    """The machine in half a line."""
    limit = f", limited to {about['isa_limit']}" if about["isa_limit"] else ""
    packages = ", ".join(f"{name} {version.split('+')[0]}" for name, version in about["versions"].items())
    sets = " ".join(about["instruction_sets"])
    place = about.get("card") or f"{about['processor']}, {about['cores']} cores ({sets}{limit})"
    return f"{place}; {packages}"


def known_peak(card: str) -> float | None:
    """TFLOP/s that the maker states for a card of this name, or None."""
    fitting = [name for name in CARD_PEAKS if all(word in re.split(r"[ -]", card) for word in name.split())]
    return CARD_PEAKS[max(fitting, key=len)] if fitting else None


def matrix_peaks(precisions: set[str], device: torch.device, size: int) -> dict[str, float]:
    """GFLOP/s of a product of two size x size matrices in each format, on this process's threads: the best of four."""
    return {name: round(matrix_speed(name, device, size), 1) for name in sorted(precisions) if name in FORMATS}


def load() -> list[float] | None:
    """The system's load averages over 1, 5 and 15 minutes: with more than the threads of the run, it wasn't idle."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None
