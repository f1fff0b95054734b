"""Does the held-out loss measure the model that trains, and nothing else?"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from llm_lab.train.doctor.subject import Finding, Subject, dropouts
from llm_lab.train.doctor.untouched import sharpened, untouched

NUDGES = 4  # a coarse number, such as a share of a few answers, may stay the same by chance


def examine_evaluation(subject: Subject) -> list[Finding]:
    """No dropout, the same number twice, of the weights that are trained, without padding."""
    if subject.evaluate is None:
        return []
    modes: list[bool] = []
    hooks = [
        module.register_forward_pre_hook(lambda module, _: modes.append(module.training))
        for module, _ in dropouts(subject.model)
    ]
    weights = [p.detach().clone() for p in subject.model.parameters()]
    try:
        subject.model.train()
        first, second = float(subject.evaluate()), float(subject.evaluate())
    finally:
        for hook in hooks:
            hook.remove()
    if any(modes):
        sentence = "the model is evaluated in training mode: call model.eval() before it."
        return [Finding("dropout in evaluation", sentence)]
    if any(not torch.equal(a, b) for a, b in zip(weights, subject.model.parameters(), strict=True)):
        return [Finding("evaluation trains", "the weights are others after an evaluation: take no step in it.")]
    if not math.isclose(first, second, rel_tol=1e-5):
        sentence = (
            f"the same weights score {first:.3f}, then {second:.3f}: fix the evaluation's masks, or their noise hides "
            "what you want to see."
        )
        return [Finding("evaluation not repeatable", sentence)]
    return _follows(subject, first) or _padding(subject)


def _follows(subject: Subject, before: float) -> list[Finding]:
    """Other weights must score otherwise; an average of weights may wait for an update."""
    assert subject.evaluate is not None
    with untouched(subject), torch.no_grad():
        for _ in range(NUDGES):
            for p in subject.model.parameters():
                p.add_(p.std(unbiased=False) * torch.randn_like(p) + 1e-3)
            if float(subject.evaluate()) != before:
                return []
    if subject.update is not None:
        with untouched(subject):
            for step in range(2):
                subject.update(step)
            if float(subject.evaluate()) != before:
                return []
    what = f"the held-out loss stays {before:.3f} when the weights change"
    sentence = f"{what}: it is that of another model, or of an old copy; evaluate the model that trains."
    return [Finding("evaluation of another model", sentence)]


@contextlib.contextmanager
def on_embeddings(subject: Subject, hook: Callable[[Any, Any, Any], Any]) -> Iterator[None]:
    """Inside, `hook(module, (ids,), vectors)` is called where token ids become vectors."""
    large = [m for m in subject.model.modules() if isinstance(m, nn.Embedding)]
    handles = [m.register_forward_hook(hook) for m in large if m.num_embeddings >= subject.vocabulary_size]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _padding(subject: Subject) -> list[Finding]:
    """What the vector of padding is must not matter."""
    assert subject.evaluate is not None

    def spoil(module: nn.Module, given: Any, vectors: torch.Tensor) -> torch.Tensor:
        return torch.where((given[0] == subject.pad_id)[..., None], vectors.flip(-1) + 1.0, vectors)

    with sharpened(subject):
        before = float(subject.evaluate())
        with on_embeddings(subject, spoil):
            if math.isclose(float(subject.evaluate()), before, rel_tol=1e-5):
                return []
    sentence = "the held-out loss changes with the vector of padding: pass the mask in the evaluation too."
    return [Finding("padding is read in evaluation", sentence)]
