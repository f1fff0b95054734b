"""Do batches come out the same again, after a restart, and other ones on each process? Letters: B batch, T tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from llm_lab.train.doctor.subject import Finding, Subject, is_target

COMPARED = 16  # batches of two processes
TAKEN_UP = 5  # the step at which a run is resumed


def examine_streams(subject: Subject) -> list[Finding]:
    """Each batch a function of its number; the processes' rows and masks their own."""
    found = _repeated(subject)
    if subject.stream_of is not None:
        found += _ranks(subject)
    if subject.resumed is not None and not found:
        found += _resumed(subject)
    return found


def _repeated(subject: Subject) -> list[Finding]:
    first = subject.stream.batch(3)
    if not same(first, subject.stream.batch(3)):
        sentence = (
            "batch 3 comes out differently the second time, so no run can be resumed or compared: make its masks a "
            "function of seed and row, not of a global generator."
        )
        return [Finding("batches not repeatable", sentence)]
    if all(same(first, subject.stream.batch(step)) for step in (0, 4, 5)):
        return [Finding("one batch for ever", "batches 0, 3, 4 and 5 are the same: the stream doesn't move on.")]
    return []


def _ranks(subject: Subject) -> list[Finding]:
    assert subject.stream_of is not None
    streams = [subject.stream_of(rank, 2) for rank in (0, 1)]
    pairs = [tuple(stream.batch(step) for stream in streams) for step in range(COMPARED)]
    one, other = (row_set(subject, batches) for batches in zip(*pairs, strict=True))
    if 2 * len(one & other) > min(len(one), len(other)):
        sentence = "two processes read the same rows, so the second adds nothing: give each its own share."
        return [Finding("ranks read the same data", sentence)]
    if alike(pairs) > 0.8:
        sentence = "two processes hide the same places of their rows: make the masks a function of the row."
        return [Finding("ranks draw the same masks", sentence)]
    return []


def _resumed(subject: Subject) -> list[Finding]:
    assert subject.resumed is not None
    got = subject.resumed(TAKEN_UP).batch(TAKEN_UP)
    if same(got, subject.stream.batch(TAKEN_UP)):
        return []
    repeated = next((step for step in range(TAKEN_UP) if same(got, subject.stream.batch(step))), None)
    what = "other data" if repeated is None else f"batch {repeated} again"
    sentence = f"a run taken up at step {TAKEN_UP} reads {what}: save the stream's position in the checkpoint."
    return [Finding("resume loses its place", sentence)]


def same(a: Any, b: Any) -> bool:
    """True if two batches show, ask and answer the same."""
    pairs = ((a.inputs, b.inputs), (a.positions, b.positions), (a.targets, b.targets))
    return all(x.shape == y.shape and torch.equal(x, y) for x, y in pairs)


def row_set(subject: Subject, batches: Any) -> set[bytes]:
    """The rows of some batches as they were before words were hidden, without padding."""
    rows = set()
    for batch in batches:
        ids = batch.inputs.clone()
        row, _ = is_target(batch).nonzero(as_tuple=True)
        ids[row, batch.positions[is_target(batch)]] = batch.targets[is_target(batch)]
        rows |= {ids_of_row[ids_of_row != subject.pad_id].numpy().tobytes() for ids_of_row in ids}
    return rows


def alike(pairs: Any) -> float:
    """Of the places hidden in either batch of a pair, the share hidden in both, where both have words."""
    both = either = 0
    for a, b in pairs:
        rows, length = (min(x, y) for x, y in zip(a.inputs.shape, b.inputs.shape, strict=True))
        words = _words(a)[:rows, :length] & _words(b)[:rows, :length]
        one, other = (_hidden_places(batch)[:rows, :length] & words for batch in (a, b))
        both, either = both + int((one & other).sum()), either + int((one | other).sum())
    return both / max(1, either)


def _words(batch: Any) -> Tensor:
    return torch.ones_like(batch.inputs, dtype=torch.bool) if batch.mask is None else batch.mask


def _hidden_places(batch: Any) -> Tensor:
    places = torch.zeros(batch.inputs.shape, dtype=torch.long)
    return places.scatter_add(1, batch.positions, is_target(batch).long()) > 0
