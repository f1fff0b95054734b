"""Which known mistake gives the gradients that a loop uses? Each is a hypothesis, tried at every watched step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from llm_lab.train.doctor.subject import Finding, Subject
from llm_lab.train.doctor.watch import PARTS, WATCHED, Watch, watched

ALIKE, TWIN = 0.999, 0.9995  # cosines of gradients
TINY = 0.02  # of the mean loss's gradient


def gradient_findings(subject: Subject, watch: Watch) -> list[Finding]:
    """The loop's gradients against those of its batches' mean loss: their direction, then their size."""
    worst = least_cosine(watch.used, watch.book)
    if worst < ALIKE:
        return _wrong_gradient(subject, watch, worst)
    sizes = [(u.norm() / b.norm().clamp(min=1e-12)).item() for u, b in zip(watch.used, watch.book, strict=True)]
    if max(sizes) > 1.5:
        sentence = (
            "the gradient is a multiple of the mean loss's, so clipping acts at every step: divide by the targets."
        )
        return [Finding("gradient too large", sentence)]
    if max(sizes) < TINY:
        sentence = f"the gradient is {max(sizes):.2g} of the mean loss's: it is divided twice, or clipped to almost 0."
        return [Finding("gradient too small", sentence)]
    return []


def _wrong_gradient(subject: Subject, watch: Watch, worst: float) -> list[Finding]:
    again = watched(subject, PARTS)
    if cosine(watch.book[0], again.book[0]) < ALIKE:
        return []  # the model draws random numbers that the doctor can't switch off: nothing can be compared
    for name in sorted(set.intersection(*(set(others) for others in again.others))):
        if least_cosine(again.used, [others[name] for others in again.others]) > TWIN:
            return [_taken(name)]
    for hypothesis in (_size_and_sign, _kept, _other_batch, _per_tensor):
        found = hypothesis(subject, again)
        if found is not None:
            return [found]
    sentence = (
        f"the gradient at the optimizer's step has a cosine of {worst:.3f} with that of the batch's mean loss: the "
        "loop uses another batch, part of it, or another loss."
    )
    return [Finding("wrong gradient", sentence)]


def _taken(name: str) -> Finding:
    """The finding for a gradient that is exactly another's."""
    if name.startswith("means"):
        n = name.split()[1]
        sentence = f"each of {n} parts is averaged by itself, then the means: divide sums by all targets instead."
        return Finding("mean of means", sentence)
    if name.startswith("the "):
        sentence = (
            f"the update holds the gradient of {name} of the batch, those of the other parts are lacking: clear the "
            "gradients once a step, before the first part, and go through all parts."
        )
        return Finding("gradient of one part", sentence)
    sentence = f"step s learns from batch s{name.split()[1]}: count the batches as the steps."
    return Finding("another batch", sentence)


def _size_and_sign(subject: Subject, watch: Watch) -> Finding | None:
    if not all(u.any() for u in watch.used):
        sentence = "the gradient is zero when the optimizer steps: clear gradients before backward, not after it."
        return Finding("gradients cleared too early", sentence)
    if max(cosine(u, b) for u, b in zip(watch.used, watch.book, strict=True)) < -ALIKE:
        return Finding("gradient has the wrong sign", "each step climbs the loss: minimize it, -ln p.")
    return None


def _kept(subject: Subject, watch: Watch) -> Finding | None:
    """Mixtures: of older gradients, or of the weights."""
    used, book = watch.used, watch.book
    kept = all(spanned(used[s], [used[s - 1], book[s]]) for s in range(1, WATCHED))
    if cosine(used[0], book[0]) > ALIKE and kept:
        sentence = "each step still holds the gradients of the steps before: call zero_grad after every step."
        return Finding("gradients not cleared", sentence)
    if all(spanned(u, [b, w]) for u, b, w in zip(used, book, watch.weights, strict=True)):
        sentence = "a multiple of the weights is in the gradient: leave weight decay to the optimizer (AdamW)."
        return Finding("weight decay in the gradient", sentence)
    return None


def _other_batch(subject: Subject, watch: Watch) -> Finding | None:
    """A mixture of the batch and a neighbour, or another batch at each step."""
    for s in range(1, WATCHED):
        near = {name: g for name, g in watch.others[s].items() if name.startswith("batch")}
        fits = [name for name, gradient in near.items() if cosine(watch.used[s], gradient) > TWIN]
        if not fits:
            return None
    sentence = f"step {WATCHED - 1} learns from batch {WATCHED - 1 + int(fits[0].split()[1])}: count batches as steps."
    return Finding("another batch", sentence)


def _per_tensor(subject: Subject, watch: Watch) -> Finding | None:
    """Each parameter by itself: its gradient is lacking, scaled, or cut."""
    named = [(name, p.numel()) for name, p in subject.model.named_parameters() if p.requires_grad]
    used, book = (vectors[-1].split([n for _, n in named]) for vectors in (watch.used, watch.book))
    cosines = [cosine(u, b) for u, b in zip(used, book, strict=True)]
    if min(cosines) > ALIKE:
        sentence = "each parameter's gradient is scaled by itself: clip the norm of all together."
        return Finding("parameters clipped one by one", sentence)
    whole = watch.used[-1]
    if (whole.abs() > 0.999 * whole.abs().max()).sum() > 3 and (torch.sign(whole) == torch.sign(watch.book[-1])).all():
        sentence = "gradients are cut at a value, entry by entry, which turns them: clip their norm."
        return Finding("gradient clipped by value", sentence)
    wrong = [name for (name, _), c in zip(named, cosines, strict=True) if c < ALIKE]
    lost = [name for (name, _), u, b in zip(named, used, book, strict=True) if b.any() and not u.any()]
    if lost and set(lost) == set(wrong):
        sentence = f"the loop's gradient of {len(lost)} parameters, {lost[0]} first, is zero: it clears or skips them."
        return Finding("gradient lost in the loop", sentence)
    return None


def cosine(a: Tensor, b: Tensor) -> float:
    """The cosine of the angle between two vectors; two zeros are alike."""
    if not a.any() and not b.any():
        return 1.0
    return F.cosine_similarity(a.double(), b.double(), dim=0).item()


def least_cosine(some: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """The smallest cosine of pairs of vectors."""
    return min(cosine(a, b) for a, b in zip(some, others, strict=True))


def spanned(vector: Tensor, basis: Sequence[Tensor]) -> bool:
    """True if the vector is nearly a mixture of the basis, whatever clipping did to their sizes."""
    matrix, vector = torch.stack(list(basis), dim=1).double(), vector.double()
    rest = vector - matrix @ torch.linalg.lstsq(matrix, vector[:, None]).solution[:, 0]
    return bool(rest.norm() < 0.05 * vector.norm())
