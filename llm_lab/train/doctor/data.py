"""Are the batches what they should be? Letters: B batch, T tokens, K chosen positions."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from llm_lab.train.doctor.subject import IGNORED, Finding, Subject

ENOUGH_TARGETS, MOST_BATCHES = 25_000, 200  # what tells 81/10/9 from 80/10/10
SURE = 4.5  # standard errors


def examine_batches(subject: Subject) -> list[Finding]:
    found: dict[str, str] = {}
    shown: list[Tensor] = []
    hidden: list[Tensor] = []
    count = 0
    for step in range(MOST_BATCHES):
        batch = subject.stream.batch(step)
        is_target = batch.targets != IGNORED
        targets = batch.targets[is_target]
        if len(targets) == 0:
            found.setdefault(
                "batch without a target",
                f"batch {step} hides nothing, so its mean loss is 0 / 0: hide at least one word a row.",
            )
        shown.append(batch.inputs.gather(1, batch.positions)[is_target])
        hidden.append(targets)
        _padding(subject, batch, found)
        count += len(targets)
        if count >= ENOUGH_TARGETS:
            break
    _targets(subject, torch.cat(shown), torch.cat(hidden), found)
    return [Finding(*item) for item in found.items()]


def _padding(subject: Subject, batch: Any, found: dict[str, str]) -> None:
    padding = batch.inputs == subject.pad_id
    if batch.mask is None:
        if padding.any():
            found["padding without a mask"] = "batches hold padding and no mask: pass mask = inputs != pad_id."
    elif padding.any() and torch.equal(batch.mask, padding):
        found["mask upside down"] = "the mask is True at padding and False at words: here True means may be read."


def _targets(subject: Subject, shown: Tensor, hidden: Tensor, found: dict[str, str]) -> None:
    special = torch.tensor(tuple(subject.special_ids))
    if torch.isin(hidden, special).any():
        share = torch.isin(hidden, special).float().mean().item()
        found["special tokens hidden"] = (
            f"{share:.0%} of the targets are special tokens such as [CLS], which anyone can guess: never choose them."
        )
    is_mask, is_kept = shown == subject.mask_id, shown == hidden
    changed = shown[~is_mask & ~is_kept]
    if torch.isin(changed, special).any():
        found["special tokens as random words"] = (
            "some targets are replaced by special tokens such as [SEP] or [PAD]: draw from the words alone."
        )
    n = max(1, len(shown))
    shares = {"[MASK]": is_mask.sum().item() / n, "a random word": len(changed) / n, "itself": is_kept.sum().item() / n}
    if shares["itself"] > 0.5:
        found["answer visible"] = f"{shares['itself']:.0%} of the targets stand in the input unhidden."
    elif shares["[MASK]"] < 0.999:
        wanted = dict(zip(shares, (0.8, 0.1, 0.1), strict=True))
        bound = {k: SURE * math.sqrt(p * (1 - p) / n) + 1 / subject.vocabulary_size for k, p in wanted.items()}
        if any(abs(shares[k] - wanted[k]) > bound[k] for k in shares):
            seen = ", ".join(f"{share:.1%} {name}" for name, share in shares.items())
            found["mixture"] = f"targets show {seen}; BERT's mixture is 80, 10, 10: decide all three by one draw."


def examine_streams(subject: Subject) -> list[Finding]:
    found = []
    first, again = subject.stream.batch(3), subject.stream.batch(3)
    if not same(first, again):
        found.append(
            Finding(
                "batches not repeatable",
                "batch 3 comes out differently the second time, so no run can be resumed or compared: make its masks a "
                "function of seed and row, not of a global generator.",
            )
        )
    elif same(first, subject.stream.batch(4)):
        found.append(Finding("one batch for ever", "batches 3 and 4 are the same: the stream doesn't move on."))
    if subject.stream_of is not None:
        a, b = (subject.stream_of(rank, 2).batch(0) for rank in (0, 1))
        if same(a, b):
            sentence = "two processes read the same rows, so the second adds nothing: give each its own share."
            found.append(Finding("ranks read the same data", sentence))
        elif _alike(a, b) > 0.8:
            sentence = "two processes hide the same places of their rows: make the masks a function of the row."
            found.append(Finding("ranks draw the same masks", sentence))
    if subject.resumed is not None and not found:
        if not same(subject.resumed(5).batch(5), subject.stream.batch(5)):
            repeated = next((s for s in range(5) if same(subject.resumed(5).batch(5), subject.stream.batch(s))), None)
            what = "other data" if repeated is None else f"batch {repeated} again"
            sentence = f"a run taken up at step 5 reads {what}: save the stream's position in the checkpoint."
            found.append(Finding("resume loses its place", sentence))
    return found


def same(a: Any, b: Any) -> bool:
    pairs = ((a.inputs, b.inputs), (a.positions, b.positions), (a.targets, b.targets))
    return all(x.shape == y.shape and torch.equal(x, y) for x, y in pairs)


def _alike(a: Any, b: Any) -> float:
    """Of the places hidden in either batch, the share hidden in both, where both have words."""
    length = min(a.inputs.shape[1], b.inputs.shape[1])
    one, other = (_hidden_places(batch)[:, :length] for batch in (a, b))
    words = _words(a)[:, :length] & _words(b)[:, :length]
    return ((one & other & words).sum() / (((one | other) & words).sum().clamp(min=1))).item()


def _words(batch: Any) -> Tensor:
    return torch.ones_like(batch.inputs, dtype=torch.bool) if batch.mask is None else batch.mask


def _hidden_places(batch: Any) -> Tensor:
    places = torch.zeros(batch.inputs.shape, dtype=torch.long)
    return places.scatter_add(1, batch.positions, (batch.targets != IGNORED).long()) > 0
