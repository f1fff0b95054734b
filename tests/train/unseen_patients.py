"""Sick runs that the doctor has not seen: real bugs that are none of the ward's patients.

They were written without a look at the doctor's checks, and fixed before its first examination.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_lab.config import MaskingConfig
from llm_lab.model.block import gather_positions
from llm_lab.model.encoder import Encoder
from llm_lab.model.heads import MaskedLanguageModel
from llm_lab.tasks.masked_language_model import score
from llm_lab.text.batches import Batch, fixed_batches
from llm_lab.text.masking import IGNORED, choose_targets, gather_targets, random_noise
from llm_lab.train.optimizer import Optimizers, build_optimizers
from llm_lab.ward import DATASET, TrainingRun

WORDS = DATASET.tokenizer


class Changed:
    """A stream whose batches come from a function of the stream and the step."""

    def __init__(self, stream: Any, change: Callable[[Any, int], Batch]):
        self.stream, self.change = stream, change

    def batch(self, step: int) -> Batch:
        """Batch number `step`, changed."""
        return self.change(self.stream, step)


class ChangedRun(TrainingRun):
    """A run whose batches pass through `change`, in every process."""

    def change(self, stream: Any, step: int) -> Batch:
        """What becomes of batch `step`."""
        raise NotImplementedError

    def stream_of(self, rank: int, world_size: int) -> Any:
        """The stream of one of several processes."""
        return Changed(super().stream_of(rank, world_size), self.change)


class ByTheBook(MaskedLanguageModel):
    """A model whose loss is the cross-entropy of what its `forward` gives."""

    def loss_sum(self, ids: Tensor, positions: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
        """The sum of -log softmax(output)[target]."""
        output = self(ids, mask, positions).flatten(0, 1)
        return F.cross_entropy(output, targets.flatten(), ignore_index=IGNORED, reduction="sum")


class FirstBatchAgain(ChangedRun):
    """`next(iter(loader))` inside of the step makes a new iterator each time: every step gets the first batch."""

    def change(self, stream: Any, step: int) -> Batch:
        """The first batch."""
        return stream.batch(0)


class ForeignVocabulary(TrainingRun):
    """The vocabulary comes from another corpus: a third of the words, in training and evaluation, are [UNK]."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        rows = unknown(DATASET.held_out[:200])
        self.held_out = fixed_batches(rows, WORDS, DATASET.evaluation_masking, 100)

    def stream_of(self, rank: int, world_size: int) -> Any:
        """The stream of one of several processes, tokenized with the other vocabulary."""
        stream: Any = super().stream_of(rank, world_size)
        known = stream.ids_of
        stream.ids_of = lambda row: unknown(known(row))
        return stream


def unknown(ids: np.ndarray) -> np.ndarray:
    """Every third word is one that the vocabulary lacks."""
    return np.where((ids >= len(WORDS.special_ids)) & (ids % 3 == 0), WORDS.unknown_id, ids)


class LabelsAfterMasking(ChangedRun):
    """The labels are copied from the inputs after [MASK] was written into them: the right answer is always [MASK]."""

    def change(self, stream: Any, step: int) -> Batch:
        """Labels taken too late."""
        batch = stream.batch(step)
        late = batch.inputs.gather(1, batch.positions)
        return Batch(batch.inputs, batch.positions, late.masked_fill(batch.targets == IGNORED, IGNORED), batch.mask)


class KeepsInsteadOfHides(TrainingRun):
    """The draw is compared the wrong way round: 15% of the words stay and 85% are hidden."""

    masking = MaskingConfig(rate=1 - 0.15, selection="bernoulli")


