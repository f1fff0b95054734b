"""How the cost of our step grows with the row length, width, depth, vocabulary, mask rate and batch, beside the
formula; and what activation checkpointing saves and costs.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from benchmarks import machine
from benchmarks.batches import full_rows
from benchmarks.contestants import CONTESTANTS, OURS, Ours, Setup
from benchmarks.memory import apart, checkpoint_blocks, measure
from benchmarks.results import Measurements
from benchmarks.throughput import finish, setup_or_sentence, size_from
from benchmarks.timing import interleave
from benchmarks.work import Size, step_flops

AXES: dict[str, tuple[Any, ...]] = {
    "length": (32, 64, 128, 256, 512),
    "width": (64, 128, 256, 512),
    "layers": (1, 2, 4, 8),
    "vocabulary": (1024, 4096, 8192, 32768),
    "mask_rate": (0.05, 0.15, 0.3, 0.5),
    "rows": (4, 8, 16, 32, 64),
}
QUICK: dict[str, tuple[Any, ...]] = {"length": (8, 16), "layers": (1, 2)}
MEMORY_ROWS = (8, 32, 128)


def along(size: Size, axis: str, values: tuple[Any, ...]) -> dict[Any, Size]:
    """The size with each value of one axis; at another length, as many rows as keep the tokens of a batch."""
    sizes = {value: replace(size, **{axis: value}) for value in values}
    if axis == "length":
        tokens = size.length * size.rows
        sizes = {value: replace(one, rows=max(1, tokens // value)) for value, one in sizes.items()}
    return sizes


def time_axis(size: Size, axis: str, values: tuple[Any, ...], setup: Setup, rounds: int) -> list[dict[str, Any]]:
    """Seconds a step at each value of an axis, in turns, and the formula's operations."""
    sizes = along(size, axis, values)
    runners = {value: CONTESTANTS[OURS].build(one, setup, full_rows(one, 1)) for value, one in sizes.items()}

    def turn(value: Any) -> None:
        runners[value].take()
        finish(setup.device)

    for value in values:
        turn(value)
        turn(value)
    seconds = interleave({value: partial(turn, value) for value in values}, rounds)
    records = []
    for value, one in sizes.items():
        way = CONTESTANTS[OURS].way(one, setup, CONTESTANTS[OURS].variants[0])
        taken = [round(x, 6) for x in seconds[value]]
        record = {"value": value, "tokens": one.length * one.rows, "flops": step_flops(one, way), "seconds": taken}
        records.append(record)
    return records


def time_checkpointing(size: Size, setup: Setup, rounds: int) -> dict[str, list[float]]:
    """Seconds a step with and without activation checkpointing."""
    shelf = full_rows(size, 1)
    runners = {name: CONTESTANTS[OURS].build(size, setup, shelf) for name in ("kept", "checkpointed")}
    second = runners["checkpointed"]
    assert isinstance(second, Ours)
    checkpoint_blocks(second)
    for runner in runners.values():
        runner.take()
    return interleave({name: runner.take for name, runner in runners.items()}, rounds)


def memory(size: Size, setup: Setup, rows: tuple[int, ...], threads: int) -> list[dict[str, Any]]:
    """Peak memory of each batch size with and without activation checkpointing, each in a fresh process."""
    variant = CONTESTANTS[OURS].variants[0]
    found = []
    for count in rows:
        one = replace(size, rows=count)
        for checkpointed in (False, True):
            taken = apart(measure, OURS, "full", one, setup, variant, threads, checkpointed)
            found.append({"rows": count, "checkpointed": checkpointed, **taken})
    return found


def command(options: argparse.Namespace) -> int:
    """`python -m benchmarks scaling`."""
    from benchmarks.tables import checkpointing_table, scaling_table

    setup = setup_or_sentence(options)
    if setup is None:
        return 0
    results = Measurements("scaling", machine.describe(setup.device), options.out)
    for name in ["quick"] if options.quick else options.size or ["M"]:
        size = size_from(options, name)
        for threads in options.threads:
            torch.set_num_threads(threads)
            head = {"size": size.name, "threads": threads, "precision": setup.precision}
            head |= {"command_line": options.command_line, "load": machine.load()}
            rounds = 2 if options.quick else options.rounds
            for axis, values in (QUICK if options.quick else AXES).items():
                points = time_axis(size, axis, values, setup, rounds)
                results.replace(head | {"axis": axis, "points": points}, "size", "threads", "precision", "axis")
            if options.no_memory:
                continue
            rows = (4,) if options.quick else MEMORY_ROWS
            costs = time_checkpointing(size, setup, rounds)
            peaks = memory(size, setup, rows, threads)
            kept = head | {"axis": "checkpointing", "seconds": costs, "memory": peaks}
            results.replace(kept, "size", "threads", "precision", "axis")
    print(scaling_table(results.runs))
    print(checkpointing_table(results.runs))
    print(f"written to {results.path.name}")
    return 0
