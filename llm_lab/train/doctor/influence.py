"""Who influences whom: words on both sides, in their order, and nothing of another row. Letters: B batch, T tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from llm_lab.train.doctor.subject import Finding, Remark, Subject, first_batch, logits_of, without_dropout
from llm_lab.train.doctor.untouched import sharpened

PLACES = 32  # of a row, one changed at a time
FAINT = 1e-3  # of the effect of a row's own words: less is rounding


@torch.no_grad()
def examine_influence(subject: Subject) -> list[Finding]:
    """Changes one thing at a time, without dropout, and looks at which guesses move."""
    subject.model.eval()
    batch = first_batch(subject)
    batch = replace(batch, mask=torch.ones_like(batch.inputs, dtype=torch.bool)) if batch.mask is None else batch
    lengths = batch.mask.sum(dim=1)
    long, short = _row(batch, int(lengths.argmax())), _row(batch, int(lengths.argmin()))
    size = _moved(subject, long, replace(long, inputs=_other_words(subject, long.inputs)))
    if size < 1e-6:
        return []  # a blind model, or one that reads its mask upside down
    found = _rows(subject, batch, size) or _padding(subject, short, size) + _modes(subject, batch, size)
    return found or _sides(subject, _cut(long)) + _order(subject)


def _row(batch: Any, row: int) -> Any:
    """One row of a batch, and the question in its middle."""
    return replace(
        batch,
        inputs=batch.inputs[row : row + 1].clone(),
        mask=batch.mask[row : row + 1],
        positions=(batch.mask[row].sum() // 2).view(1, 1),
        targets=batch.targets[row : row + 1, :1],
    )


def _cut(row: Any) -> Any:
    """A row without its padding."""
    real = row.mask[0]
    return replace(row, inputs=row.inputs[:, real], mask=row.mask[:, real])


def _other_words(subject: Subject, inputs: Tensor) -> Tensor:
    """Another word at each place."""
    words = torch.tensor(sorted(set(range(subject.vocabulary_size)) - set(subject.special_ids)), device=inputs.device)
    place = torch.searchsorted(words, inputs.clamp(max=int(words[-1])))
    steps = torch.arange(inputs.numel(), device=inputs.device).view_as(inputs) % (len(words) - 1) + 1
    return words[(place + steps) % len(words)]


def _moved(subject: Subject, batch: Any, other: Any) -> float:
    return (logits_of(subject.model, batch) - logits_of(subject.model, other)).abs().max().item()


def _rows(subject: Subject, batch: Any, size: float) -> list[Finding]:
    """Change the other rows, leave them out: a row's guesses must stay, in training mode too."""
    if len(batch.inputs) == 1:
        return []
    others = batch.inputs.clone()
    others[:-1] = torch.where(batch.mask[:-1], _other_words(subject, others[:-1]), others[:-1])
    last = {name: getattr(batch, name)[-1:] for name in ("inputs", "mask", "positions", "targets")}
    for words in ("", " in training mode"):
        model, seen = subject.model.train(bool(words)), []
        with without_dropout(model):
            for version in (batch, replace(batch, inputs=others), replace(batch, **last)):
                torch.manual_seed(1)
                seen.append(logits_of(model, version)[-1])
        alone = [] if model.training else seen[2:]  # random numbers of training fit other rows then
        effects = [(seen[0] - other).abs().max().item() for other in (seen[1], *alone)]
        if max(effects) > FAINT * size:
            sentence = (
                f"a row's guesses change{words} with the other rows of its batch: rows influence each other. Look for "
                "swapped axes (batch_first), a softmax or norm over the batch, positions counted along the batch."
            )
            return [Finding("rows influence each other", sentence)]
    subject.model.eval()
    return []


def _padding(subject: Subject, row: Any, size: float) -> list[Finding]:
    """The same words with less padding behind them must give the same guesses."""
    if row.mask.all() or row.mask.sum() < 3 or _moved(subject, row, _cut(row)) <= FAINT * size:
        return []
    sentence = (
        "the same words with more padding behind them give other guesses: something averages, normalizes or counts "
        "over the padding too."
    )
    return [Finding("padding changes guesses", sentence)]


