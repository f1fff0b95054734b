"""The package's own `Trainer` as a subject."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from llm_lab.train.doctor.subject import Stream, Subject
from llm_lab.train.loop import Record, Trainer


class Vocabulary(Protocol):
    """What the doctor must know of a tokenizer."""

    @property
    def vocabulary_size(self) -> int:
        """Entries of the vocabulary."""

    @property
    def mask_id(self) -> int:
        """What hides a word."""

    @property
    def pad_id(self) -> int:
        """What fills a row."""

    @property
    def special_ids(self) -> Sequence[int]:
        """Entries that are no words."""


def subject_of(
    trainer: Trainer, vocabulary: Vocabulary, stream_of: Callable[[int, int], Stream] | None = None
) -> Subject:
    """A `Trainer` before its first step, and the tokenizer of its stream, as a subject to examine.

    `stream_of(rank, world_size)` gives the streams of several processes, if there will be some. Raises ValueError for a
    trainer that has taken steps: its learning rates are no longer at their peaks.
    """
    if trainer.step:
        raise ValueError(f"this run is at step {trainer.step}: build a new Trainer, and examine it before it runs.")
    return Subject(
        model=trainer.model,
        stream=trainer.stream,
        loss_sum=trainer.loss_sum,
        optimizers=list(trainer.optimizers),
        schedule=lambda step: _at(trainer, step, trainer.factor),
        steps=trainer.config.steps,
        vocabulary_size=vocabulary.vocabulary_size,
        mask_id=vocabulary.mask_id,
        pad_id=vocabulary.pad_id,
        special_ids=vocabulary.special_ids,
        update=lambda step: _at(trainer, step, trainer._train_step),
        evaluate=None if trainer.evaluate is None else lambda: _evaluated(trainer),
        stream_of=stream_of,
        resumed=lambda step: trainer.stream,
        unknown_id=getattr(vocabulary, "unknown_id", None),
    )


def _at(trainer: Trainer, step: int, action: Callable[[], Any]) -> Any:
    """What the trainer does at a step; it is then where it was."""
    scaler = trainer.scaler.state_dict()
    trainer.step, before = step, trainer.step
    try:
        return action()
    finally:
        trainer.step = before
        trainer.scaler.load_state_dict(scaler)


def _evaluated(trainer: Trainer) -> float:
    """The first number that the trainer's evaluation gives."""
    record: Record = {}
    trainer._evaluate_if_due(record)
    return next(iter(record.values()))
