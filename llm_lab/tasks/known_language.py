"""How far a model is from the best possible one: floor and excess on a known language, in nats a target.

Letters: B batch, T tokens, N targets, V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from llm_lab.config import MaskingConfig
from llm_lab.model.heads import MaskedLanguageModel
from llm_lab.text.batches import Batch, fixed_batches
from llm_lab.text.language import PAD
from llm_lab.text.masking import IGNORED
from llm_lab.text.optimum import Estimate, best_guesses, clustered
from llm_lab.text.sentences import HELD_OUT, SentenceDataset

BATCH = 250  # sentences


class Comparison(NamedTuple):
    """A model held against the oracle on the same masked sentences. `excess` is KL(best || model)."""

    floor: Estimate
    excess: Estimate
    floor_by_kind: dict[str, Estimate]
    excess_by_kind: dict[str, Estimate]


@torch.no_grad()
def log_guesses(model: MaskedLanguageModel, batch: Batch) -> Tensor:
    """The model's log-probabilities at the targets of a batch, row by row, (N, V), on the CPU."""
    batch = batch.to(next(model.parameters()).device)
    logits = model.eval()(batch.inputs, batch.mask, batch.positions).float()
    return logits.log_softmax(dim=-1)[batch.targets != IGNORED].cpu()


def compare(
    model: MaskedLanguageModel,
    dataset: SentenceDataset,
    sentences: int | None = None,
    masking: MaskingConfig | None = None,
) -> Comparison:
    """Floor and excess on the held-out sentences (all, or the first few), by dependency kind as well.

    The masks are the fixed ones of every evaluation; `masking` asks for another rate or scheme.
    """
    language, masking = dataset.language, masking or dataset.evaluation_masking
    rows = dataset.held_out[:sentences]
    entropy, excess, row, kind = [], [], [], []
    labelled = torch.from_numpy(language.labelled(len(dataset.held_out), HELD_OUT).kinds)[:sentences]
    for number, batch in enumerate(fixed_batches(rows, dataset.tokenizer, masking, BATCH)):
        inputs, labels = unframed(batch)
        p = best_guesses(language, inputs, labels, masking.rate, masking.scheme)
        log_q = log_guesses(model, batch).double()
        entropy.append(torch.special.entr(p).sum(dim=-1))
        excess.append(-(p * log_q).sum(dim=-1) - entropy[-1])
        is_target = labels != IGNORED
        row.append(is_target.nonzero()[:, 0] + number * BATCH)
        kind.append(labelled[number * BATCH :][: len(labels), : labels.shape[1]][is_target])
    entropies, excesses, rows_of, kinds = (torch.cat(parts) for parts in (entropy, excess, row, kind))

    def by_kind(values: Tensor) -> dict[str, Estimate]:
        present = [(k, name) for k, name in enumerate(language.kinds) if (kinds == k).any()]
        return {name: clustered(values[kinds == k], rows_of[kinds == k]) for k, name in present}

    return Comparison(
        clustered(entropies, rows_of), clustered(excesses, rows_of), by_kind(entropies), by_kind(excesses)
    )


def unframed(batch: Batch) -> tuple[Tensor, Tensor]:
    """What a language knows of a batch: inputs and dense labels without `[CLS]` and `[SEP]`, each (B, T - 2)."""
    real = (batch.inputs != PAD).sum(dim=1, keepdim=True) - 2  # words of each sentence
    inputs = batch.inputs[:, 1:-1]
    place = torch.arange(inputs.shape[1])
    labels = torch.full_like(batch.inputs, IGNORED)
    keep = batch.targets != IGNORED
    row = keep.nonzero()[:, 0]
    labels[row, batch.positions[keep]] = batch.targets[keep]
    return inputs.masked_fill(place >= real, PAD), labels[:, 1:-1]
