"""Checkpoints: all that a run needs to go on as if nothing had happened, in files that are whole or not there.

A checkpoint file is what `torch.save` writes, followed by its SHA-256. It is written to a temporary name, forced to
the disk and renamed; the digest finds a file that was cut short or changed later. Only tensors and plain values are
read back (`weights_only=True`), so a checkpoint from a stranger can't run code.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from llm_lab.home import write_atomically

DIGEST_BYTES = 32
KEPT = 2  # checkpoints of a run that stay on the disk


class CheckpointError(ValueError):
    """A checkpoint that can't be used; the message says what to do."""


def save_checkpoint(path: Path | str, state: dict[str, Any]) -> None:
    """Write `state` to `path`, whole or not at all. Raises OSError when the disk is full."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getvalue()
    write_atomically(path, data + hashlib.sha256(data).digest())


def load_checkpoint(path: Path | str) -> dict[str, Any]:
    """Read a checkpoint to the CPU. Raises FileNotFoundError, or CheckpointError when the file is damaged."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint at {path}: give the path of one, or train a model first.")
    data = path.read_bytes()
    data, digest = data[:-DIGEST_BYTES], data[-DIGEST_BYTES:]
    if hashlib.sha256(data).digest() != digest:
        raise CheckpointError(
            f"{path} is damaged (its checksum differs): delete it, and --resume takes the one before."
        )
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def checkpoint_path(folder: Path, step: int) -> Path:
    """The name of a checkpoint: `step-00000200.pt` holds the state after 200 steps."""
    return folder / f"step-{step:08d}.pt"


def all_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted(folder.glob("step-*.pt"))


def prune_checkpoints(folder: Path) -> None:
    """Delete all but the newest checkpoints, and what a killed process left half written."""
    for path in all_checkpoints(folder)[:-KEPT]:
        path.unlink(missing_ok=True)
    for path in folder.glob(".*.partial"):
        path.unlink(missing_ok=True)
