"""The patients of lesson 11: one small healthy run, and classic bugs put into it, one a patient.

A `Ward` is a training run in plain parts that a bug can replace. It is short on purpose, like the scripts in which
these bugs live, and it trains on the known language, so that the loss it should reach is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_lab.config import MaskingConfig, ModelConfig
from llm_lab.model.heads import MaskedLanguageModel
from llm_lab.tasks.masked_language_model import loss_sum, score
from llm_lab.text.batches import Batch, MaskedStream, fixed_batches
from llm_lab.text.grammar import hard_language
from llm_lab.text.masking import IGNORED, gather_targets, random_noise
from llm_lab.text.sentences import SentenceDataset
from llm_lab.train.doctor import Subject
from llm_lab.train.loop import LossSum
from llm_lab.train.optimizer import build_optimizers
from llm_lab.train.schedule import learning_rate_factor

DATASET = SentenceDataset(hard_language())
MIXTURE = MaskingConfig(rate=0.3, scheme="80/10/10", selection="bernoulli")
EVALUATED = 200  # sentences


class TrainingRun:
    """Model, stream, loss, optimizer and schedule, and the step that joins them. Bugs replace its methods and parts."""

    learning_rate = 1e-2

    def __init__(self, steps: int = 300, seed: int = 0, batch_rows: int = 32, **shape: Any):
        torch.manual_seed(seed)
        self.steps, self.seed, self.batch_rows = steps, seed, batch_rows
        self.masking = MaskingConfig(rate=0.3, selection="bernoulli")
        sizes = {"width": 64, "num_layers": 2, "feed_forward_width": 176, "dropout": 0.1, "max_length": 64}
        vocabulary = DATASET.tokenizer.vocabulary_size
        self.model: Any = MaskedLanguageModel(ModelConfig(vocabulary_size=vocabulary, **{**sizes, **shape}))
        self.stream: Any = DATASET.stream(self.masking, batch_rows, seed)
        self.loss_sum: LossSum = loss_sum  # type: ignore[assignment]
        self.optimizers = build_optimizers(self.model, "muon", self.learning_rate, 0.01)
        self.accumulate = 1
        self.held_out = fixed_batches(DATASET.held_out[:EVALUATED], DATASET.tokenizer, DATASET.evaluation_masking, 100)

    def factor(self, step: int) -> float:
        """The share of the peak learning rate at a step."""
        return learning_rate_factor(step, self.steps, 0.1, 0.4)

    def update(self, step: int) -> dict[str, float]:
        """One step. Returns its loss, learning rate and gradient norm."""
        self.model.train()
        self.optimizers.zero_grad()
        loss = self.backward(self.stream.batch(step))
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
        """The loss on the held-out sentences, at fixed masks."""
        return score(self.model, self.held_out)["held_out_loss"]  # type: ignore[arg-type]

    def subject(self) -> Subject:
        """The run as the doctor sees it."""
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
            stream_of=self.stream_of,
            resumed=self.resumed,
        )

    def stream_of(self, rank: int, world_size: int) -> Any:
        """The stream of one of several processes."""
        return DATASET.stream(self.masking, self.batch_rows, self.seed, rank, world_size)

    def resumed(self, step: int) -> Any:
        """The stream of a run that is taken up at a step."""
        return self.stream

    def train(self, evaluate_every: int = 25) -> list[dict[str, float]]:
        """All steps. A loss that is no number ends the run."""
        records = []
        for step in range(self.steps):
            records.append(self.update(step))
            if not math.isfinite(records[-1]["loss"]):
                break
            if (step + 1) % evaluate_every == 0:
                records[-1]["held_out_loss"] = self.evaluate()
        return records


class OtherStream:
    """A stream whose batches pass through a function."""

    def __init__(self, stream: MaskedStream, change: Callable[[int, Batch], Batch]):
        self.stream, self.change = stream, change

    def batch(self, step: int) -> Batch:
        """Batch number `step`, changed."""
        return self.change(step, self.stream.batch(step))


def remasked(stream: MaskedStream, step: int, mask: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Batch:
    """Batch `step` masked by other hands: `mask` takes ids (B, T) and gives inputs and targets (B, T) bool."""
    ids = torch.from_numpy(stream.ids_of(stream.rows_of(step)[1]).astype(np.int64))
    inputs, targets = mask(ids)
    positions, labels = gather_targets(ids.masked_fill(~targets, IGNORED))
    return Batch(inputs, positions, labels, ids != DATASET.tokenizer.pad_id)


# -- the patients -----------------------------------------------------------------------------------------------------


class MaskPolarity(TrainingRun):
    """The mask says True for padding, as `key_padding_mask` of `nn.MultiheadAttention` wants it."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        forward = MaskedLanguageModel.forward

        class Inverted(MaskedLanguageModel):
            def forward(self, ids: Tensor, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
                return forward(self, ids, None if mask is None else ~mask, positions)

            def loss_sum(self, ids: Tensor, positions: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
                return super().loss_sum(ids, positions, targets, None if mask is None else ~mask)

        self.model.__class__ = Inverted


class EmptyRow(TrainingRun):
    """Softmax over a row of minus infinities, when a document of nothing but padding comes along."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        for block in self.model.encoder.blocks:
            block.attention.forward = eager_attention(block.attention)
        self.stream = OtherStream(self.stream, self._with_empty_row)

    def _with_empty_row(self, step: int, batch: Batch) -> Batch:
        if batch.mask is None or step % 90 != 89:
            return batch
        mask = batch.mask.clone()
        mask[0] = False
        return replace(batch, mask=mask)


def eager_attention(attention: nn.Module) -> Callable[..., Tensor]:
    """Attention as the formula is printed: nothing keeps an empty row from becoming NaN."""

    def forward(
        x: Tensor, source: Tensor, mask: Any = None, rotary: Any = None, query_rotary: Any = None, bias: Any = None
    ):  # noqa: E501
        query, key = attention._queries_and_keys(x, source, rotary, query_rotary)  # type: ignore[operator]
        scores = query @ key.mT / math.sqrt(query.shape[-1])
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf)
        value = attention._heads(attention.value(source))  # type: ignore[operator]
        return attention.output((scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2))  # type: ignore[operator]

    return forward


class NoTargets(TrainingRun):
    """Few words are hidden in few rows, and now and then none: the mean of nothing is NaN."""

    def __init__(self, **options: Any):
        super().__init__(**{**options, "batch_rows": 4})
        self.masking = MaskingConfig(rate=0.05, selection="bernoulli")
        self.stream = DATASET.stream(self.masking, 4, self.seed)

    def backward(self, batch: Batch) -> float:
        logits = self.model(batch.inputs, batch.mask, batch.positions)
        loss = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
        loss.backward()
        return loss.item()


class IgnoredWord(TrainingRun):
    """`ignore_index` is a word's id: here the full stop is never learnt."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        stop = DATASET.tokenizer.id_of(".")

        def loss(model: nn.Module, batch: Batch) -> Tensor:
            logits = model(batch.inputs, batch.mask, batch.positions).flatten(0, 1)
            labels = batch.targets.flatten().masked_fill(batch.targets.flatten() == IGNORED, stop)
            return F.cross_entropy(logits, labels, ignore_index=stop, reduction="sum")

        self.loss_sum = loss


class MeanOfMeans(TrainingRun):
    """Each of four parts of a batch is averaged by itself, so a word in a part of short sentences counts more."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.accumulate = 4

    def backward(self, batch: Batch) -> float:
        total = 0.0
        for part in batch.split(self.accumulate):
            loss = self.loss_sum(self.model, part) / max(1, part.num_targets) / self.accumulate
            loss.backward()
            total += loss.item()
        return total


class SpecialsHidden(TrainingRun):
    """[CLS] and [SEP] are hidden like words; where they stand is no secret."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        plain, words = self.stream, DATASET.tokenizer

        def mask(ids: Tensor) -> tuple[Tensor, Tensor]:
            noise = random_noise(tuple(ids.shape), torch.Generator().manual_seed(int(ids.sum())))[0]  # type: ignore[arg-type]
            targets = (noise < 0.3) & (ids != words.pad_id)
            return ids.masked_fill(targets, words.mask_id), targets

        self.stream = OtherStream(plain, lambda step, _: remasked(plain, step, mask))


class SpecialReplacements(TrainingRun):
    """Random words are drawn from the whole vocabulary, [PAD], [SEP] and [MASK] among them."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        plain, words = self.stream, DATASET.tokenizer

        def mask(ids: Tensor) -> tuple[Tensor, Tensor]:
            generator = torch.Generator().manual_seed(int(ids.sum()))
            choice, decision, draw = random_noise(tuple(ids.shape), generator)  # type: ignore[arg-type]
            targets = (choice < 0.3) & ~torch.isin(ids, torch.tensor(words.special_ids))
            inputs = torch.where(targets & (decision < 0.8), words.mask_id, ids)
            drawn = (draw * words.vocabulary_size).long()
            return torch.where(targets & (decision >= 0.8) & (decision < 0.9), drawn, inputs), targets

        self.stream = OtherStream(plain, lambda step, _: remasked(plain, step, mask))


class TwoDraws(TrainingRun):
    """80% and 10% are drawn one after the other, and the second draw also hits what the first one hid."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        plain, words = self.stream, DATASET.tokenizer

        def mask(ids: Tensor) -> tuple[Tensor, Tensor]:
            generator = torch.Generator().manual_seed(int(ids.sum()))
            choice, first, second = random_noise(tuple(ids.shape), generator)  # type: ignore[arg-type]
            draw = torch.rand(ids.shape, generator=generator)
            targets = (choice < 0.3) & ~torch.isin(ids, torch.tensor(words.special_ids))
            ordinary = len(words.special_ids) + (draw * (words.vocabulary_size - len(words.special_ids))).long()
            inputs = torch.where(targets & (second < 0.1), ordinary, ids)
            inputs = torch.where(targets & (first < 0.81), words.mask_id, inputs)
            return inputs, targets

        self.stream = OtherStream(plain, lambda step, _: remasked(plain, step, mask))


class SharedMasks(TrainingRun):
    """The masks are a function of the step alone: every process hides the same places of its rows."""

    def stream_of(self, rank: int, world_size: int) -> Any:
        plain, words = DATASET.stream(self.masking, self.batch_rows, self.seed, rank, world_size), DATASET.tokenizer

        def change(step: int, _: Batch) -> Batch:
            def mask(ids: Tensor) -> tuple[Tensor, Tensor]:
                noise = random_noise(tuple(ids.shape), torch.Generator().manual_seed(step))[0]  # type: ignore[arg-type]
                targets = (noise < 0.3) & ~torch.isin(ids, torch.tensor(words.special_ids))
                return ids.masked_fill(targets, words.mask_id), targets

            return remasked(plain, step, mask)

        return OtherStream(plain, change)


class GlobalGenerator(TrainingRun):
    """The masks come from NumPy's global generator, which every other line of the program moves on."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        plain, words = self.stream, DATASET.tokenizer

        def mask(ids: Tensor) -> tuple[Tensor, Tensor]:
            special = torch.isin(ids, torch.tensor(words.special_ids))
            targets = torch.from_numpy(np.random.rand(*ids.shape) < 0.3) & ~special
            return ids.masked_fill(targets, words.mask_id), targets

        self.stream = OtherStream(plain, lambda step, _: remasked(plain, step, mask))


class LayerInForward(TrainingRun):
    """A layer is built inside forward: new random weights at every call, and no optimizer knows them."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        feed_forward = self.model.encoder.blocks[0].feed_forward
        inner = feed_forward.forward

        def forward(x: Tensor) -> Tensor:
            return nn.Linear(x.shape[-1], x.shape[-1])(inner(x))

        feed_forward.forward = forward


class DropoutInEvaluation(TrainingRun):
    """Nobody calls `model.eval()` before the held-out loss."""

    def __init__(self, **options: Any):
        super().__init__(**{**options, "dropout": 0.3})

    def evaluate(self) -> float:
        with torch.no_grad():
            sums = [self.loss_sum(self.model.train(), batch).item() for batch in self.held_out]
        return sum(sums) / sum(batch.num_targets for batch in self.held_out)


class FreshEvaluationMasks(TrainingRun):
    """Each evaluation hides other words of few sentences; the curve jumps, and one can't say which model is better."""

    def evaluate(self) -> float:
        self.asked = getattr(self, "asked", 0) + 1
        rows = DATASET.held_out[:20]
        batches = fixed_batches(rows, DATASET.tokenizer, DATASET.evaluation_masking, 20, seed=self.asked)
        return score(self.model, batches)["held_out_loss"]  # type: ignore[arg-type]


class SchedulePerPart(TrainingRun):
    """The scheduler steps once a micro-batch, four times as often as the optimizer."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.accumulate = 4

    def factor(self, step: int) -> float:
        return super().factor(step * self.accumulate)


class PastTheEnd(TrainingRun):
    """The schedule is a straight line, and the run goes on past its end: the learning rate turns negative."""

    def factor(self, step: int) -> float:
        return min((step + 1) / 30, 1 - step / (0.7 * self.steps))


class ScalarMask(TrainingRun):
    """The loss is averaged first and multiplied by the mask afterwards: visible words count as if they were hidden."""

    def __init__(self, **options: Any):
        super().__init__(**options)

        def loss(model: nn.Module, batch: Batch) -> Tensor:
            logits = model(batch.inputs, batch.mask, batch.positions)
            is_target = (batch.targets != IGNORED).float()
            mean = F.cross_entropy(logits.flatten(0, 1), batch.targets.clamp(min=0).flatten())
            return (mean * is_target).sum()

        self.loss_sum = loss


class RateTooHigh(TrainingRun):
    """The learning rate is 30 times too large; the loss stops at the unigram's and stays there."""

    learning_rate = 0.3


class NeverCleared(TrainingRun):
    """`zero_grad` is missing: every step moves along the sum of all gradients since the start."""

    def update(self, step: int) -> dict[str, float]:
        keep, self.optimizers.zero_grad = self.optimizers.zero_grad, lambda: None  # type: ignore[method-assign]
        try:
            return super().update(step)
        finally:
            self.optimizers.zero_grad = keep  # type: ignore[method-assign]


class ResumeRepeats(TrainingRun):
    """The checkpoint holds the weights and not the stream's place: after each restart the same first batches come."""

    restart_every = 10

    def resumed(self, step: int) -> Any:
        plain = self.stream
        return OtherStream(plain, lambda s, _: plain.batch(s - step))

    def update(self, step: int) -> dict[str, float]:
        plain = self.stream
        self.stream = self.resumed(step - step % self.restart_every)
        try:
            return super().update(step)
        finally:
            self.stream = plain


class Orphaned(TrainingRun):
    """A part of the model is replaced after the optimizer was built: it will never move."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        old = self.model.encoder.embedding
        self.model.encoder.embedding = nn.Embedding(*old.weight.shape)
        nn.init.normal_(self.model.encoder.embedding.weight, std=0.02)


@dataclass(frozen=True)
class Patient:
    """A sick run and its diagnosis, the name of the doctor's finding."""

    run: type[TrainingRun]
    diagnosis: str


PATIENTS = {
    patient.run.__name__: patient
    for patient in (
        Patient(MaskPolarity, "mask upside down"),
        Patient(EmptyRow, "empty row gives NaN"),
        Patient(NoTargets, "batch without a target"),
        Patient(IgnoredWord, "a word is ignored"),
        Patient(MeanOfMeans, "mean of means"),
        Patient(SpecialsHidden, "special tokens hidden"),
        Patient(SpecialReplacements, "special tokens as random words"),
        Patient(TwoDraws, "mixture"),
        Patient(SharedMasks, "ranks draw the same masks"),
        Patient(GlobalGenerator, "batches not repeatable"),
        Patient(LayerInForward, "model not repeatable"),
        Patient(DropoutInEvaluation, "dropout in evaluation"),
        Patient(FreshEvaluationMasks, "evaluation not repeatable"),
        Patient(SchedulePerPart, "schedule ends early"),
        Patient(PastTheEnd, "negative learning rate"),
        Patient(ScalarMask, "mask times a scalar"),
        Patient(RateTooHigh, "learning rate too large"),
        Patient(NeverCleared, "gradients not cleared"),
        Patient(ResumeRepeats, "resume loses its place"),
        Patient(Orphaned, "parameters without optimizer"),
    )
}