class EveryWordCounts(ChangedRun):
    """The labels of the words that were not hidden are never set to -100: most targets stand in the input."""

    def change(self, stream: Any, step: int) -> Batch:
        """All words are targets, 30% are hidden."""
        ids = torch.from_numpy(stream.ids_of(stream.rows_of(step)[1]).astype(np.int64))
        noise = random_noise((len(ids), ids.shape[1]), torch.Generator().manual_seed(1000 * stream.rank + step))
        hidden = choose_targets(ids, self.masking, WORDS.special_ids, noise[0])
        special = torch.isin(ids, torch.tensor(WORDS.special_ids))
        labels = gather_targets(ids.masked_fill(special, IGNORED))
        return Batch(ids.masked_fill(hidden, WORDS.mask_id), *labels, ids != WORDS.pad_id)


class LeftOnly(TrainingRun):
    """The attention kept the causal mask of a GPT: a hidden word is guessed from the words to its left alone."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.model.encoder.__class__ = CausalEncoder


class CausalEncoder(Encoder):
    """Each token looks at itself and to the left."""

    def forward(self, ids: Tensor, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """As `Encoder.forward`."""
        x, length = self.embed(ids), ids.shape[1]
        allowed = torch.ones(length, length, dtype=torch.bool, device=ids.device).tril()
        allowed = allowed if mask is None else allowed & mask[:, None, None, :]
        for block in self.blocks:
            x = block(x, allowed, self.rotary(length))
        x = self.final_norm(x)
        return x if positions is None else gather_positions(x, positions)


class AcrossRows(TrainingRun):
    """`nn.TransformerEncoder` without `batch_first=True` gets (B, T, E): words attend to other rows."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.model = SequenceFirst(WORDS.vocabulary_size)
        self.optimizers = build_optimizers(self.model, "adamw", 2e-3, 0.01)


