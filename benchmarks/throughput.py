"""Tokens a second of whole training steps: ours and what a reader would use instead, on the same batches, in turns."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import torch

from benchmarks import machine
from benchmarks.batches import Shelf, full_rows, ragged
from benchmarks.contestants import (
    CONTESTANTS,
    OURS,
    Contestant,
    Runner,
    Setup,
    Variant,
    available,
    operations,
    parameters_of,
    require_equal_size,
    setup_for,
)
from benchmarks.memory import apart, measure
from benchmarks.results import Measurements
from benchmarks.timing import interleave
from benchmarks.work import SIZES, Size, step_flops

FULL = [(name, "full") for name in CONTESTANTS]
RAGGED = [
    (OURS, "packed"),
    (OURS, "padded"),
    ("BERT", "padded"),
    ("BERT", "packed"),
    ("BERT, tuned", "padded"),
    ("ModernBERT", "padded"),
]
ENTRIES = {"full": FULL, "ragged": RAGGED}
GPU_SIZES = ("5M", "17M", "34M")


@dataclass
class Plan:
    """What a run measures, and how thoroughly."""

    size: Size
    setup: Setup
    threads: int
    rows: str = "full"  # full or ragged
    rounds: int = 5
    steps: int = 4  # batches that a contestant takes in its turn
    compiled: bool = True
    memory: bool = True
    peak_size: int = 2048
    names: list[str] = field(default_factory=lambda: list(CONTESTANTS))

    @property
    def entries(self) -> list[tuple[str, str]]:
        """The (contestant, layout) pairs that take part."""
        return [entry for entry in ENTRIES[self.rows] if entry[0] in self.names]


@dataclass
class Entry:
    """One contestant on one layout, ready for its turns."""

    contestant: Contestant
    layout: str
    variant: Variant
    runner: Runner
    shelf: Shelf
    first_step: float = 0.0  # seconds; it compiles
    losses: list[float] = field(default_factory=list)
    trials: dict[str, float] = field(default_factory=dict)  # seconds a step of each variant tried

    @property
    def label(self) -> str:
        """The row's name in the tables."""
        return self.contestant.name if self.layout == "full" else f"{self.contestant.name}, {self.layout}"

    def warm_up(self) -> None:
        """One pass that isn't timed, but for its first step; other lengths compile again."""
        start = time.perf_counter()
        self.losses.append(self.runner.take())
        self.first_step = time.perf_counter() - start
        for _ in self.shelf.batches[1:]:
            self.losses.append(self.runner.take())

    def turn(self) -> None:
        """One pass through the shelf."""
        for _ in self.shelf.batches:
            self.losses.append(self.runner.take())