def _modes(subject: Subject, batch: Any, size: float) -> list[Finding]:
    """With no dropout the two modes must agree, unless training draws random numbers of its own."""
    seen = [logits_of(subject.model.eval(), batch)]
    with without_dropout(subject.model):
        for seed in (1, 2):
            torch.manual_seed(seed)
            seen.append(logits_of(subject.model.train(), batch))
    subject.model.eval()
    if torch.equal(seen[1], seen[2]) and (seen[0] - seen[1]).abs().max() > FAINT * size:
        sentence = "with dropout off, training and evaluation mode give different guesses: what is trained isn't used."
        return [Finding("modes differ", sentence)]
    return []


def knows_order(subject: Subject) -> bool:
    """False if a model takes a row for a bag of words."""
    batch = first_batch(subject)
    row = int((batch.inputs != subject.pad_id).sum(dim=1).argmax())
    mask = batch.inputs != subject.pad_id
    one = _cut(_row(replace(batch, mask=mask), row))
    middle, length = int(one.positions), one.inputs.shape[1]
    order = [*range(middle)][::-1] + [middle] + [*range(middle + 1, length)][::-1]  # each side by itself
    with sharpened(subject):
        subject.model.eval()
        size = _moved(subject, one, replace(one, inputs=_other_words(subject, one.inputs)))
        other = replace(one, inputs=one.inputs[:, order])
        return torch.equal(one.inputs, other.inputs) or _moved(subject, one, other) > FAINT * size


def _sides(subject: Subject, row: Any) -> list[Finding]:
    """Words to the left and to the right must move the guess in the middle; if not, in another place neither."""
    length = row.inputs.shape[1]
    if length < 8:
        return []
    seen = {place: _influential(subject, row, place) for place in (length // 2, length // 8, 7 * length // 8)}
    sides = [(any(p < at for p in places), any(p > at for p in places)) for at, places in seen.items()]
    if all(sides[0]):
        return []
    side, other_side = ("left", "right") if sides[0][0] else ("right", "left")
    what = f"words to the {other_side} of a blank have no influence on its guess, only those to the {side}"
    if any(map(all, sides[1:])):
        places = sorted(set.union(*seen.values()))
        sentence = f"{what}: of {length} places only {places[0]} to {places[-1]} are read. Look at mask and lengths."
        return [Finding("part of the row is unseen", sentence)]
    sentence = (
        f"{what}: a causal mask or a model that reads in one direction. Fine if meant; a masked language model should "
        "read both sides."
    )
    return [Remark("reads one side", sentence)]


def _influential(subject: Subject, row: Any, blank: int) -> set[int]:
    """The places, of some, at which another word moves the guess at the blank."""
    length = row.inputs.shape[1]
    spread = torch.linspace(0, length - 1, min(length, PLACES)).round().long().tolist()
    places = sorted({*spread, blank - 1, blank + 1} - {blank, length, -1})
    inputs = row.inputs.repeat(len(places) + 1, 1)
    inputs[:, blank] = subject.mask_id
    other = _other_words(subject, row.inputs)[0]
    for number, place in enumerate(places, 1):
        inputs[number, place] = other[place]
    at = torch.full((len(inputs), 1), blank, device=inputs.device)
    logits = subject.model(inputs, row.mask.expand(len(inputs), -1), at).float()
    effect = (logits[1:] - logits[:1]).abs().flatten(1).amax(dim=1)
    return {place for place, e in zip(places, effect.tolist(), strict=True) if e > FAINT * effect.max()}


def _order(subject: Subject) -> list[Finding]:
    """Words in another order, on each side of the blank, must give another guess."""
    if knows_order(subject):
        return []
    sentence = (
        "the order of the words makes no difference to a guess, a sentence is a bag of words: positions are missing. "
        "Fine if it is meant; else add position embeddings, or rotate queries and keys."
    )
    return [Remark("order unseen", sentence)]
