"""Where words are hidden, how many, and which, in the first batches. Letters: B batch, T tokens, V vocabulary."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from llm_lab.train.doctor.streams import alike
from llm_lab.train.doctor.subject import Finding, Subject, hidden_places, is_target, is_word, originals

COUNTED = 64  # batches
MOST, LEAST = 0.6, 0.025  # of the words, hidden
MOST_UNKNOWN = 0.1  # of the tokens
SURE = 8.0  # standard deviations


def examine_masks(subject: Subject) -> list[Finding]:
    """The share of hidden words, their places in a row, blanks that nobody asks for, and what is never hidden."""
    batches = [subject.stream.batch(step) for step in range(COUNTED)]
    ids = torch.cat([t.flatten() for b in batches for t in (b.inputs, b.targets[is_target(b)])])
    if ids.min() < 0 or ids.max() >= subject.vocabulary_size:
        sentence = f"ids go from {ids.min()} to {ids.max()}, the vocabulary has {subject.vocabulary_size}."
        return [Finding("ids outside the vocabulary", sentence)]
    found = _share(subject, batches)
    found += _places(subject, batches) + _asked(subject, batches) + _unknown(subject, batches)
    return found or _words(subject, list({b.inputs.numpy().tobytes(): b for b in batches}.values()))


def _share(subject: Subject, batches: list[Any]) -> list[Finding]:
    targets = sum(int(is_target(batch).sum()) for batch in batches)
    share = targets / max(1, sum(int(is_word(subject, batch).sum()) for batch in batches))
    if share > MOST:
        sentence = f"{share:.0%} of the words are targets, 15 to 40% are usual: too little is left to guess from."
        return [Finding("too many targets", sentence)]
    if share < LEAST:
        return [Finding("too few targets", f"only {share:.1%} of the words are targets, 15 to 40% are usual.")]
    if all(len(batch.inputs) > 1 for batch in batches) and _rolled(batches) > 0.8:
        sentence = "all rows of a batch hide the same places: draw the masks for each row by itself."
        return [Finding("rows share their masks", sentence)]
    pairs = [(a, b) for a, b in zip(batches, batches[1:], strict=False) if not torch.equal(a.inputs, b.inputs)]
    if alike(pairs) > 0.8:
        return [Finding("masks never change", "one batch after the other hides the same places: draw new ones.")]
    return []


def _rolled(batches: list[Any]) -> float:
    """How alike the masks of a batch's rows are to those of the next rows."""
    names = ("inputs", "positions", "targets", "mask")
    parts = [{n: t.roll(1, 0) for n in names if (t := getattr(b, n)) is not None} for b in batches]
    return alike([(b, replace(b, **p)) for b, p in zip(batches, parts, strict=True)])


def _places(subject: Subject, batches: list[Any]) -> list[Finding]:
    """Targets in the first and in the second half of the words of each row."""
    halves = torch.zeros(2)
    for batch in batches:
        words, hidden = is_word(subject, batch), hidden_places(batch)
        place, number = words.cumsum(dim=1) - 0.5, words.sum(dim=1, keepdim=True)
        halves += torch.stack([(hidden & (place < number / 2)).sum(), (hidden & (place > number / 2)).sum()])
    first, second = halves.tolist()
    if abs(first - second) < SURE * (first + second) ** 0.5 or max(halves) < 1.5 * min(halves):
        return []
    sentence = (
        f"{first / (first + second):.0%} of the targets stand in the first half of their row: draw all places with the "
        "same probability, and don't cut the list of places short."
    )
    return [Finding("targets in one half", sentence)]


def _asked(subject: Subject, batches: list[Any]) -> list[Finding]:
    blanks = sum(int((b.inputs == subject.mask_id).sum()) for b in batches)
    idle = sum(int(((b.inputs == subject.mask_id) & ~hidden_places(b)).sum()) for b in batches)
    places = sum(int(hidden_places(b).sum()) for b in batches)
    targets = sum(int(is_target(b).sum()) for b in batches)
    padding = sum(int((hidden_places(b) & ~b.mask).sum()) for b in batches if b.mask is not None)
    found = []
    if _beside(subject, batches):
        sentence = "the [MASK]s stand one place beside the targets: positions or labels are shifted by one."
        found.append(Finding("targets beside the blanks", sentence))
    elif idle > 0.01 * blanks:
        sentence = f"nobody asks what {idle / blanks:.0%} of the [MASK]s hide: make each a target, or leave it visible."
        found.append(Finding("blanks without a target", sentence))
    if places < 0.99 * targets:
        sentence = f"{1 - places / targets:.0%} of the targets ask for a place a second time: list each place once."
        found.append(Finding("places asked twice", sentence))
    if padding:
        found.append(Finding("targets in the padding", f"{padding / targets:.0%} of the targets stand in padding."))
    return found


def _beside(subject: Subject, batches: list[Any]) -> bool:
    """True if [MASK] stands at a neighbour of the targets more often than at the targets."""
    counts = torch.zeros(3)
    for batch in batches:
        blank = batch.inputs == subject.mask_id
        for number, shift in enumerate((-1, 0, 1)):
            at = (batch.positions + shift).clamp(0, blank.shape[1] - 1)
            counts[number] += (blank.gather(1, at) & is_target(batch)).sum()
    return bool(max(counts[0], counts[2]) > 2 * counts[1])


def _unknown(subject: Subject, batches: list[Any]) -> list[Finding]:
    """One special token in the place of many words."""
    ids = torch.cat([originals(b).flatten() for b in batches])
    counts = torch.bincount(ids[ids != subject.pad_id], minlength=subject.vocabulary_size).float()
    counts[subject.mask_id] = 0  # the wrong targets' concern
    share = counts / counts.sum().clamp(min=1)
    for token in subject.special_ids:
        if token != subject.pad_id and share[token] > (MOST_UNKNOWN if token == subject.unknown_id else 0.3):
            what = "[UNK]" if token == subject.unknown_id else f"special token {token}"
            sentence = (
                f"{share[token]:.0%} of the text is {what}: tokenizer and text don't belong together, or the "
                "vocabulary is too small. Read a row as text."
            )
            return [Finding("many unknown words", sentence)]
    return []


def _words(subject: Subject, batches: list[Any]) -> list[Finding]:
    """Frequent words must be hidden about as often as others."""
    every = torch.bincount(
        torch.cat([originals(b).flatten() for b in batches]), minlength=subject.vocabulary_size
    ).float()
    hidden = torch.bincount(torch.cat([b.targets[is_target(b)] for b in batches]), minlength=len(every)).float()
    every[list(subject.special_ids)] = hidden[list(subject.special_ids)] = 0
    if not hidden.any():
        return []
    never = ((hidden == 0) & (every * (hidden.sum() / every.sum()) > 50)).nonzero()[:, 0].tolist()
    if not never:
        return []
    ids = ", ".join(map(str, never[:5]))
    sentence = f"{len(never)} frequent words are never hidden, the ids {ids} among them: nothing teaches them."
    return [Finding("words never hidden", sentence)]
