"""Guessing hidden words: the task that pretrains the encoder. encode, loss, predict, score.

Letters: B batch, T tokens, K targets of a row, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from llm_lab.model.heads import MaskedLanguageModel
from llm_lab.text.batches import Batch
from llm_lab.text.masking import IGNORED
from llm_lab.text.tokenizer import Tokenizer


class FillError(ValueError):
    """A sentence that can't be filled; the message says what to change."""


class Guess(NamedTuple):
    """One word for a blank, and how probable the model finds it."""

    word: str
    probability: float


# -- encode -----------------------------------------------------------------------------------------------------------


def encode(text: str, tokenizer: Tokenizer, max_length: int) -> Tensor:
    """One text as a row of ids, (1, T). Raises FillError when it is empty or longer than the model's rows."""
    if not text.strip():
        raise FillError("the sentence is empty: write one with a [MASK] in it.")
    ids = tokenizer.encode(text)
    if len(ids) > max_length:
        raise FillError(f"the text has {len(ids):,} tokens, this model reads at most {max_length}: shorten it.")
    return torch.tensor([ids])


# -- loss -------------------------------------------------------------------------------------------------------------


def loss_sum(model: MaskedLanguageModel, batch: Batch) -> Tensor:
    """The sum of -log p(hidden word) over the targets of a batch, in nats: a tensor without axes."""
    return model.loss_sum(batch.inputs, batch.positions, batch.targets, batch.mask)


# -- predict ----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def fill(model: MaskedLanguageModel, tokenizer: Tokenizer, text: str, top: int = 5) -> list[list[Guess]]:
    """The `top` most probable words for each [MASK] of a text, most probable first.

    Special tokens are not words and get no probability. Raises FillError when there is no [MASK].
    """
    if "[MASK]" not in text and text.strip():
        raise FillError("the sentence has no [MASK]: write [MASK], in capitals and brackets, where a word is missing.")
    ids = encode(text, tokenizer, model.config.max_length)
    blanks = (ids[0] == tokenizer.mask_id).nonzero().T
    device = next(model.parameters()).device
    model.eval()
    logits = model(ids.to(device), positions=blanks.to(device))[0].float()
    logits[:, list(tokenizer.special_ids)] = -torch.inf
    best = logits.softmax(dim=-1).topk(min(top, logits.shape[-1] - len(tokenizer.special_ids)))
    return [
        [Guess(tokenizer.token_of(i), p) for i, p in zip(indices, values, strict=True)]
        for indices, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def unknown_words(tokenizer: Tokenizer, text: str) -> list[str]:
    """The words of a text that the vocabulary can't spell; the model sees [UNK] in their place."""
    return [word for word in text.split() if tokenizer.unknown_id in tokenizer.encode(word)]


# -- score ------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def score(model: MaskedLanguageModel, batches: Iterable[Batch]) -> dict[str, float]:
    """Mean loss in nats and share of right guesses over the targets of fixed batches."""
    model.eval()
    device = next(model.parameters()).device
    nats, right, count = 0.0, 0, 0
    for batch in batches:
        batch = batch.to(device)
        logits = model(batch.inputs, batch.mask, batch.positions).float()
        is_target = batch.targets != IGNORED
        nats += F.cross_entropy(logits[is_target], batch.targets[is_target], reduction="sum").item()
        right += int((logits.argmax(dim=-1) == batch.targets)[is_target].sum())
        count += int(is_target.sum())
    _require_words(count)
    return {"held_out_loss": nats / count, "held_out_accuracy": right / count}


@torch.no_grad()
def pseudo_perplexity(model: MaskedLanguageModel, tokenizer: Tokenizer, texts: Sequence[str]) -> float:
    """exp of the mean -log p(token | all other tokens), each token hidden alone in turn; arXiv 1910.14659.

    A text longer than the model's rows is cut. It can't be compared with a causal model's perplexity, which sees the
    left side only.
    """
    model.eval()
    device = next(model.parameters()).device
    nats, count = 0.0, 0
    for text in texts:
        ids = torch.tensor(tokenizer.encode(text)[: model.config.max_length])
        positions = (~torch.isin(ids, torch.tensor(tokenizer.special_ids))).nonzero()[:, 0]
        for chunk in positions.split(64):
            rows = ids.repeat(len(chunk), 1)
            rows[torch.arange(len(chunk)), chunk] = tokenizer.mask_id
            logits = model(rows.to(device), positions=chunk[:, None].to(device))[:, 0].float()
            nats += F.cross_entropy(logits, ids[chunk].to(device), reduction="sum").item()
            count += len(chunk)
    _require_words(count)
    return math.exp(nats / count)


def _require_words(count: int) -> None:
    if count == 0:
        raise ValueError("no word of this text is in the model's vocabulary: give text of the kind it was trained on.")
