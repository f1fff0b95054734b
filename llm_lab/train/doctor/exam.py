"""Is the held-out loss comparable with the training loss: in nats, as hard, on rows that nobody trained on?

Letters: N rows of the exam, M rows of training, T tokens.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from llm_lab.train.doctor.evaluation import on_embeddings
from llm_lab.train.doctor.learning import move
from llm_lab.train.doctor.subject import Finding, Subject, is_target, mean_loss, originals, to_model
from llm_lab.train.doctor.untouched import untouched

COMPARED, READ = 16, 128  # batches
STEPS = 24  # after which held-out and training loss are compared once more
UNLIKE = 0.25  # of the training batches' loss: more is no luck
TOO_EASY = 0.75
ABOUT_RIGHT = 0.06  # of a known mistake's number
HIDDEN_AT_LEAST = 0.02  # of the exam's tokens
LONG, MOST_KNOWN = 12, 0.05  # tokens of a row that can't be twice by chance; share of the exam's such rows


def examine_exam(subject: Subject) -> list[Finding]:
    """The unit before the first step, rows that training reads too, and how easy it is after some steps."""
    if subject.evaluate is None:
        return []
    return _unit(subject, float(subject.evaluate())) or _exam(subject)


def _training_loss(subject: Subject, first: int) -> float:
    model = subject.model.eval()
    batches = [to_model(subject, subject.stream.batch(step)) for step in range(first, first + COMPARED)]
    batches = [batch for batch in batches if is_target(batch).any()]
    counts = [int(is_target(batch).sum()) for batch in batches]
    return sum(n * mean_loss(model, batch) for n, batch in zip(counts, batches, strict=True)) / max(1, sum(counts))


def _unit(subject: Subject, held_out: float) -> list[Finding]:
    """Before the first step all text is equally strange: the two losses must be about equal."""
    training = _training_loss(subject, 0)
    if abs(held_out - training) <= UNLIKE * training:
        return []
    said = f"the evaluation gives {held_out:.3f}, the training batches have {training:.3f} nats at the same weights"
    for name, value in _units(training).items():
        if math.isclose(held_out, value, rel_tol=ABOUT_RIGHT):
            return [Finding("evaluation in another unit", f"{said}: it is in {name}. Give both in nats.")]
    what = "a share, such as accuracy?" if 0 <= held_out <= 1 else "another unit, a sum, or other data?"
    sentence = f"{said}, {held_out / training:.2f} times: {what} Make the two comparable."
    return [Finding("evaluation disagrees", sentence)]


def _units(nats: float) -> dict[str, float]:
    return {
        "bits, 1.44 times as large": nats / math.log(2),
        "perplexity, exp(loss)": math.exp(min(nats, 50.0)),
        "decimal digits (log10)": nats / math.log(10),
        "nats with the wrong sign": -nats,
        "probabilities, without the logarithm": -math.exp(-nats),
    }


def _exam(subject: Subject) -> list[Finding]:
    """The exam must hide something, and be no easier than training after some steps."""
    assert subject.evaluate is not None
    asked: list[Tensor] = []

    def note(module: nn.Module, given: Any, vectors: Tensor) -> None:
        asked.extend(given[0].detach().cpu())

    with untouched(subject):
        for step in range(STEPS):
            batch = to_model(subject, subject.stream.batch(step))
            if is_target(batch).any():
                move(subject, batch, min(1.0, (step + 1) / STEPS))
        training = _training_loss(subject, STEPS)
        with on_embeddings(subject, note):
            held_out = float(subject.evaluate())
    tokens = sum(int((row != subject.pad_id).sum()) for row in asked)
    blanks = sum(int((row == subject.mask_id).sum()) for row in asked)
    if blanks < HIDDEN_AT_LEAST * tokens:
        sentence = f"only {blanks / tokens:.1%} of the exam's tokens are [MASK]: it asks for words that are shown."
        return [Finding("exam hides nothing", sentence)]
    firsts = {int(row[0]) for step in range(COMPARED) for row in originals(subject.stream.batch(step))}
    if len(firsts) == 1 and firsts <= set(subject.special_ids) and any(row[0] == subject.mask_id for row in asked):
        sentence = "the exam hides special tokens too, such as [CLS], which anyone can guess: never choose them."
        return [Finding("exam asks for special tokens", sentence)]
    known = _known(subject, asked)
    if known > MOST_KNOWN:
        sentence = f"{known:.0%} of the exam's long rows are in the first {READ} training batches: hold out other rows."
        return [Finding("exam in the training data", sentence)]
    if held_out < TOO_EASY * training:
        sentence = (
            f"after {STEPS} steps the held-out loss is {held_out:.2f}, fresh training batches have {training:.2f}: the "
            "exam is too easy. Look for special tokens or visible words among its targets, or other masks."
        )
        return [Finding("exam too easy", sentence)]
    return []


def _known(subject: Subject, asked: list[Tensor]) -> float:
    """The share of the exam's long rows that, but for their blanks, are rows of the first training batches."""
    trained: dict[int, list[Tensor]] = {}
    for batch in map(subject.stream.batch, range(READ)):
        for row in originals(batch):
            real = row[row != subject.pad_id].cpu()
            trained.setdefault(len(real), []).append(real)
    rows = [row[row != subject.pad_id] for row in asked[:200]]
    rows = [row for row in rows if len(row) >= LONG and (row == subject.mask_id).float().mean() < 0.5]
    tables = {length: torch.stack(some) for length, some in trained.items() if length >= LONG}
    same = [(tables[len(row)] == row) | (row == subject.mask_id) for row in rows if len(row) in tables]
    return sum(bool(table.all(dim=1).any()) for table in same) / max(20, len(rows))
