"""What the experiments share: one run of a model on one thread, and a file of results that a broken-off command goes on
with.
"""

from __future__ import annotations

import json
import platform
import resource
import sys
import tempfile
from collections.abc import Callable, Iterable
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import nn

from llm_lab.config import TrainConfig
from llm_lab.home import write_atomically
from llm_lab.tasks.masked_language_model import loss_sum
from llm_lab.train.loop import LossSum, Record, Stream, Trainer

FOLDER = Path(__file__).parent
Run = dict[str, Any]  # one run's settings and measurements


class BenchTrainer(Trainer):
    """The package's trainer with three doors for experiments: another schedule, averaged weights, an early end."""

    schedule: Callable[[int], float] | None = None  # step -> share of the peak learning rate
    averaging: float = 0.0  # the decay of an exponential moving average of the weights, 0 for none
    stop: Callable[[list[Record]], bool] | None = None
    averaged: dict[str, torch.Tensor] | None = None

    def factor(self) -> float:
        """The schedule in force."""
        return super().factor() if self.schedule is None else self.schedule(self.step)

    def _update(self) -> tuple[float, float]:
        moved = super()._update()
        if self.averaging:
            now = self.model.state_dict()
            if self.averaged is None:
                self.averaged = {name: value.clone() for name, value in now.items()}
            decay = min(self.averaging, (1 + self.step) / (10 + self.step))  # a short memory at first
            for name, value in now.items():
                self.averaged[name].lerp_(value, 1 - decay)
        if self.stop is not None and self.stop(self.records):
            self.config = _shortened(self.config, self.step + 1)
        return moved


def _shortened(config: TrainConfig, steps: int) -> TrainConfig:
    """The same settings, ending after this many steps."""
    return TrainConfig(**{**config.__dict__, "steps": steps})


def train(
    model: nn.Module,
    stream: Stream,
    config: TrainConfig,
    evaluate: Callable[[nn.Module], Record],
    loss: LossSum = loss_sum,  # type: ignore[assignment]
    schedule: Callable[[int], float] | None = None,
    averaging: float = 0.0,
    stop: Callable[[list[Record]], bool] | None = None,
    show_progress: bool = False,
) -> Run:
    """One run in a temporary folder: the last evaluation, its curve, seconds of training and peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = BenchTrainer(model, stream, loss, config, Path(folder), evaluate, None, show_progress)  # type: ignore[arg-type]
        trainer.schedule, trainer.averaging, trainer.stop = schedule, averaging, stop
        records = trainer.run()
    measured = {name: value for name, value in records[-1].items() if name.startswith("held_out")}
    if trainer.averaged is not None:
        model.load_state_dict(trainer.averaged)
        measured = evaluate(model.eval())
    curve = [[r["step"], round(r["held_out_loss"], 4)] for r in records if "held_out_loss" in r]
    last = records[-50:]
    return {
        **{name: round(value, 5) for name, value in measured.items()},
        "train_loss": round(sum(r["loss"] for r in last) / len(last), 4),
        "steps": len(records),
        "seconds": round(records[-1]["seconds"], 1),
        "peak_mb": peak_megabytes(),
        "curve": curve,
        "losses": [round(r["loss"], 3) for r in records],
    }


def peak_megabytes() -> float:
    """The most memory that this process has held, in MB."""
    unit = 1e6 if sys.platform == "darwin" else 1e3  # bytes there, kilobytes elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


class Results:
    """`experiments/NAME.json`: the command, the machine, the day, and one entry a run."""

    def __init__(self, name: str, folder: Path = FOLDER):
        self.path = folder / f"{name}.json"
        self.content: dict[str, Any] = {"command": f"python -m experiments.{name}", "runs": []}
        if self.path.is_file():
            self.content = json.loads(self.path.read_text(encoding="utf-8"))

    @property
    def runs(self) -> list[Run]:
        """All runs that are done."""
        return self.content["runs"]

    def done(self, **key: Any) -> Run | None:
        """The run with these settings, if there is one."""
        return next((run for run in self.runs if all(run.get(k) == v for k, v in key.items())), None)

    def add(self, run: Run) -> None:
        """Keep one run, at once. The file holds the machine and the day; a run made elsewhere or later, its own."""
        here = {"date": date.today().isoformat(), "machine": machine()}
        self.content = here | self.content
        self.runs.append(run | {name: value for name, value in here.items() if self.content[name] != value})
        self.save()

    def save(self) -> None:
        """Write the file, one run a line."""
        head = {name: value for name, value in self.content.items() if name != "runs"}
        lines = ",\n".join("  " + json.dumps(run) for run in self.runs)
        text = json.dumps(head, indent=1)[:-2] + ',\n "runs": [\n' + lines + "\n ]\n}\n"
        write_atomically(self.path, text.encode())

    def fill(self, work: Callable[..., Run], keys: Iterable[dict[str, Any]], workers: int) -> None:
        """Run what is missing, each in a process of its own with one thread, `workers` at a time."""
        missing = [key for key in keys if self.done(**key) is None]
        with get_context("spawn").Pool(workers, _one_thread, maxtasksperchild=1) as pool:
            finished = pool.imap_unordered(_Keyed(work), missing, chunksize=1)
            for number, run in enumerate(finished, 1):
                self.add(run)
                key = {name: run[name] for name in missing[0]}
                print(f"{number}/{len(missing)}  {key}  {run.get('held_out_loss', '')}", flush=True)


class _Keyed:
    """A piece of work that can be sent to another process: keyword arguments in, those and the result out."""

    def __init__(self, work: Callable[..., Run]):
        self.work = work

    def __call__(self, key: dict[str, Any]) -> Run:
        return {**key, **self.work(**key)}


def _one_thread() -> None:
    torch.set_num_threads(1)


def machine() -> str:
    """The processor's name, its instructions, and what it runs."""
    name = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.is_file():
        lines = information.read_text(encoding="utf-8").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    instructions = torch.backends.cpu.get_cpu_capability()
    return f"{name} ({instructions}), one thread a run, PyTorch {torch.__version__.split('+')[0]}"
