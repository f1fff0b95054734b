"""The first checks of a training run, done in seconds, before hours are spent on it.

`examine(subject)` looks at batches, model, loss, gradients, optimizer, schedule, loop and evaluation, and `report` says
in words what is wrong. A `Remark` is no alarm; `alarms(findings)` leaves it out. It changes nothing: weights,
gradients, optimizer state and random generators are put back.
`subject_of(trainer, tokenizer)` is the subject of the package's own loop.
"""

from llm_lab.train.doctor.examination import examine, report
from llm_lab.train.doctor.subject import Finding, Remark, Subject, alarms
from llm_lab.train.doctor.trainer import subject_of

__all__ = ["Finding", "Remark", "Subject", "alarms", "examine", "report", "subject_of"]
