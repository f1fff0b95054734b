"""What a step of ours spends its time on, by groups of operators, from PyTorch's profiler.

An operator's own time goes to the group of the outermost thing it belongs to: a matrix product inside Muon is the
optimizer's, one inside the loss is the loss's. What the profiler sees in no operator is Python and waiting.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks import machine
from benchmarks.batches import SyntheticStream, full_rows
from benchmarks.contestants import CONTESTANTS, OURS, Setup
from benchmarks.results import Measurements
from benchmarks.work import Size
from llm_lab.text.batches import Batch

# The first group of which a word is in the name of the operator, or of anything it was called by.
BY_CALLER = (
    ("data", ("benchmark: data",)),
    ("optimizer", ("Optimizer.step", "Optimizer.zero_grad", "clip")),
    ("loss", ("CrossEntropy", "cross_entropy", "nll_loss", "LogSoftmax")),
    ("attention", ("scaled_dot_product", "ScaledDotProduct", "aten::bmm", "softmax", "SoftmaxBackward")),
)
BY_NAME = (
    ("matrix products", ("aten::mm", "aten::addmm", "aten::linear", "mkldnn_linear", "aten::matmul")),
    ("norms and activations", ("layer_norm", "rms_norm", "gelu", "LayerNorm", "Gelu")),
)
GROUPS = [*(group for group, _ in (*BY_NAME, *BY_CALLER)), "other operators", "Python and waiting"]


def group_of(chain: list[str]) -> str:
    """The group of an operator, given its name and those of its callers, innermost first."""
    for group, words in BY_CALLER:
        if any(word in name for name in chain for word in words):
            return group
    for group, words in BY_NAME:
        if any(word in chain[0] for word in words):
            return group
    return "other operators"


def shares(events: Iterable[Any], wall_us: float) -> dict[str, float]:
    """Each group's share of the wall-clock time, given the profiler's events."""
    spent: dict[str, float] = defaultdict(float)
    for event in events:
        chain, caller = [], event
        while caller is not None:
            chain.append(caller.name)
            caller = caller.cpu_parent
        own = event.self_cpu_time_total
        if event.name.startswith(("benchmark:", "Optimizer.")):
            continue  # what they spend outside operators is Python
        spent[group_of(chain)] += own
    spent["Python and waiting"] = max(0.0, wall_us - sum(spent.values()))
    total = sum(spent.values())
    return {group: round(spent[group] / total, 4) for group in GROUPS}


class Watched:
    """A stream whose batches are masked when they are asked for, under a name that the profiler shows."""

    def __init__(self, stream: SyntheticStream):
        self.stream = stream

    def batch(self, step: int) -> Batch:
        """Batch number `step`."""
        with record_function("benchmark: data"):
            return self.stream.batch(step)


def run(size: Size, setup: Setup, threads: int, steps: int, name: str = OURS) -> dict[str, Any]:
    """Profile `steps` steps of ours after three that warm up."""
    torch.set_num_threads(threads)
    shelf = full_rows(size, 2)
    rows = torch.cat([batch.inputs for batch in shelf.batches]).numpy()
    runner = CONTESTANTS[name].build(size, setup, Watched(SyntheticStream(size, rows)))  # type: ignore[arg-type]
    for _ in range(3):
        runner.take()
    start = time.perf_counter()
    for _ in range(steps):
        runner.take()
    plain = time.perf_counter() - start
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        start = time.perf_counter()
        for _ in range(steps):
            runner.take()
        wall = time.perf_counter() - start
    return {
        "name": name,
        "size": size.name,
        "threads": threads,
        "precision": runner.precision,
        "step_ms": round(1000 * plain / steps, 2),
        "profiled_step_ms": round(1000 * wall / steps, 2),
        "shares": shares(profiled.events(), 1e6 * wall),
    }


def report(size: Size, setup: Setup, options: argparse.Namespace) -> None:
    """`python -m benchmarks throughput --profile` for one size."""
    if setup.device.type != "cpu":
        print("not measured: the profile counts a CPU's time, choose --device cpu.")
        return
    from benchmarks.tables import profile_table

    results = Measurements("profile", machine.describe(setup.device), options.out)
    for threads in options.threads:
        measured = run(size, setup, threads, 2 if options.quick else options.steps)
        results.replace(measured | {"command_line": options.command_line}, "size", "threads", "precision")
    results.save()
    print(profile_table([run for run in results.runs if run["size"] == size.name]))
