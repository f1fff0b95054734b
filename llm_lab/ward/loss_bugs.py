"""Patients whose loss is wrong: what is counted, and by what it is divided."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_lab.text.batches import Batch
from llm_lab.text.masking import IGNORED
from llm_lab.ward.run import DATASET, TrainingRun


class IgnoredWord(TrainingRun):
    """`ignore_index` is the id of a word: the full stop is never learnt."""

    def loss_sum(self, model: nn.Module, batch: Batch) -> Tensor:
        """The filler gets the full stop's id, so that one `ignore_index` leaves out both."""
        stop = DATASET.tokenizer.id_of(".")
        labels = torch.where(batch.targets == IGNORED, stop, batch.targets)
        logits = model(batch.inputs, batch.mask, batch.positions)
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=stop, reduction="sum")


class ScalarMask(TrainingRun):
    """The loss is averaged first and multiplied by the mask afterwards: the filler counts as if it were a word."""

    def loss_sum(self, model: nn.Module, batch: Batch) -> Tensor:
        """A mean over all places, times the mask, summed."""
        logits = model(batch.inputs, batch.mask, batch.positions)
        is_target = (batch.targets != IGNORED).float()
        mean = F.cross_entropy(logits.flatten(0, 1), batch.targets.clamp(min=0).flatten())
        return (mean * is_target).sum()


class MeanOfMeans(TrainingRun):
    """Each of four parts of a batch is averaged by itself, so a word in a part of short sentences counts more."""

    accumulate = 4

    def backward(self, batch: Batch) -> float:
        """Each part's loss is divided by its own targets, then by the number of parts."""
        total = 0.0
        for part in batch.split(self.accumulate):
            loss = self.loss_sum(self.model, part) / max(1, part.num_targets) / self.accumulate
            loss.backward()
            total += loss.item()
        return total
