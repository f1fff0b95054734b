"""What the notebooks share: budgets, predictions, the ten blanks, and the reader's own model."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from llm_lab import home
from llm_lab.tasks.pretrained import Pretrained, load_pretrained
from llm_lab.train.precision import choose_device, choose_precision, matrix_speed

SHIPPED = home.REPOSITORY / "data" / "models" / "docs-small"

# The same ten blanks in every lesson, in our own words: six of the kind that documentation is made of, four of
# another.
TEN_BLANKS = (
    "Returns the [MASK] of the array.",
    "If the file does not [MASK], an error is raised.",
    "The default [MASK] is zero.",
    "This function returns a list of [MASK].",
    "Set this to [MASK] to disable the cache.",
    "The number of rows must be equal to the number of [MASK].",
    "She opened the [MASK] and read the first page.",
    "The cat sat on the [MASK].",
    "Paris is the capital of [MASK].",
    "Two plus two is [MASK].",
)


def budget(full: int, fast: int) -> int:
    """`full` for a reader, `fast` when `LLM_LAB_FAST=1` asks for seconds."""
    return fast if home.is_fast() else full


def run_folder(name: str) -> Path:
    """Where a lesson keeps its run. Fast runs have a folder of their own, so that a test never replaces a reader's
    run.
    """
    return home.runs_folder() / (f"{name}-fast" if home.is_fast() else name)


def own_run_or_shipped(name: str = "00_start_here") -> Pretrained:
    """The reader's own finished run of a lesson, else the checkpoint that comes with the course. Says which."""
    own = run_folder(name) / "model"
    if (own / "model.safetensors").is_file():
        print(f"Using your own model from lesson {name[:2]}.")
        return load_pretrained(own)
    print("Using the checkpoint that comes with the course: you have no finished run of lesson 00 here yet.")
    return load_pretrained(SHIPPED)


def describe_machine() -> None:
    """Print what this machine can do: processor cores, GPU, and how fast it multiplies matrices in each format."""
    device = choose_device("auto")
    precision = choose_precision("auto", device)
    print(f"processor cores for PyTorch   {torch.get_num_threads()}")
    print(f"GPU                           {torch.cuda.get_device_name() if device.type == 'cuda' else 'none'}")
    size = 4096 if device.type == "cuda" else 1024  # a GPU needs more work to show its speed
    for name in ("fp32", "bf16"):
        print(f"matrix product in {name}        {matrix_speed(name, device, size):,.0f} GFLOP/s")
    print(f"training here will use        {device.type} in {precision}")


# -- predictions ------------------------------------------------------------------------------------------------------


def predict(question: str, value: float | None) -> None:
    """Keep the reader's prediction for a question such as "00.1"; `None` asks for one. A new one replaces the old."""
    if value is None:
        print(f"Prediction {question}: put your number in place of None and run the cell again. It is kept for you.")
        return
    kept = _predictions()
    kept[question] = {"predicted": float(value)}
    _write(kept)
    print(f"Prediction {question}: {value:g}, kept.")


def reveal(question: str, measured: float) -> None:
    """Show what was measured beside what the reader predicted, and keep both."""
    kept = _predictions()
    if question not in kept:
        print(f"{question}: measured {_short(measured)} (you made no prediction).")
        return
    kept[question]["measured"] = float(measured)
    _write(kept)
    print(f"{question}: you predicted {_short(kept[question]['predicted'])}, measured {_short(measured)}.")


def _short(number: float) -> str:
    """Three digits, and no powers of ten.

    >>> _short(0.2774), _short(14400)
    ('0.277', '14,400')
    """
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"


def _path() -> Path:
    return home.root() / "answers" / "predictions.json"


def _predictions() -> dict[str, dict[str, float]]:
    return json.loads(_path().read_text(encoding="utf-8")) if _path().is_file() else {}


def _write(kept: dict[str, dict[str, float]]) -> None:
    home.write_atomically(_path(), (json.dumps(kept, indent=2) + "\n").encode())
