"""All examinations in a row, and their findings in words."""

from __future__ import annotations

from collections.abc import Sequence

from llm_lab.train.doctor.data import examine_batches
from llm_lab.train.doctor.evaluation import examine_evaluation
from llm_lab.train.doctor.learning import examine_gradients, examine_learning, examine_schedule
from llm_lab.train.doctor.loss import examine_loss
from llm_lab.train.doctor.model import examine_model
from llm_lab.train.doctor.steps import examine_steps
from llm_lab.train.doctor.streams import examine_streams
from llm_lab.train.doctor.subject import Finding, Subject
from llm_lab.train.doctor.untouched import untouched

ORGANS = (
    examine_batches,
    examine_streams,
    examine_model,
    examine_loss,
    examine_gradients,
    examine_schedule,
    examine_learning,
    examine_steps,
    examine_evaluation,
)
FATAL = {"model not repeatable", "logits not numbers"}  # what is measured after these means nothing
SYMPTOMS = {"wrong loss", "wrong gradient"}  # of a cause that another finding names


def examine(subject: Subject) -> list[Finding]:
    """All findings, in the order in which a step uses the parts; an empty list for a run that seems sound.

    What only follows from another finding is left out, and learning, the longest examination, waits until nothing
    stands in its way: cure the first, and examine again.
    """
    findings: list[Finding] = []
    for organ in ORGANS:
        if organ is examine_learning and findings:
            continue
        with untouched(subject):
            findings += organ(subject)
        if any(finding.name in FATAL for finding in findings):
            break
    causes = [finding for finding in findings if finding.name not in SYMPTOMS]
    return causes or findings


def report(findings: Sequence[Finding]) -> str:
    """The findings as text, one a line."""
    if not findings:
        return "No complaint: the batches, model, loss, gradients, optimizer, schedule and loop pass the first checks."
    return "\n".join(f"{number}. {f.name}: {f.sentence}" for number, f in enumerate(findings, 1))
