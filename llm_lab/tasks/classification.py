"""One label for a whole text: the task of a sorter. encode, loss, predict, score.

Letters: B batch, T tokens, C labels. A row asks at one place, so K = 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from llm_lab.model.heads import Classifier
from llm_lab.tasks.labelled import Example
from llm_lab.tasks.rows import Row, log_probabilities
from llm_lab.text.batches import Batch
from llm_lab.text.masking import IGNORED
from llm_lab.text.tokenizer import Tokenizer


class Prediction(NamedTuple):
    """The most probable label, and how probable the model finds it."""

    label: str
    probability: float


# -- encode -----------------------------------------------------------------------------------------------------------


def encode(examples: Sequence[Example], tokenizer: Tokenizer, row_length: int, labels: Sequence[str] = ()) -> list[Row]:
    """A row for each text, framed by [CLS] and [SEP]; what is longer than `row_length` tokens is cut, and marked so.

    The target is the label's place in `labels`, unless the example has none.
    """
    number = {label: i for i, label in enumerate(labels)}
    rows = []
    for i, ids in enumerate(tokenizer.encode_many([example.content for example in examples])):
        target = number[examples[i].answers[0]] if examples[i].answers else IGNORED
        cut = len(ids) > row_length
        rows.append(Row([*ids[: row_length - 1], tokenizer.sep_id] if cut else ids, [0], [target], i, cut))
    return rows


# -- loss -------------------------------------------------------------------------------------------------------------


def loss_sum(model: Classifier, batch: Batch) -> Tensor:
    """The sum of -log p(label) over the rows of a batch, in nats: a tensor without axes."""
    return model.loss_sum(batch.inputs, batch.positions, batch.targets, batch.mask)


# -- predict ----------------------------------------------------------------------------------------------------------


def predict(model: Classifier, rows: Sequence[Row], labels: Sequence[str], pad_id: int) -> list[Prediction]:
    """The best label for each row, in order."""
    guesses = (row[0].exp().max(dim=-1) for row in log_probabilities(model, rows, pad_id))
    return [Prediction(labels[int(best.indices)], float(best.values)) for best in guesses]


# -- score ------------------------------------------------------------------------------------------------------------


def score(model: Classifier, rows: Sequence[Row], labels: Sequence[str], pad_id: int) -> dict[str, float]:
    """Mean loss in nats, and the share of the rows whose best label is right."""
    log_p = torch.stack([row[0] for row in log_probabilities(model, rows, pad_id)])  # (N, C)
    target = torch.tensor([row.targets[0] for row in rows])
    return {
        "held_out_loss": -log_p.gather(1, target[:, None]).double().mean().item(),
        "held_out_accuracy": (log_p.argmax(dim=-1) == target).double().mean().item(),
    }
