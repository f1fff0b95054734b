"""A tag for each word of a sentence: what is a name, what is code. encode, loss, predict, score.

Letters: B batch, T tokens, K words of a row, C tags. A word's first subword carries its tag, the others carry none. A
sentence that is longer than a row goes on in the next, so no word is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from llm_lab.model.heads import Classifier
from llm_lab.tasks.labelled import Example
from llm_lab.tasks.rows import Row, log_probabilities
from llm_lab.text.batches import Batch
from llm_lab.text.masking import IGNORED
from llm_lab.text.tokenizer import Tokenizer

T = TypeVar("T")


class Tag(NamedTuple):
    """The most probable tag of a word, and how probable the model finds it."""

    tag: str
    probability: float


class Span(NamedTuple):
    """The words from `start` up to, not including, `stop`, and what they are."""

    start: int
    stop: int
    kind: str


# -- encode -----------------------------------------------------------------------------------------------------------


def encode(examples: Sequence[Example], tokenizer: Tokenizer, row_length: int, labels: Sequence[str] = ()) -> list[Row]:
    """One or more rows for each sentence, framed by [CLS] and [SEP]; a position is the place of a word's first subword.

    The targets are the tags' places in `labels`, unless the example has none.
    """
    number = {tag: i for i, tag in enumerate(labels)}
    rows = []
    for i, example in enumerate(examples):
        targets = [number[tag] for tag in example.answers] or [IGNORED] * len(example.content)
        ids, positions, first = [tokenizer.cls_id], list[int](), 0
        for word, framed in enumerate(tokenizer.encode_many(example.content)):
            pieces = framed[1:-1][: row_length - 2] or [tokenizer.unknown_id]  # a word of invisible characters alone
            if len(ids) + len(pieces) >= row_length:
                rows.append(Row([*ids, tokenizer.sep_id], positions, targets[first:word], i, True))
                ids, positions, first = [tokenizer.cls_id], [], word
            positions.append(len(ids))
            ids += pieces
        rows.append(Row([*ids, tokenizer.sep_id], positions, targets[first:], i, first > 0))
    return rows


# -- loss -------------------------------------------------------------------------------------------------------------


def loss_sum(model: Classifier, batch: Batch) -> Tensor:
    """The sum of -log p(tag) over the words of a batch, in nats: a tensor without axes."""
    return model.loss_sum(batch.inputs, batch.positions, batch.targets, batch.mask)


# -- predict ----------------------------------------------------------------------------------------------------------


def predict(model: Classifier, rows: Sequence[Row], labels: Sequence[str], pad_id: int) -> list[list[Tag]]:
    """The best tag for each word of each sentence, in order."""
    found = []
    for log_p in log_probabilities(model, rows, pad_id):
        best = log_p.exp().max(dim=-1)
        found.append([Tag(labels[i], p) for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)])
    return _by_sentence(rows, found)


def _by_sentence(rows: Sequence[Row], found: Sequence[list[T]]) -> list[list[T]]:
    """What was found row by row, the rows of one sentence joined."""
    sentences: list[list[T]] = [[] for _ in range(rows[-1].example + 1)]
    for row, values in zip(rows, found, strict=True):
        sentences[row.example] += values
    return sentences


# -- score ------------------------------------------------------------------------------------------------------------


def score(model: Classifier, rows: Sequence[Row], labels: Sequence[str], pad_id: int) -> dict[str, float]:
    """Mean loss in nats a word, the share of the words with the right tag, and span F1 where the tags are BIO."""
    log_p = list(log_probabilities(model, rows, pad_id))
    wanted = [row.targets for row in rows]
    best = [one.argmax(dim=-1).tolist() for one in log_p]
    target = torch.tensor([target for row in wanted for target in row])  # (N,), N words
    measured = {
        "held_out_loss": -torch.cat(log_p).gather(1, target[:, None]).double().mean().item(),
        "held_out_accuracy": (torch.cat(log_p).argmax(dim=-1) == target).double().mean().item(),
    }
    if any(label.startswith("B-") for label in labels):
        guessed_tags, wanted_tags = (
            [[labels[i] for i in sentence] for sentence in _by_sentence(rows, numbers)] for numbers in (best, wanted)
        )
        measured["held_out_span_f1"] = span_f1(guessed_tags, wanted_tags)
    return measured


def spans(tags: Sequence[str]) -> set[Span]:
    """The spans of strict BIO tags: B-X opens a span of X, each I-X right behind it goes on with it; nothing else does.

    >>> sorted(spans(["B-CODE", "I-CODE", "O", "I-CODE", "B-CODE"]))
    [Span(start=0, stop=2, kind='CODE'), Span(start=4, stop=5, kind='CODE')]
    """
    found, start, kind = set(), None, ""
    for i, tag in enumerate([*tags, "O"]):
        if start is not None and tag != f"I-{kind}":
            found.add(Span(start, i, kind))
            start = None
        if tag.startswith("B-"):
            start, kind = i, tag[2:]
    return found


def span_f1(guessed: Iterable[Sequence[str]], wanted: Iterable[Sequence[str]]) -> float:
    """2 hits / (guessed spans + wanted spans); a hit has the same words and the same kind. 1 if there are none at all.

    It is the harmonic mean of precision and recall over all sentences together.
    """
    hits = total = 0
    for guess, want in zip(guessed, wanted, strict=True):
        ours, theirs = spans(guess), spans(want)
        hits += len(ours & theirs)
        total += len(ours) + len(theirs)
    return 2 * hits / total if total else 1.0
