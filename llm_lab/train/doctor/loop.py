"""Does the loop do what the parts say? Its gradients, learning rates and evaluation, seen from outside."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_lab.train.doctor.subject import Finding, Subject, backward, dropouts, reference_sum, to_model, without_dropout


def examine_loop(subject: Subject) -> list[Finding]:
    """What `update` really does, seen at the moment when the optimizer steps."""
    if subject.update is None:
        return []
    model = subject.model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    seen: list[tuple[list[Tensor], float, bool]] = []
    peaks = [group["lr"] for group in subject.optimizers[0].param_groups]

    def watch(optimizer: Any, *_: Any) -> None:
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]
        seen.append((gradients, optimizer.param_groups[0]["lr"] / peaks[0], model.training))

    hook = subject.optimizers[0].register_step_pre_hook(watch)
    expected: list[list[Tensor]] = []
    parts: list[dict[int, list[Tensor]]] = []
    try:
        with without_dropout(model):
            for p in parameters:
                p.grad = None
            for step in range(4):
                left = [None if p.grad is None else p.grad.clone() for p in parameters]
                expected.append(_fresh(subject, step, parameters))
                parts.append({n: _mean_of_means(subject, step, n, parameters) for n in (2, 4, 8)})
                for p, gradient in zip(parameters, left, strict=True):
                    p.grad = gradient
                before = [p.detach().clone() for p in parameters]
                subject.update(step)
                if all(torch.equal(a, b) for a, b in zip(before, parameters, strict=True)) and subject.schedule(step):
                    return [Finding("weights don't move", f"step {step} leaves every weight as it was.")]
    finally:
        hook.remove()
    if len(seen) != 4:
        sentence = f"4 calls of update made {len(seen)} steps of the optimizer."
        return [Finding("steps miscounted", sentence)]
    return _read(subject, seen, expected, parts)


def _read(subject: Subject, seen: list[Any], expected: list[list[Tensor]], parts: list[Any]) -> list[Finding]:
    found = []
    used = [_flat(gradients) for gradients, _, _ in seen]
    book = [_flat(gradients) for gradients in expected]
    if min(_cosine(a, b) for a, b in zip(used, book, strict=True)) < 0.999:
        kept = all(_spanned(used[s], [used[s - 1], book[s]]) for s in (1, 2, 3))  # whatever clipping did
        means = [
            n for n in (2, 4, 8) if all(_cosine(u, _flat(p[n])) > 0.9995 for u, p in zip(used, parts, strict=True))
        ]
        if means:
            sentence = (
                f"each of {means[0]} parts is averaged by itself, then the means: divide sums by all targets instead."
            )
            found.append(Finding("mean of means", sentence))
        elif _cosine(used[0], book[0]) > 0.999 and kept:
            sentence = "each step still holds the gradients of the steps before: call zero_grad after every step."
            found.append(Finding("gradients not cleared", sentence))
        else:
            worst = min(_cosine(a, b) for a, b in zip(used, book, strict=True))
            sentence = (
                f"the gradient at the optimizer's step has a cosine of {worst:.3f} with that of the batch's mean loss: "
                "the loop uses another batch, part of it, or another loss."
            )
            found.append(Finding("wrong gradient", sentence))
    elif max((u.norm() / b.norm()).item() for u, b in zip(used, book, strict=True)) > 1.5:
        sentence = (
            "the gradient is a multiple of the mean loss's, so clipping acts at every step: divide by the targets."
        )
        found.append(Finding("gradient too large", sentence))
    rates = [rate for _, rate, _ in seen]
    wanted = [subject.schedule(step) for step in range(4)]
    if not np.allclose(rates, wanted, rtol=1e-3, atol=1e-6):
        for n in (2, 4, 8):
            if np.allclose(np.diff(rates), n * np.diff(wanted), rtol=0.05, atol=1e-6) and np.any(np.diff(wanted)):
                sentence = (
                    f"the learning rate moves {n} times a step: step the scheduler once an update, not per micro-batch."
                )
                found.append(Finding("schedule runs ahead", sentence))
                break
        else:
            sentence = (
                f"the first learning rates are {_rounded(rates)} of the peak, the schedule says {_rounded(wanted)}."
            )
            found.append(Finding("schedule not followed", sentence))
    if not all(training for _, _, training in seen) and dropouts(subject.model):
        found.append(Finding("training in evaluation mode", "dropout is off in training: call model.train()."))
    return found


def _rounded(values: list[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([t.flatten() for t in tensors]).double()


def _cosine(a: Tensor, b: Tensor) -> float:
    return F.cosine_similarity(a, b, dim=0).item()


def _spanned(vector: Tensor, basis: list[Tensor]) -> bool:
    """True if the vector is nearly a mixture of the basis, whatever clipping did to their sizes."""
    matrix = torch.stack(basis, dim=1)
    rest = vector - matrix @ torch.linalg.lstsq(matrix, vector[:, None]).solution[:, 0]
    return bool(rest.norm() < 0.05 * vector.norm())


def _fresh(subject: Subject, step: int, parameters: list[nn.Parameter]) -> list[Tensor]:
    backward(subject, step)
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]


def _mean_of_means(subject: Subject, step: int, n: int, parameters: list[nn.Parameter]) -> list[Tensor]:
    batch = to_model(subject, subject.stream.batch(step))
    for p in parameters:
        p.grad = None
    if len(batch.inputs) % n == 0:
        for part in batch.split(n):
            (reference_sum(subject, part) / max(1, part.num_targets) / n).backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]


def examine_evaluation(subject: Subject) -> list[Finding]:
    if subject.evaluate is None:
        return []
    modes: list[bool] = []
    hooks = [
        m.register_forward_pre_hook(lambda module, _: modes.append(module.training)) for m in dropouts(subject.model)
    ]
    try:
        subject.model.train()
        first, second = float(subject.evaluate()), float(subject.evaluate())
    finally:
        for hook in hooks:
            hook.remove()
    if any(modes):
        return [
            Finding("dropout in evaluation", "the model is evaluated in training mode: call model.eval() before it.")
        ]
    if first != second:
        sentence = (
            f"the same weights score {first:.3f}, then {second:.3f}: fix the evaluation's masks, or their noise hides "
            "what you want to see."
        )
        return [Finding("evaluation not repeatable", sentence)]
    return []
