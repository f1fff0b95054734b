"""Patients whose batches are wrong: what is hidden, what stands in its place, and which batch comes when."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from llm_lab.config import MaskingConfig
from llm_lab.text.batches import Batch
from llm_lab.text.masking import IGNORED, gather_targets
from llm_lab.train.loop import Stream
from llm_lab.ward.run import DATASET, StreamOf, TrainingRun

WORDS = DATASET.tokenizer
SPECIAL = torch.tensor(WORDS.special_ids)
RATE = TrainingRun.masking.rate


def drawn(ids: Tensor, share: float, generator: Generator) -> Tensor:
    """True at a random share of the places of ids (B, T)."""
    return torch.rand(ids.shape, generator=generator) < share


def is_word(ids: Tensor) -> Tensor:
    """True where ids (B, T) are words, and not [CLS], [SEP] or padding."""
    return ~torch.isin(ids, SPECIAL)


def random_words(ids: Tensor, generator: Generator) -> Tensor:
    """A word for every place of ids (B, T), each as probable as any other."""
    return torch.randint(len(SPECIAL), WORDS.vocabulary_size, ids.shape, generator=generator)


class OwnMasking(TrainingRun):
    """A healthy run that hides words by a method of its own, `hide`."""

    def hide(self, ids: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """ids (B, T) -> what the model sees, and True where it must guess, each (B, T)."""
        chosen = drawn(ids, RATE, generator) & is_word(ids)
        return ids.masked_fill(chosen, WORDS.mask_id), chosen

    def seed_of(self, step: int, ids: Tensor) -> int:
        """Where the masks of a batch start: other rows, other masks."""
        return int((ids * torch.arange(1, ids.numel() + 1).view_as(ids)).sum())

    def stream_of(self, rank: int, world_size: int) -> Stream:
        """The rows of the plain stream, hidden anew."""
        plain = DATASET.stream(self.masking, self.batch_rows, self.seed, rank, world_size)

        def batch(step: int) -> Batch:
            ids = torch.from_numpy(plain.ids_of(plain.rows_of(step)[1]).astype(np.int64))
            generator = Generator().manual_seed(self.seed_of(step, ids))
            inputs, chosen = self.hide(ids, generator)
            return Batch(inputs, *gather_targets(ids.masked_fill(~chosen, IGNORED)), ids != WORDS.pad_id)

        return StreamOf(batch)


class SpecialsHidden(OwnMasking):
    """[CLS] and [SEP] are hidden like words; where they stand is no secret."""

    def hide(self, ids: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Everything but padding may be chosen."""
        chosen = drawn(ids, RATE, generator) & (ids != WORDS.pad_id)
        return ids.masked_fill(chosen, WORDS.mask_id), chosen


class SpecialReplacements(OwnMasking):
    """BERT's mixture, but the random words come from the whole vocabulary: [PAD], [SEP] and [MASK] are among them."""

    def hide(self, ids: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """80% [MASK], 10% any token, 10% the word itself."""
        chosen = drawn(ids, RATE, generator) & is_word(ids)
        decision = torch.rand(ids.shape, generator=generator)
        anything = torch.randint(WORDS.vocabulary_size, ids.shape, generator=generator)
        inputs = torch.where(chosen & (decision < 0.8), WORDS.mask_id, ids)
        return torch.where(chosen & (decision >= 0.8) & (decision < 0.9), anything, inputs), chosen


class TwoDraws(OwnMasking):
    """10% become random words; then 10% of the rest stay as they are, instead of 10% of all: 81, 10, 9."""

    def hide(self, ids: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Two draws, one after the other, where one should decide."""
        chosen = drawn(ids, RATE, generator) & is_word(ids)
        is_random = drawn(ids, 0.1, generator)
        is_kept = drawn(ids, 0.1, generator) & ~is_random
        inputs = torch.where(chosen & is_random, random_words(ids, generator), ids)
        return torch.where(chosen & ~is_random & ~is_kept, WORDS.mask_id, inputs), chosen


class SharedMasks(OwnMasking):
    """The masks are a function of the step alone: every process hides the same places of its rows."""

    def seed_of(self, step: int, ids: Tensor) -> int:
        """The step, whatever the rows."""
        return step


class GlobalGenerator(OwnMasking):
    """The masks come from NumPy's global generator, which every other line of the program moves on."""

    def hide(self, ids: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """A share of the words, other ones at each call."""
        chosen = torch.from_numpy(np.random.rand(*ids.shape) < RATE) & is_word(ids)
        return ids.masked_fill(chosen, WORDS.mask_id), chosen


class ResumeRepeats(TrainingRun):
    """The checkpoint holds the weights, not the stream's place: after each restart the first batches come again."""

    restart_every = 10  # steps

    def resumed(self, step: int) -> Stream:
        """Batch 0 once more, whatever the step."""
        plain = self.stream
        return StreamOf(lambda s: plain.batch(s - step))

    def batch(self, step: int) -> Batch:
        """The batch of a run that was restarted at the last multiple of `restart_every`."""
        return self.resumed(step - step % self.restart_every).batch(step)


class NoTargets(TrainingRun):
    """Few words are hidden in few rows, and now and then none: the mean of nothing is NaN."""

    masking = MaskingConfig(rate=0.05, selection="bernoulli")

    def __init__(self, **options: Any):
        super().__init__(**{**options, "batch_rows": 4})

    def backward(self, batch: Batch) -> float:
        """Gradients of `cross_entropy`'s own mean, 0 / 0 where nothing is hidden."""
        logits = self.model(batch.inputs, batch.mask, batch.positions)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
        loss.backward()
        return loss.item()
