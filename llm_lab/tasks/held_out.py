"""The exam: held-out text, masked once and for all, and what a model answers at each hidden place.

Letters: B rows, T tokens, K targets of a row, N targets of all batches, V vocabulary. Answers stand in the order of
the batches, row by row, so that two models' answers to one exam can be compared target by target.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from llm_lab import metrics
from llm_lab.config import MaskingConfig
from llm_lab.text.batches import Batch, fixed_batches
from llm_lab.text.dataset import Dataset
from llm_lab.text.masking import IGNORED
from llm_lab.text.sentences import SentenceDataset

EVALUATION_BATCH = 64  # rows
SHOWN = ("[MASK]", "random word", "the word itself")  # what stands at a target


class Answers(NamedTuple):
    """What a model says at each target, (N,) each, on the CPU."""

    nats: Tensor  # -log p(hidden word), float64
    right: Tensor  # the most probable word is the hidden one
    confidence: Tensor  # the probability of the most probable word, float64
    expected: Tensor  # the nats that the model itself expects to pay: the entropy of its guess, float64


def held_out_batches(
    dataset: Dataset | SentenceDataset, rows: int | None = None, masking: MaskingConfig | None = None, seed: int = 0
) -> list[Batch]:
    """The held-out rows, or `rows` of them spread over all, hidden by fixed masks: those of every evaluation, 15% of
    the words, unless `masking` or `seed` asks for others.
    """
    chosen = dataset.held_out[chosen_rows(len(dataset.held_out), rows)]
    return fixed_batches(chosen, dataset.tokenizer, masking or dataset.evaluation_masking, EVALUATION_BATCH, seed)


def chosen_rows(have: int, rows: int | None) -> slice:
    """Which of `have` rows `held_out_batches` takes: all, or `rows` of them spread over all."""
    return slice(None) if rows is None or rows >= have else slice(0, have // rows * rows, have // rows)


def documents_of(dataset: Dataset | SentenceDataset, batches: Sequence[Batch], rows: int | None = None) -> Tensor:
    """The number of the held-out document, or sentence, that each target of `held_out_batches(dataset, rows)` is in,
    (N,). A document begins with [CLS] and may run over several rows.
    """
    number = np.cumsum(dataset.held_out == dataset.tokenizer.cls_id).reshape(dataset.held_out.shape) - 1
    pieces = torch.from_numpy(number[chosen_rows(len(number), rows)]).split([len(batch.inputs) for batch in batches])
    found = [
        piece[:, : batch.inputs.shape[1]].gather(1, batch.positions)[batch.targets != IGNORED]
        for piece, batch in zip(pieces, batches, strict=True)
    ]
    return torch.cat(found)


@torch.no_grad()
def answers(model: nn.Module, batches: Sequence[Batch]) -> Answers:
    """A model's answers at the targets of fixed batches. Raises ValueError when there is no target."""
    model.eval()
    device = next(model.parameters()).device
    found = []
    for batch in batches:
        batch = batch.to(device)
        keep = batch.targets != IGNORED
        log_p = model(batch.inputs, batch.mask, batch.positions)[keep].float().log_softmax(dim=-1)
        best, word = log_p.max(dim=-1)
        targets = batch.targets[keep]
        nats, expected = -log_p.gather(1, targets[:, None])[:, 0], -(log_p.exp() * log_p).sum(dim=-1)
        found.append(torch.stack((nats, (word == targets).float(), best.exp(), expected)).cpu().double())
    nats, right, confidence, expected = torch.cat(found, dim=1) if found else torch.zeros(4, 0)
    if not len(nats):
        raise ValueError("no word of this text is in the model's vocabulary: give text of the kind it was trained on.")
    return Answers(nats, right.bool(), confidence, expected)


def shown_at(batches: Sequence[Batch], mask_id: int) -> Tensor:
    """What stands at each target of fixed batches, (N,): an index into `SHOWN`."""
    found = []
    for batch in batches:
        keep = batch.targets != IGNORED
        seen, target = batch.inputs.gather(1, batch.positions)[keep], batch.targets[keep]
        found.append(torch.where(seen == mask_id, 0, torch.where(seen == target, 2, 1)))
    return torch.cat(found)


def exam_result(found: Answers, document: Tensor) -> dict[str, Any]:
    """Loss and accuracy, their 95% intervals [low, high] over documents (N,), and how many targets and documents."""
    measured: dict[str, Any] = {"targets": len(found.nats), "documents": len(document.unique())}
    for name, values in (("held_out_loss", found.nats), ("held_out_accuracy", found.right.double())):
        measured[name] = float(values.mean())
        if measured["documents"] > 1:  # one document tells nothing of another
            measured[f"{name}_interval"] = list(metrics.bootstrap(values, document)[1:])
    return measured


def unigram_loss(dataset: Dataset | SentenceDataset, batches: Sequence[Batch]) -> float:
    """What word frequencies alone pay at the targets, in nats."""
    targets = torch.cat([batch.targets[batch.targets != IGNORED] for batch in batches])
    return float(-np.log(dataset.unigram[targets.numpy()]).mean())
