"""Checks of the exercises: a teacher that recognises the mistake.

`check("04.exact_counts", answer)` says in words what an answer is; `hint` and `show_me` help; `progress` shows what
passes. `exercises()` lists everything; `answers.load` brings back code that passed.
"""

from llm_lab.checks import answers
from llm_lab.checks.predictions import predict
from llm_lab.checks.registry import exercises
from llm_lab.checks.teacher import check, evidence, hint, progress, show_me

__all__ = ["answers", "check", "evidence", "exercises", "hint", "predict", "progress", "show_me"]
