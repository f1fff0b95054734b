"""Runs small enough to be repeated: a toy model and stream, and what processes of their own execute."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from llm_lab.config import TrainConfig
from llm_lab.train.loop import Trainer


@dataclass
class ToyBatch:
    """Inputs and numbers to predict; a weight of 0 marks a row that is no target."""

    inputs: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor

    @property
    def num_targets(self) -> int:
        return int(self.weights.sum())

    @property
    def num_tokens(self) -> int:
        return self.inputs.numel()

    def to(self, device):
        return ToyBatch(self.inputs.to(device), self.targets.to(device), self.weights.to(device))

    def split(self, parts):
        chunks = (x.chunk(parts) for x in (self.inputs, self.targets, self.weights))
        return [ToyBatch(*piece) for piece in zip(*chunks, strict=True)]


@dataclass
class ToyStream:
    """Batch number s from seed s. Rows count with very different numbers, so that a mean of means would show."""

    rows: int = 12
    delay: float = 0.0
    asked: list[int] = field(default_factory=list)

    def batch(self, step: int) -> ToyBatch:
        time.sleep(self.delay)
        self.asked.append(step)
        draw = torch.Generator().manual_seed(step)
        inputs = torch.randn(self.rows, 6, generator=draw, dtype=torch.float64)
        weights = (torch.rand(self.rows, generator=draw) < torch.linspace(0.05, 1, self.rows)).double()
        weights[-1] = 1
        return ToyBatch(inputs, inputs.sin().sum(dim=1), weights)


def toy_model(dropout: float = 0.0) -> nn.Module:
    """A network with hidden matrices, vectors and dropout, in fp64."""
    torch.manual_seed(1)
    layers = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(dropout), nn.LayerNorm(8), nn.Linear(8, 1))
    return layers.double()


def toy_loss(model: nn.Module, batch: ToyBatch) -> torch.Tensor:
    """The sum of squared errors over the rows that count."""
    return (batch.weights * (model(batch.inputs)[:, 0] - batch.targets) ** 2).sum()


def toy_config(**changes) -> TrainConfig:
    """Short runs on the CPU in full precision."""
    defaults = {"steps": 12, "batch_rows": 12, "learning_rate": 0.02, "device": "cpu", "precision": "fp32"}
    return TrainConfig(**{**defaults, "checkpoint_every": 4, "evaluate_every": 5, **changes})


def toy_trainer(folder: Path, dropout: float = 0.0, delay: float = 0.0, **changes) -> Trainer:
    """A trainer of the toy model in a folder."""
    config = toy_config(**changes)
    return Trainer(toy_model(dropout), ToyStream(delay=delay), toy_loss, config, folder, show_progress=False)


def train_slowly(folder: Path, steps: int, checkpoint_every: int) -> None:
    """Start or resume a run with dropout; ends with status 130 after a Ctrl-C. In a process of its own."""
    trainer = toy_trainer(folder, dropout=0.3, delay=0.003, steps=steps, checkpoint_every=checkpoint_every)
    trainer.resume()
    trainer.run()
    sys.exit(130 if trainer.interrupted else 0)


def pretrain_share(dataset, model_config, train_config, masking, folder: Path) -> None:
    """One of several processes of a run on `dataset`; `torchrun`'s variables are set."""
    from llm_lab.tasks.pretraining import pretrain

    run = pretrain(dataset, model_config, train_config, masking, folder, show_progress=False)
    sys.exit(130 if run.interrupted else 0)
