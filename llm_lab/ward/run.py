"""One small healthy training run in plain parts, which a bug can replace: the body of every patient.

It is short on purpose, like the scripts in which such bugs live. It trains on the known language, so that the loss
it should reach is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from llm_lab.config import MaskingConfig, ModelConfig
from llm_lab.model.heads import MaskedLanguageModel
from llm_lab.text.batches import Batch, fixed_batches
from llm_lab.text.grammar import hard_language
from llm_lab.text.sentences import SentenceDataset
from llm_lab.train.doctor.subject import Subject
from llm_lab.train.loop import Stream
from llm_lab.train.optimizer import build_optimizers
from llm_lab.train.schedule import learning_rate_factor

DATASET = SentenceDataset(hard_language())
EVALUATED = 200  # sentences
SHAPE = {"width": 64, "num_layers": 2, "feed_forward_width": 176, "dropout": 0.1, "max_length": 64}


class StreamOf:
    """A stream made of a function that gives batch number `step`."""

    def __init__(self, batch: Callable[[int], Batch]):
        self.batch = batch


@torch.no_grad()
def mean_loss(model: MaskedLanguageModel, batches: Sequence[Batch]) -> float:
    """The mean of -log p(hidden word) over the targets of some batches, in nats, in the mode that the model is in."""
    nats = sum(model.loss_sum(b.inputs, b.positions, b.targets, b.mask).item() for b in batches)
    return nats / sum(batch.num_targets for batch in batches)


class TrainingRun:
    """Model, stream, loss, optimizers and schedule, and the step that joins them. A bug replaces one of its parts.

    `shape` changes the model's shape, by the names of `ModelConfig`.
    """

    masking = MaskingConfig(rate=0.3, selection="bernoulli")
    learning_rate = 1e-2
    optimizer = "muon"
    accumulate = 1  # parts into which a batch is cut

    def __init__(self, steps: int = 300, seed: int = 0, batch_rows: int = 32, **shape: Any):
        torch.manual_seed(seed)
        self.steps, self.seed, self.batch_rows = steps, seed, batch_rows
        vocabulary = DATASET.tokenizer.vocabulary_size
        self.model: Any = MaskedLanguageModel(ModelConfig(vocabulary_size=vocabulary, **{**SHAPE, **shape}))
        self.stream: Any = self.stream_of(0, 1)
        self.optimizers = build_optimizers(self.model, self.optimizer, self.learning_rate, 0.01)
        self.held_out = fixed_batches(DATASET.held_out[:EVALUATED], DATASET.tokenizer, DATASET.evaluation_masking, 100)

    # -- the parts ----------------------------------------------------------------------------------------------------

    def stream_of(self, rank: int, world_size: int) -> Stream:
        """The batches that one of several processes reads."""
        return DATASET.stream(self.masking, self.batch_rows, self.seed, rank, world_size)

    def resumed(self, step: int) -> Stream:
        """The stream of a run that is taken up again at a step."""
        return self.stream

    def loss_sum(self, model: nn.Module, batch: Batch) -> Tensor:
        """The sum of -log p(hidden word) over the targets of a batch, in nats."""
        return model.loss_sum(batch.inputs, batch.positions, batch.targets, batch.mask)  # type: ignore[operator]

    def factor(self, step: int) -> float:
        """The share of the peak learning rate at a step."""
        return learning_rate_factor(step, self.steps, 0.1, 0.4)

    def batch(self, step: int) -> Batch:
        """What step number `step` learns from."""
        return self.stream.batch(step)

    def clear(self) -> None:
        """Forget the gradients of the last step."""
        self.optimizers.zero_grad()

    # -- the step -----------------------------------------------------------------------------------------------------

    def update(self, step: int) -> dict[str, float]:
        """One step. Returns its number, loss, gradient norm, and share of the peak learning rate."""
        self.model.train()
        self.clear()
        loss = self.backward(self.batch(step))
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0).item()
        self.optimizers.set_factor(self.factor(step))
        for optimizer in self.optimizers:
            optimizer.step()
        return {"step": step + 1, "loss": loss, "gradient_norm": norm, "factor": self.factor(step)}

    def backward(self, batch: Batch) -> float:
        """Gradients of the mean loss over all parts of a batch. Returns that mean."""
        total = 0.0
        for part in batch.split(self.accumulate):
            loss = self.loss_sum(self.model, part) / max(1, batch.num_targets)
            loss.backward()
            total += loss.item()
        return total

    def evaluate(self) -> float:
        """The loss on held-out sentences, at fixed masks, in nats."""
        self.model.eval()
        return mean_loss(self.model, self.held_out)

    def train(self, evaluate_every: int = 25) -> list[dict[str, float]]:
        """All steps; one record each. A loss that is no number ends the run."""
        records = []
        for step in range(self.steps):
            records.append(self.update(step))
            if not math.isfinite(records[-1]["loss"]):
                break
            if (step + 1) % evaluate_every == 0:
                records[-1]["held_out_loss"] = self.evaluate()
        return records

    def subject(self) -> Subject:
        """The run as the doctor sees it. Ask before the first step: learning rates are at their peaks then."""
        words = DATASET.tokenizer
        return Subject(
            model=self.model,
            stream=self.stream,
            loss_sum=self.loss_sum,
            optimizers=list(self.optimizers),
            schedule=self.factor,
            steps=self.steps,
            vocabulary_size=words.vocabulary_size,
            mask_id=words.mask_id,
            pad_id=words.pad_id,
            special_ids=words.special_ids,
            update=self.update,
            evaluate=self.evaluate,
            stream_of=None if self.batch_rows % 2 else self.stream_of,
            resumed=self.resumed,
            unknown_id=words.unknown_id,
        )


@dataclass(frozen=True)
class Patient:
    """A sick run and its diagnosis: the name of the doctor's first finding."""

    run: type[TrainingRun]
    diagnosis: str
