"""What each lever of speed brings: alone on a naive step, taken away from the whole, and all together.

The naive step is the package's model trained as a first script does it: dropout, logits at every position, one big
softmax. Each lever changes the time of a step and not its loss, but for dropout and the number format; the tests hold
that. `--lesson` measures lesson 12's rows instead (experiments/ladder.py) and shows what each does to the loss.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks import machine
from benchmarks.batches import Shelf, dense_labels, full_rows
from benchmarks.contestants import LEARNING_RATE, STEPS, Ours, Setup, our_config
from benchmarks.results import Measurements
from benchmarks.throughput import setup_or_sentence, size_from
from benchmarks.timing import interleave
from benchmarks.work import Size
from llm_lab.config import TrainConfig
from llm_lab.model import attention as attention_module
from llm_lab.model.block import gather_positions
from llm_lab.model.heads import MaskedLanguageModel, chunked_cross_entropy, plain_cross_entropy
from llm_lab.text.batches import Batch

LEVERS = {
    "no dropout": "dropout 0 instead of 10%",
    "targets only": "logits at the targets, not at all positions",
    "last block": "the last block computed at the targets only (needs 'targets only')",
    "loss in pieces": "the softmax 256 targets at a time, with its gradient",
    "attention": "the fused kernel, or plain products where they are faster, instead of always plain products",
    "format": "bf16 or fp16 where measured to be faster, else fp32",
}
ALL = frozenset(LEVERS)
NEEDS = {"last block": "targets only"}


def rows_of_ladder() -> dict[str, frozenset[str]]:
    """Each row of the table and the levers that it pulls; a lever that needs another comes with it."""
    rows = {"naive": frozenset[str]()}
    for lever in LEVERS:
        rows[f"+ {lever}"] = frozenset({lever, *([NEEDS[lever]] if lever in NEEDS else [])})
    rows["all"] = ALL
    for lever in LEVERS:
        rows[f"all but {lever}"] = ALL - {lever} - {later for later, first in NEEDS.items() if first == lever}
    return rows


def loss_with(levers: frozenset[str]) -> Callable[[MaskedLanguageModel, Batch], Tensor]:
    """The sum of a batch's losses, computed with these levers and without the others."""
    cross_entropy = chunked_cross_entropy if "loss in pieces" in levers else plain_cross_entropy

    def loss(model: MaskedLanguageModel, batch: Batch) -> Tensor:
        early = batch.positions if "last block" in levers else None
        vectors, targets = model.encoder(batch.inputs, batch.mask, early), batch.targets
        if "targets only" not in levers:
            targets = dense_labels(batch)
        elif early is None:
            vectors = gather_positions(vectors, batch.positions)
        features = model.head.features(vectors).flatten(0, 1)
        return cross_entropy(features, model.encoder.embedding.weight, model.head.bias, targets.flatten())

    return loss


class Rung(Ours):
    """The package's trainer, with attention as a row wants it."""

    plain_attention = False

    def take(self) -> float:
        """One step."""
        plain = mock.patch.object(attention_module, "attention", attention_module.attention_batched)
        with plain if self.plain_attention else contextlib.nullcontext():
            return super().take()


def build(levers: frozenset[str], size: Size, setup: Setup, shelf: Shelf, dropout: float = 0.1) -> Rung:
    """A trainer that pulls these levers."""
    settings = TrainConfig(
        steps=STEPS,
        batch_rows=size.rows,
        row_length=size.length,
        learning_rate=LEARNING_RATE,
        precision=setup.precision if "format" in levers else "fp32",
        device=setup.device.type,
    )
    torch.manual_seed(0)
    model = MaskedLanguageModel(our_config(size, dropout=0.0 if "no dropout" in levers else dropout))
    rung = Rung(model, shelf, loss_with(levers), settings, Path("."))  # type: ignore[arg-type]
    rung.plain_attention = "attention" not in levers
    return rung


def run(size: Size, setup: Setup, threads: int, rounds: int, steps: int, compiled: bool) -> dict[str, Any]:
    """Time all rows in turns."""
    torch.set_num_threads(threads)
    shelf = full_rows(size, steps)
    rungs = {name: build(levers, size, setup, shelf) for name, levers in rows_of_ladder().items()}
    if compiled:
        rungs["all, compiled"] = build(ALL, size, setup, shelf)
        rungs["all, compiled"].loss_sum = torch.compile(loss_with(ALL))  # type: ignore[arg-type]
    for rung in rungs.values():
        rung.take()

    def turn(rung: Rung) -> None:
        for _ in shelf.batches:
            rung.take()

    seconds = interleave({name: partial(turn, rung) for name, rung in rungs.items()}, rounds)
    return {
        "size": size.name,
        "threads": threads,
        "precision": setup.precision,
        "tokens": shelf.num_tokens,
        "seconds": {name: [round(x, 6) for x in taken] for name, taken in seconds.items()},
    }


def lesson(rounds: int) -> dict[str, Any]:
    """Lesson 12's rows: their speed measured now, on one thread, beside the losses of the experiment."""
    from experiments.bench import Results
    from experiments.ladder import LADDER, SEEDS, STEPS, best_rate, speeds

    torch.set_num_threads(1)
    measured, experiment = speeds(list(LADDER), rounds), Results("ladder")
    rows = []
    for name, row in LADDER.items():
        rate = best_rate(experiment, row)
        runs = [experiment.done(row=name, seed=seed, steps=STEPS, learning_rate=rate) for seed in SEEDS]
        losses = [one["held_out_loss"] for one in runs if one is not None]
        rows.append({"row": name, "group": row.group, **measured[name], "losses": losses})
    return {"size": "lesson 12", "threads": 1, "precision": "fp32", "rows": rows}


def command(options: argparse.Namespace) -> int:
    """`python -m benchmarks ladder`."""
    from benchmarks.tables import ladder_table, lesson_table

    setup = setup_or_sentence(options)
    if setup is None:
        return 0
    results = Measurements("ladder", machine.describe(setup.device), options.out)
    about = {"command_line": options.command_line, "load": machine.load()}
    if options.lesson:
        measured = lesson(options.rounds) | about
        results.replace(measured, "size", "threads", "precision")
        print(lesson_table(measured))
        return 0
    for size, threads in _cases(options):
        rounds, steps = (2, 1) if options.quick else (options.rounds, options.steps)
        compiled = not (options.no_compile or options.quick)
        measured = run(size, setup, threads, rounds, steps, compiled) | about
        results.replace(measured, "size", "threads", "precision")
        print(ladder_table(measured))
    print(f"written to {results.path.name}")
    return 0


def _cases(options: argparse.Namespace) -> Iterable[tuple[Size, int]]:
    for name in ["quick"] if options.quick else options.size or ["M"]:
        for threads in options.threads:
            yield size_from(options, name), threads
