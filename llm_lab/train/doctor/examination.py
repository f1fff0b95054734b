"""All examinations in a row, and their findings in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from llm_lab.train.doctor.data import examine_batches
from llm_lab.train.doctor.evaluation import examine_evaluation
from llm_lab.train.doctor.exam import examine_exam
from llm_lab.train.doctor.influence import examine_influence
from llm_lab.train.doctor.learning import examine_learning
from llm_lab.train.doctor.loss import examine_loss
from llm_lab.train.doctor.masks import examine_masks
from llm_lab.train.doctor.model import examine_model
from llm_lab.train.doctor.order import examine_order
from llm_lab.train.doctor.parameters import examine_parameters
from llm_lab.train.doctor.schedule import examine_schedule
from llm_lab.train.doctor.steps import examine_steps
from llm_lab.train.doctor.streams import examine_streams
from llm_lab.train.doctor.subject import Finding, Remark, Stream, Subject, alarms
from llm_lab.train.doctor.untouched import untouched

ORGANS = (
    examine_masks,
    examine_batches,
    examine_streams,
    examine_order,
    examine_model,
    examine_influence,
    examine_loss,
    examine_parameters,
    examine_schedule,
    examine_learning,
    examine_steps,
    examine_evaluation,
    examine_exam,
)
WAITING = (examine_learning, examine_exam)  # until nothing stands in their way
NO_COMPLAINT = "No complaint: the batches, model, loss, gradients, optimizer, schedule and loop pass the first checks."
FATAL = {
    "ids outside the vocabulary",
    "model not repeatable",
    "logits not numbers",
}  # what is measured after these means nothing
SHADOWS = {"mask upside down", "padding is read"}  # of which these follow
SHADOWED = {"padding changes guesses", "padding is read in evaluation"}
SYMPTOMS = {"wrong loss", "wrong gradient"}  # of a cause that another finding names


class Remembering:
    """A stream that makes each batch once, for examinations that read the same ones."""

    def __init__(self, stream: Stream):
        self.batch = lru_cache(maxsize=None)(stream.batch)


def examine(subject: Subject) -> list[Finding]:
    """All findings in the order in which a step uses the parts, remarks last; none for a run that seems sound.

    What only follows from another finding is left out, and learning, the longest examination, waits until nothing
    stands in its way: cure the first, and examine again.
    """
    findings: list[Finding] = []
    remembering = replace(subject, stream=Remembering(subject.stream))
    for organ in ORGANS:
        if organ in WAITING and alarms(findings):
            continue
        with untouched(subject):
            findings += organ(subject if organ is examine_streams else remembering)
        if any(finding.name in FATAL for finding in findings):
            break
    remarks = [finding for finding in findings if isinstance(finding, Remark)]
    names = {finding.name for finding in findings}
    follow = SYMPTOMS | (SHADOWED if names & SHADOWS else set())
    causes = [finding for finding in alarms(findings) if finding.name not in follow]
    return (causes or alarms(findings)) + remarks


def report(findings: Sequence[Finding]) -> str:
    """The findings as text, one a line."""
    lines = [] if alarms(findings) else [NO_COMPLAINT]
    for number, finding in enumerate(findings, 1):
        mark = "remark, " if isinstance(finding, Remark) else ""
        lines.append(f"{number}. {mark}{finding.name}: {finding.sentence}")
    return "\n".join(lines)
