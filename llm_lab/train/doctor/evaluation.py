"""Does the held-out loss measure the model, and nothing else?"""

from __future__ import annotations

import math

from llm_lab.train.doctor.subject import Finding, Subject, dropouts


def examine_evaluation(subject: Subject) -> list[Finding]:
    """No dropout, and the same number twice."""
    if subject.evaluate is None:
        return []
    modes: list[bool] = []
    hooks = [
        module.register_forward_pre_hook(lambda module, _: modes.append(module.training))
        for module, _ in dropouts(subject.model)
    ]
    try:
        subject.model.train()
        first, second = float(subject.evaluate()), float(subject.evaluate())
    finally:
        for hook in hooks:
            hook.remove()
    if any(modes):
        sentence = "the model is evaluated in training mode: call model.eval() before it."
        return [Finding("dropout in evaluation", sentence)]
    if math.isclose(first, second, rel_tol=1e-5):
        return []
    sentence = (
        f"the same weights score {first:.3f}, then {second:.3f}: fix the evaluation's masks, or their noise hides what "
        "you want to see."
    )
    return [Finding("evaluation not repeatable", sentence)]