def finish(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def prepare(contestant: Contestant, layout: str, shelf: Shelf, plan: Plan) -> Entry | None:
    """Build a contestant and warm it up; of several variants, the one that is fastest over one pass stays."""
    best: Entry | None = None
    trials: dict[str, float] = {}
    for variant in contestant.variants:
        if variant.compiled and not plan.compiled:
            continue
        entry = Entry(contestant, layout, variant, contestant.build(plan.size, plan.setup, shelf, variant), shelf)
        entry.trials = trials
        try:
            entry.warm_up()
        except Exception as error:
            if not variant.compiled:
                raise
            print(f"{entry.label}: {variant.name} is left out, torch.compile fails here ({type(error).__name__}).")
            continue
        if len(contestant.variants) > 1:
            taken = interleave({variant.name: entry.turn}, 1)[variant.name][0]
            trials[variant.name] = round(taken / len(shelf.batches), 5)
        if best is None or trials[variant.name] < trials[best.variant.name]:
            best = entry
    return best


def run(plan: Plan, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Measure one plan; returns what the results file keeps."""
    torch.set_num_threads(plan.threads)
    if plan.compiled:
        _compile_afresh()
    shelves = {"full": full_rows(plan.size, plan.steps)} if plan.rows == "full" else ragged(plan.size, plan.steps)
    load = machine.load()
    precisions = {"fp32", plan.setup.precision}
    peaks = [machine.matrix_peaks(precisions, plan.setup.device, plan.peak_size)]
    fit = {one.name for one in available(list(dict.fromkeys(name for name, _ in plan.entries)))}
    entries = []
    for name, layout in plan.entries:
        entry = prepare(CONTESTANTS[name], layout, shelves[layout], plan) if name in fit else None
        if entry is not None:
            say(f"  ready: {entry.label} ({entry.variant.name}), first step {entry.first_step:.1f} s")
            entries.append(entry)
    require_equal_size({entry.contestant.name: parameters_of(entry.runner) for entry in entries})
    seconds = interleave({entry.label: partial(_timed, entry, plan) for entry in entries}, plan.rounds)
    peaks.append(machine.matrix_peaks(precisions, plan.setup.device, plan.peak_size))
    card = plan.setup.device.type == "cuda"
    return {
        **settings_of(plan),
        "peak_gflops": {name: max(peak[name] for peak in peaks) for name in peaks[0]},
        "peaks_before_and_after": peaks,
        "maker_tflops": machine.known_peak(torch.cuda.get_device_name()) if card else None,
        "load": load,
        "contestants": [_record(entry, seconds[entry.label], plan) for entry in entries],
        "skipped": [CONTESTANTS[name].missing for name, _ in plan.entries if name not in fit],
    }


def _compile_afresh() -> None:
    """No kernel of an earlier run: compilation takes what a first run would wait for, and knows its threads.

    All of transformers' models share one decorated `forward`, and PyTorch compiles a function 8 times at most before it
    gives up in silence: the others would run uncompiled under a compiled one's name.
    """
    import torch._dynamo

    torch.compiler.reset()
    torch.compiler.config.force_disable_caches = True
    torch._dynamo.config.recompile_limit = 64


def settings_of(plan: Plan) -> dict[str, Any]:
    """What makes two measurements the same one."""
    return {
        "size": plan.size.name,
        "shape": asdict(plan.size),
        "rows": plan.rows,
        "threads": plan.threads,
        "device": plan.setup.device.type,
        "precision": plan.setup.precision,
        "rounds": plan.rounds,
    }


def _timed(entry: Entry, plan: Plan) -> None:
    entry.turn()
    finish(plan.setup.device)


def _record(entry: Entry, seconds: list[float], plan: Plan) -> dict[str, Any]:
    """One contestant's measurements. Its products are counted on a fresh twin that is not compiled."""
    plain = replace(entry.variant, compiled=False)
    twin = entry.contestant.build(plan.size, plan.setup, entry.shelf, plain)
    counted = [operations(twin, batch) for batch in entry.shelf.batches]
    formula = step_flops(plan.size, entry.contestant.way(plan.size, plan.setup, plain))
    record = {
        "name": entry.label,
        "about": entry.contestant.about,
        "variant": entry.variant.name if entry.contestant.kind != "torch" else "",
        "trials": entry.trials,
        "precision": entry.runner.precision,
        "parameters": parameters_of(entry.runner),
        "tokens": entry.shelf.num_tokens,
        "places": entry.shelf.num_places,
        "steps": len(entry.shelf.batches),
        "seconds": [round(value, 6) for value in seconds],
        "first_step_seconds": round(entry.first_step, 3),
        "flops": sum(one["step"] for one in counted),
        "optimizer_flops": sum(one["optimizer"] for one in counted),
        "formula_flops": formula * len(entry.shelf.batches) if entry.layout == "full" else None,
        "losses": [round(entry.losses[0], 4), round(entry.losses[-1], 4)],
    }
    if plan.memory:
        name, layout = entry.contestant.name, entry.layout
        record["memory"] = apart(measure, name, layout, plan.size, plan.setup, entry.variant, plan.threads)
    return record


# -- the command ------------------------------------------------------------------------------------------------------


def size_from(options: argparse.Namespace, name: str) -> Size:
    """A named size with the flags that were given in place of its own."""
    names = ("width", "layers", "heads", "vocabulary", "length", "rows", "mask_rate")
    given = {name: getattr(options, name) for name in names if getattr(options, name, None) is not None}
    size = replace(SIZES[name], **given)
    return replace(size, name=f"{name} changed") if given else size


def setup_or_sentence(options: argparse.Namespace) -> Setup | None:
    """Where to run; None, after a sentence, if there is no such device."""
    try:
        return setup_for(options.device, options.precision)
    except ValueError as error:
        print(f"not measured: {error}")
        return None


def command(options: argparse.Namespace) -> int:
    """`python -m benchmarks throughput`."""
    setup = setup_or_sentence(options)
    if setup is None:
        return 0
    on_card = setup.device.type == "cuda"
    sizes = ["quick"] if options.quick else options.size or (GPU_SIZES if on_card else ["M", "S"])
    if options.profile:
        from benchmarks.profiling import report

        for name in sizes:
            report(size_from(options, name), setup, options)
        return 0
    results = Measurements("throughput", machine.describe(setup.device), options.out)
    from benchmarks.tables import throughput_table

    for name in sizes:
        for threads in options.threads if not on_card else [torch.get_num_threads()]:
            for rows in options.rows_kind:
                plan = Plan(size_from(options, name), setup, threads, rows, options.rounds, options.steps)
                plan = replace(plan, names=options.only or list(CONTESTANTS), compiled=not options.no_compile)
                plan.memory = not options.no_memory
                if options.quick:
                    plan = replace(plan, rounds=2, steps=1, compiled=False, memory=False, peak_size=256)
                print(f"size {plan.size.name}, {rows} rows, {threads} thread(s), {setup.precision}", flush=True)
                measured = run(plan, partial(print, flush=True)) | {
                    "command_line": options.command_line,
                    "only": options.only or "all",
                }
                if options.peak_tflops:
                    measured["maker_tflops"] = options.peak_tflops
                results.replace(measured, "size", "shape", "rows", "threads", "device", "precision", "only")
                print(throughput_table(measured))
    print(f"written to {results.path.name}")
    return 0
