"""Does the loop do what its parts promise? Its modes, learning rates and loss, seen when the optimizers step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from llm_lab.train.doctor.blame import gradient_findings
from llm_lab.train.doctor.subject import Finding, Subject, dropouts
from llm_lab.train.doctor.watch import PARTS, WATCHED, Watch, watched

UNLIKE = 0.05  # of the batch's loss: dropout is off, so the loop's own number must be nearly that


def examine_steps(subject: Subject) -> list[Finding]:
    """What `update` really does in its first steps."""
    if subject.update is None:
        return []
    watch = watched(subject, ())
    if watch.stuck:
        return [Finding("weights don't move", f"step {watch.stuck[0]} leaves every weight as it was.")]
    if set(watch.steps) != {WATCHED}:
        sentence = (
            f"{WATCHED} calls of update made {' and '.join(map(str, sorted(set(watch.steps))))} steps of the optimizer."
        )
        if 0 in watch.steps:
            sentence += " Step every optimizer of the subject in update, and build none anew there."
        return [Finding("steps miscounted", sentence)]
    found = gradient_findings(subject, watch) + _rates(subject, watch) + _memory(subject, watch)
    if not all(watch.training) and dropouts(subject.model):
        when = " after an evaluation" if watch.evaluated else ""
        sentence = f"the model trains in evaluation mode{when}, so dropout is off: call model.train() in each step."
        found.append(Finding("training in evaluation mode", sentence))
    return found or _reported(watch)


def _rates(subject: Subject, watch: Watch) -> list[Finding]:
    wanted = [subject.schedule(step) for step in range(WATCHED)]
    for rates in watch.rates:
        if not np.allclose(rates, wanted, rtol=1e-3, atol=1e-6):
            return [_wrong_rates(rates, wanted)]
    return []


def _wrong_rates(rates: Sequence[float], wanted: Sequence[float]) -> Finding:
    moves = np.diff(wanted)
    for n in PARTS:
        if np.allclose(np.diff(rates), n * moves, rtol=0.05, atol=1e-6) and moves.any():
            what = f"the learning rate moves {n} times a step"
            sentence = f"{what}: step the scheduler once an update, not per micro-batch."
            return Finding("schedule runs ahead", sentence)
    sentence = f"the first learning rates are {_rounded(rates)} of the peak, the schedule says {_rounded(wanted)}"
    if np.allclose(rates, np.square(wanted), rtol=1e-3):
        sentence += ": the factor is multiplied in twice"
    elif np.allclose(rates, rates[0]):
        sentence += ": the scheduler is never stepped, or too rarely, or another optimizer's is"
    return Finding("schedule not followed", f"{sentence}.")


def _rounded(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


def _memory(subject: Subject, watch: Watch) -> list[Finding]:
    """An optimizer that counts its steps must have counted all."""
    if watch.remembered is None or watch.remembered == WATCHED:
        return []
    sentence = f"after {WATCHED} steps the optimizer remembers {watch.remembered:g}: its state is lost on the way."
    return [Finding("optimizer forgets", sentence)]


def _reported(watch: Watch) -> list[Finding]:
    """The loss in what `update` returns, first step, against the batch's by the book."""
    said, book = _loss_of(watch.records[0]), watch.losses[0]
    if said is None or not math.isfinite(book) or math.isclose(said, book, rel_tol=UNLIKE):
        return []
    known = {"bits": 1 / math.log(2), **{f"one {n}th of it, a part's share": 1 / n for n in PARTS}}
    fits = [name for name, factor in known.items() if math.isclose(said, factor * book, rel_tol=0.02)]
    what = f"update reports a loss of {said:.3f}, the batch has {book:.3f}" + (f": {fits[0]}" if fits else "")
    return [Finding("reported loss", f"{what}. Report the mean of -ln p over all targets of the step.")]


def _loss_of(record: Any) -> float | None:
    value = record.get("loss") if isinstance(record, dict) else None
    return float(value) if isinstance(value, int | float) else None
