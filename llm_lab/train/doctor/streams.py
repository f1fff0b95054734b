"""Do batches come out the same again, after a restart, and other ones on each process? Letters: B batch, T tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from llm_lab.train.doctor.subject import Finding, Subject, hidden_places, originals

COMPARED = 16  # batches of two processes
CYCLE = 40  # batches in which the same may not come twice too often
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
        sentence = "batches 0, 3, 4 and 5 are the same: the stream doesn't move on, every step gets the same batch."
        return [Finding("one batch for ever", sentence)]
    distinct = {subject.stream.batch(step).inputs.numpy().tobytes() for step in range(CYCLE)}
    if len(distinct) < CYCLE / 2:
        sentence = f"the first {CYCLE} batches are {len(distinct)}, over and over, with the same masks: read on."
        return [Finding("few batches over and over", sentence)]
    return []


def _ranks(subject: Subject) -> list[Finding]:
    assert subject.stream_of is not None
    streams = [subject.stream_of(rank, 2) for rank in (0, 1)]
    pairs = [tuple(stream.batch(step) for stream in streams) for step in range(COMPARED)]
    one, other = (row_set(subject, batches) for batches in zip(*pairs, strict=True))
    if 2 * len(one & other) > min(len(one), len(other)):
        sentence = "two processes read the same rows, so the second adds nothing: give each its own share."
        return [Finding("ranks read the same data", sentence)]
    neighbours = [(a, b) for (a, _), (b, _) in zip(pairs, pairs[1:], strict=False)]
    if alike(pairs) > 0.8 > alike(neighbours):  # where all masks are alike, the processes' are too
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
    return {ids[ids != subject.pad_id].numpy().tobytes() for batch in batches for ids in originals(batch)}


def alike(pairs: Any) -> float:
    """Of the places hidden in either batch of a pair, the share hidden in both, where both have words."""
    both = either = 0
    for a, b in pairs:
        rows, length = (min(x, y) for x, y in zip(a.inputs.shape, b.inputs.shape, strict=True))
        words = _words(a)[:rows, :length] & _words(b)[:rows, :length]
        one, other = (hidden_places(batch)[:rows, :length] & words for batch in (a, b))
        both, either = both + int((one & other).sum()), either + int((one | other).sum())
    return both / max(1, either)


def _words(batch: Any) -> Tensor:
    return torch.ones_like(batch.inputs, dtype=torch.bool) if batch.mask is None else batch.mask
