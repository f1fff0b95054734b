"""The first checks of a training run, done in seconds, before hours are spent on it.

`examine(subject)` looks at batches, model, loss, gradients, optimizer, schedule, loop and evaluation, and says in words
what is wrong. It changes nothing: weights, optimizer state and random generators are put back.

Letters: B batch, T tokens, K chosen positions, N targets, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

from llm_lab.train.doctor.data import examine_batches, examine_streams
from llm_lab.train.doctor.learning import examine_gradients, examine_learning, examine_schedule
from llm_lab.train.doctor.loop import examine_evaluation, examine_loop
from llm_lab.train.doctor.loss import examine_loss, examine_model
from llm_lab.train.doctor.subject import Finding, Subject, untouched

__all__ = ["Finding", "Subject", "examine", "report"]
ORGANS = (
    examine_batches,
    examine_streams,
    examine_model,
    examine_loss,
    examine_gradients,
    examine_schedule,
    examine_learning,
    examine_loop,
    examine_evaluation,
)

FATAL = {"model not repeatable", "logits not numbers"}  # what is measured after these means nothing
SYMPTOMS = {"wrong loss", "wrong gradient", "one batch can't be learnt"}  # of a cause that another finding names


def examine(subject: Subject) -> list[Finding]:
    """All findings, in the order in which a step uses the parts; an empty list for a run that seems sound.

    What only follows from another finding is left out: cure the first, and examine again.
    """
    findings: list[Finding] = []
    for organ in ORGANS:
        with untouched(subject):
            findings += organ(subject)
        if any(finding.name in FATAL for finding in findings):
            break
    causes = [finding for finding in findings if finding.name not in SYMPTOMS]
    return causes or findings


def report(findings: Sequence[Finding]) -> str:
    """The findings as text, one a paragraph."""
    if not findings:
        return "No complaint: the batches, model, loss, gradients, optimizer, schedule and loop pass the first checks."
    return "\n".join(f"{number}. {f.name}: {f.sentence}" for number, f in enumerate(findings, 1))
