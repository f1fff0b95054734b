"""Runs of the ward small enough to be examined in a second or two, and batches by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from llm_lab.text.batches import Batch
from llm_lab.train.doctor import Subject
from llm_lab.ward import TrainingRun
from llm_lab.ward.run import StreamOf

SMALL: dict[str, Any] = {"width": 32, "num_layers": 1, "feed_forward_width": 64, "batch_rows": 8}


def small(**options: Any) -> Subject:
    """A healthy subject."""
    return TrainingRun(**{**SMALL, **options}).subject()


def names(findings: Any) -> list[str]:
    """The names of some findings."""
    return [finding.name for finding in findings]


def changed(subject: Subject, change: Any) -> Subject:
    """The subject with batches that pass through `change(step, batch)`."""
    plain = subject.stream
    return replace(subject, stream=StreamOf(lambda step: change(step, plain.batch(step))))


def batch_of(inputs: list[list[int]], positions: list[list[int]], targets: list[list[int]]) -> Batch:
    """A batch by hand; padding is 0."""
    ids = torch.tensor(inputs)
    return Batch(ids, torch.tensor(positions), torch.tensor(targets), ids != 0)