class SequenceFirst(nn.Module):
    """A masked language model of PyTorch's own parts. The padding mask was transposed until its shape fitted."""

    def __init__(self, vocabulary: int, width: int = 64):
        super().__init__()
        self.embedding, self.place = nn.Embedding(vocabulary, width), nn.Embedding(64, width)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.decoder = nn.Linear(width, vocabulary)

    def forward(self, ids: Tensor, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """Logits (B, T, V), or (B, K, V) at positions."""
        x = self.embedding(ids) + self.place(torch.arange(ids.shape[1], device=ids.device))
        x = self.layers(x, src_key_padding_mask=None if mask is None else ~mask.T)
        return self.decoder(x if positions is None else gather_positions(x, positions))

    loss_sum = ByTheBook.loss_sum


class BagOfWords(TrainingRun):
    """Positions were forgotten: attention alone knows no order, a sentence is a bag of words."""

    def __init__(self, **options: Any):
        super().__init__(positions="none", **options)


class SoftmaxTwice(TrainingRun):
    """The model ends in a softmax and the cross-entropy takes another one: the loss can't fall below ln V - 1 or so."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.model.__class__ = EndsInSoftmax


class EndsInSoftmax(ByTheBook):
    """Gives probabilities where logits are expected."""

    def forward(self, ids: Tensor, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """Probabilities (B, K, V)."""
        return super().forward(ids, mask, positions).softmax(dim=-1)


class ShiftedLabels(TrainingRun):
    """The loss shifts the labels by one, as for next-word prediction: what stands at t is compared to word t + 1."""

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        """The loss of a causal model's script."""
        return model.loss_sum(batch.inputs, (batch.positions - 1).clamp(min=0), batch.targets, batch.mask)


class SteppedTwice(TrainingRun):
    """Muon was added for the hidden matrices, but AdamW still holds all parameters: the matrices move twice a step."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        everything = build_optimizers(self.model, "adamw", self.learning_rate, 0.01).members
        self.optimizers = Optimizers([*everything, self.optimizers.members[-1]])


class FineTuningRate(TrainingRun):
    """The learning rate was copied from a fine-tuning script: 2e-5, hundreds of times too small to start from noise."""

    learning_rate = 2e-5


class EndlessWarmup(TrainingRun):
    """BERT's 10,000 steps of warm-up in a run of hundreds: it ends before the learning rate has come up."""

    def factor(self, step: int) -> float:
        """BERT's warm-up."""
        return min(1.0, (step + 1) / 10_000)


class SchedulePerEpoch(TrainingRun):
    """The scheduler is stepped after each epoch, not after each step: the rate stays at the warm-up's first value."""

    def update(self, step: int) -> dict[str, float]:
        """One step, at its epoch's learning rate."""
        real = self.optimizers.set_factor
        self.optimizers.set_factor = lambda factor: real(self.factor(step // 1000))  # type: ignore[method-assign]
        try:
            return super().update(step)
        finally:
            self.optimizers.set_factor = real  # type: ignore[method-assign]


class StaysInEvaluation(TrainingRun):
    """Nobody calls `model.train()` after an evaluation: from then on the run has no dropout."""

    def update(self, step: int) -> dict[str, float]:
        """One step, in whatever mode the model is."""
        self.optimizers.zero_grad()
        loss = self.backward(self.stream.batch(step))
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0).item()
        self.optimizers.set_factor(self.factor(step))
        for optimizer in self.optimizers:
            optimizer.step()
        return {"step": step + 1, "loss": loss, "gradient_norm": norm, "factor": self.factor(step)}


class ClearedEachPart(TrainingRun):
    """`zero_grad` stands inside of the accumulation: only the last of four parts moves the weights."""

    accumulate = 4

    def backward(self, batch: Batch) -> float:
        """Gradients of the last part."""
        total = 0.0
        for part in batch.split(self.accumulate):
            self.optimizers.zero_grad()
            loss = self.loss_sum(self.model, part) / max(1, batch.num_targets)
            loss.backward()
            total += loss.item()
        return total


class BitsInEvaluation(TrainingRun):
    """The held-out loss is in bits and the training loss in nats: they can't be compared."""

    def evaluate(self) -> float:
        """The held-out loss in bits."""
        return super().evaluate() / math.log(2)


class StaleCopy(TrainingRun):
    """What is evaluated is the averaged copy of the model, and nobody updates the average."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.average = copy.deepcopy(self.model)

    def evaluate(self) -> float:
        """The loss of the copy."""
        return score(self.average, self.held_out)["held_out_loss"]


class Unseen(NamedTuple):
    """A sick run, the part of training that is sick, and what a diagnosis has to say to count as named."""

    run: type[TrainingRun]
    area: str
    must_say: str


SICK = (
    Unseen(FirstBatchAgain, "data", "every step gets the same batch"),
    Unseen(ForeignVocabulary, "data", "a large share of the text is [UNK] (or: one special token)"),
    Unseen(LabelsAfterMasking, "masking", "the targets are [MASK] itself, not the hidden words"),
    Unseen(KeepsInsteadOfHides, "masking", "far too many words are hidden (85%)"),
    Unseen(EveryWordCounts, "masking", "most targets are visible in the inputs"),
    Unseen(LeftOnly, "model", "words to the right have no influence on the prediction"),
    Unseen(AcrossRows, "model", "rows influence each other (or: a row's own words have no influence)"),
    Unseen(BagOfWords, "model", "the order of the words makes no difference"),
    Unseen(SoftmaxTwice, "loss", "the model gives probabilities, not logits: softmax twice"),
    Unseen(ShiftedLabels, "loss", "the loss is not taken at the target's position: shifted by one"),
    Unseen(SteppedTwice, "optimizer", "some parameters belong to two optimizers"),
    Unseen(FineTuningRate, "optimizer", "the learning rate is far too small"),
    Unseen(EndlessWarmup, "schedule", "the warm-up is longer than the run: the peak is never reached"),
    Unseen(SchedulePerEpoch, "schedule", "the learning rate that is applied does not follow the schedule"),
    Unseen(StaysInEvaluation, "loop", "the model is in evaluation mode while it trains, so dropout is off"),
    Unseen(ClearedEachPart, "loop", "the update lacks gradients of most parts of the batch: cleared too often"),
    Unseen(BitsInEvaluation, "evaluation", "the held-out loss has another unit than nats: too large by 1.44"),
    Unseen(StaleCopy, "evaluation", "the evaluation does not see the model that trains"),
)
