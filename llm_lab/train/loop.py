"""The training loop: batch after batch, forward, backward, update, with checkpoints that resume exactly.

It knows nothing of text or of architecture. A stream gives batch number s (`batch(s)`); a batch knows its `num_targets`
and `num_tokens`, moves with `to` and is cut with `split`; the loss is a *sum* over a batch's targets, in nats.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from llm_lab.config import TrainConfig
from llm_lab.home import write_atomically
from llm_lab.train import distributed
from llm_lab.train.checkpoint import (
    CheckpointError,
    all_checkpoints,
    checkpoint_path,
    load_checkpoint,
    prune_checkpoints,
    save_checkpoint,
)
from llm_lab.train.optimizer import build_optimizers
from llm_lab.train.precision import autocast, choose_device, choose_precision
from llm_lab.train.progress import Progress
from llm_lab.train.schedule import learning_rate_factor


class Batch(Protocol):
    """What the loop needs of a batch."""

    @property
    def num_targets(self) -> int:
        """Targets that count."""

    @property
    def num_tokens(self) -> int:
        """Tokens that the model reads."""

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""

    def split(self, parts: int) -> list[Any]:
        """The batch in equal parts."""


class Stream(Protocol):
    """What the loop needs of a source of batches."""

    def batch(self, step: int) -> Any:
        """Batch number `step`, the same at every call."""


LossSum = Callable[[nn.Module, Any], Tensor]
Record = dict[str, float]


class TrainingDiverged(RuntimeError):
    """The loss or the gradient is no longer a number; the message says where to look."""


@dataclass
class Trainer:
    """One run in one folder: `folder/metrics.jsonl` (a line a step) and `folder/checkpoints/`.

    `evaluate(model)` returns named numbers for the metrics; `on_checkpoint(model)` may write the model for use.
    """

    model: nn.Module
    stream: Stream
    loss_sum: LossSum
    config: TrainConfig
    folder: Path
    evaluate: Callable[[nn.Module], Record] | None = None
    on_checkpoint: Callable[[nn.Module], None] | None = None
    show_progress: bool = True
    step: int = 0
    seconds: float = 0.0
    records: list[Record] = field(default_factory=list)
    interrupted: bool = False

    def __post_init__(self) -> None:
        self.device = choose_device(self.config.device)
        self.precision = choose_precision(self.config.precision, self.device)
        self.model.to(self.device)
        # Never fp16 for Muon: its range is too small for the iteration.
        muon_dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        config = self.config
        self.optimizers = build_optimizers(
            self.model, config.optimizer, config.learning_rate, config.weight_decay, muon_dtype
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.metrics_path = self.folder / "metrics.jsonl"
        self.checkpoints = self.folder / "checkpoints"

    # -- the run ------------------------------------------------------------------------------------------------------

    def run(self) -> list[Record]:
        """Train to the last step, or to a Ctrl-C, which saves first. Returns one record a step."""
        torch.manual_seed(self.config.seed) if self.step == 0 else None
        progress = Progress(self.config.steps, self.step, self.show_progress and distributed.is_first())
        with self._metrics_file() as metrics, _interrupt_noted() as interrupt:
            stopped = False
            while self.step < self.config.steps and not stopped:
                began = time.perf_counter()
                record, tokens = self._train_step()
                self.seconds += time.perf_counter() - began
                record["seconds"] = round(self.seconds, 3)
                note = self._evaluate_if_due(record)
                metrics.write(json.dumps(record) + "\n")
                metrics.flush()
                self.records.append(record)
                progress.update(self.step, tokens, record["loss"], note)
                # Asked once a step and of all processes: they stop at the same step, and it is saved.
                stopped = distributed.total(interrupt.is_set(), self.device) > 0
                if self.step % self.config.checkpoint_every == 0 or self.step == self.config.steps or stopped:
                    self.save()
            self.interrupted = stopped and self.step < self.config.steps
        return self.records

    def _train_step(self) -> tuple[Record, int]:
        """One update of the weights. Returns its record and the tokens that all processes read."""
        batch = self.stream.batch(self.step)
        num_targets = distributed.total(batch.num_targets, self.device)
        self.model.train()
        summed = 0.0
        for part in batch.split(self.config.accumulate):
            with autocast(self.device, self.precision):
                loss = self.loss_sum(self.model, part.to(self.device))
            # Divided by all targets of the step, so that parts and processes weigh a target alike.
            self.scaler.scale(loss / max(num_targets, 1)).backward()
            summed += loss.item()
        mean = distributed.total(summed, self.device) / max(num_targets, 1)
        distributed.sum_gradients(self.model.parameters())
        rate, norm = self._update()
        self._require_numbers(mean, norm)
        self.step += 1
        tokens = int(distributed.total(batch.num_tokens, self.device))
        return {"step": self.step, "loss": mean, "learning_rate": rate, "gradient_norm": norm, "tokens": tokens}, tokens

    def factor(self) -> float:
        """The share of the peak learning rate at the step under way."""
        config = self.config
        return learning_rate_factor(self.step, config.steps, config.warmup, config.decay)

    def _update(self) -> tuple[float, float]:
        """Clip, set the learning rate, move the weights. Returns the learning rate and the norm before clipping."""
        config = self.config
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip).item()
        factor = self.factor()
        self.optimizers.set_factor(factor)
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        self.optimizers.zero_grad()
        return config.learning_rate * factor, norm

    def _require_numbers(self, loss: float, norm: float) -> None:
        skipped = self.scaler.is_enabled() and not math.isfinite(norm)  # fp16 overflowed: the scaler lets the step pass
        if math.isfinite(loss) and (math.isfinite(norm) or skipped):
            return
        what = "loss" if not math.isfinite(loss) else "gradient"
        raise TrainingDiverged(
            f"the {what} of step {self.step + 1} is not a number: look at the last gradient norms in "
            f"{self.metrics_path} and try a third of the learning rate ({self.config.learning_rate:g}) or a longer "
            "warm-up; the last checkpoint is intact."
        )

    def _evaluate_if_due(self, record: Record) -> str:
        due = self.step % self.config.evaluate_every == 0 or self.step == self.config.steps
        if self.evaluate is None or not due or not distributed.is_first():
            return ""
        self.model.eval()
        with torch.no_grad(), autocast(self.device, self.precision):
            measured = self.evaluate(self.model)
        record.update(measured)
        return "  ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in measured.items())

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write a checkpoint, then the model for use, then delete old checkpoints. Raises OSError on a full disk."""
        if distributed.is_first():
            save_checkpoint(checkpoint_path(self.checkpoints, self.step), self._state())
            if self.on_checkpoint is not None:
                self.on_checkpoint(self.model)
            prune_checkpoints(self.checkpoints)
        distributed.wait_for_all()

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "optimizers": self.optimizers.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def resume(self) -> bool:
        """Take up the newest checkpoint, if there is one. Metrics written after it are cut off: these steps come again.

        Raises CheckpointError when it is damaged or belongs to a model of another size.
        """
        found = all_checkpoints(self.checkpoints)
        if found:
            state = load_checkpoint(found[-1])
            try:
                self.model.load_state_dict(state["model"])
                self.optimizers.load_state_dict(state["optimizers"])
            except (RuntimeError, ValueError, KeyError) as error:
                raise CheckpointError(
                    f"{found[-1]} holds a model of another size: resume with the size it was started with."
                ) from error
            self.scaler.load_state_dict(state["scaler"])
            torch.set_rng_state(state["random"])
            if torch.cuda.is_available() and state["random_cuda"]:
                torch.cuda.set_rng_state_all(state["random_cuda"])
            self.step, self.seconds = state["step"], state["seconds"]
        self.records = [r for r in read_metrics(self.metrics_path) if r["step"] <= self.step]
        if distributed.is_first():
            lines = "".join(json.dumps(record) + "\n" for record in self.records)
            write_atomically(self.metrics_path, lines.encode())
        return bool(found)

    def _metrics_file(self) -> contextlib.AbstractContextManager[Any]:
        if not distributed.is_first():
            return open(os.devnull, "a", encoding="utf-8")
        self.folder.mkdir(parents=True, exist_ok=True)
        return open(self.metrics_path, "a", encoding="utf-8")


def read_metrics(path: Path | str) -> list[Record]:
    """The records of a `metrics.jsonl`; a last line that a killed process left half written is left out."""
    path = Path(path)
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            records.append(json.loads(line))
    return records


@contextlib.contextmanager
def _interrupt_noted() -> Iterator[threading.Event]:
    """Ctrl-C sets the event instead of raising, so that the step under way ends and is saved. A second one raises."""
    noted = threading.Event()

    def note(signum: int, frame: Any) -> None:
        if noted.is_set():
            raise KeyboardInterrupt
        noted.set()

    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)
