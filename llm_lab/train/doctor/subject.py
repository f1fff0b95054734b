"""What the doctor examines, what it says, and the measurements that its examinations share.

Letters: B batch, T tokens, K chosen positions, V vocabulary.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IGNORED = -100  # a target that counts for nothing
PATIENCE = 200  # batches without any target before the doctor gives up
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
WITH_DROPOUT = (nn.MultiheadAttention, nn.RNNBase)  # drop activations inside, by a number named `dropout`


class Finding(NamedTuple):
    """What is wrong: a short name, and a sentence that says what was seen and what to change."""

    name: str
    sentence: str


class Remark(Finding):
    """A finding that is no alarm: what was seen is a mistake in one run and meant in another."""


def alarms(findings: Sequence[Finding]) -> list[Finding]:
    """The findings without the remarks."""
    return [finding for finding in findings if not isinstance(finding, Remark)]


class Stream(Protocol):
    """A source of batches."""

    def batch(self, step: int) -> Any:
        """Batch number `step`."""


@dataclass(frozen=True)
class Subject:
    """A training run as the doctor sees it, before its first step. What is None isn't examined.

    `model(inputs, mask, positions)` gives logits (B, K, V). `stream.batch(s)` has inputs (B, T), positions and targets
    (B, K), -100 for no target, mask (B, T), True at what may be read, or None; it knows its `num_targets`, `to` and
    `split` (as `llm_lab.text.batches.Batch` does). `loss_sum(model, batch)` is the sum over the targets, in nats. The
    optimizers hold the peak learning rates, `schedule(s)` is their share at step s, past the end too. `update(s)` is
    one whole step of the loop, number s; `evaluate()` its held-out loss, asked twice. `stream_of(rank, world_size)` are
    the streams of several processes, `resumed(s)` is the stream of a run taken up again at step s. `unknown_id` stands
    for words that the vocabulary lacks.
    """

    model: nn.Module
    stream: Stream
    loss_sum: Callable[[Any, Any], Tensor]
    optimizers: Sequence[torch.optim.Optimizer]
    schedule: Callable[[int], float]
    steps: int
    vocabulary_size: int
    mask_id: int
    pad_id: int
    special_ids: Sequence[int]
    update: Callable[[int], Any] | None = None
    evaluate: Callable[[], float] | None = None
    stream_of: Callable[[int, int], Stream] | None = None
    resumed: Callable[[int], Stream] | None = None
    unknown_id: int | None = None


def is_target(batch: Any) -> Tensor:
    """True at the targets of a batch that count, (B, K)."""
    return batch.targets != IGNORED


def is_word(subject: Subject, batch: Any) -> Tensor:
    """True where words stand or are hidden, (B, T): not at padding, nor at special tokens other than [MASK]."""
    others = torch.tensor([i for i in subject.special_ids if i != subject.mask_id], device=batch.inputs.device)
    return ~torch.isin(batch.inputs, others) | hidden_places(batch)


def hidden_places(batch: Any) -> Tensor:
    """True at the places whose words are asked for, (B, T)."""
    places = torch.zeros(batch.inputs.shape, dtype=torch.long, device=batch.inputs.device)
    return places.scatter_add(1, batch.positions, is_target(batch).long()) > 0


def originals(batch: Any) -> Tensor:
    """The ids of a batch as they were before words were hidden, (B, T)."""
    ids, real = batch.inputs.clone(), is_target(batch)
    ids[real.nonzero()[:, 0], batch.positions[real]] = batch.targets[real]
    return ids


def to_model(subject: Subject, batch: Any) -> Any:
    """The batch where the model is."""
    return batch.to(next(subject.model.parameters()).device)


def first_batch(subject: Subject) -> Any:
    """The first batch that hides a word, where the model is. Raises ValueError when none does."""
    for step in range(PATIENCE):
        batch = subject.stream.batch(step)
        if is_target(batch).any():
            return to_model(subject, batch)
    raise ValueError(f"the first {PATIENCE} batches hide no word at all: look at the masking.")


def logits_of(model: nn.Module, batch: Any) -> Tensor:
    """The model's scores at the chosen positions, (B, K, V)."""
    return model(batch.inputs, batch.mask, batch.positions).float()


def reference_sum(model: nn.Module, batch: Any) -> Tensor:
    """The sum of -ln p over the targets, by the book."""
    logits = logits_of(model, batch)
    return F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORED, reduction="sum")


def mean_loss(model: nn.Module, batch: Any) -> float:
    """The mean of -ln p over the targets, by the book, in the mode that the model is in."""
    with torch.no_grad():
        return reference_sum(model, batch).item() / max(1, int(is_target(batch).sum()))


def backward(model: nn.Module, batch: Any, parts: int = 1) -> float:
    """Fresh gradients of the mean loss of a batch, by the book; with more parts, of the mean of their means.

    Returns the mean loss.
    """
    model.zero_grad(set_to_none=True)
    total = 0.0
    for part in batch.split(parts) if parts > 1 else [batch]:
        loss = reference_sum(model, part) / max(1, int(is_target(part).sum())) / parts
        if loss.requires_grad:
            loss.backward()
        total += loss.item()
    return total


def peak_of(group: dict[str, Any]) -> float:
    """The peak learning rate of an optimizer's group; PyTorch's schedulers keep it as `initial_lr`."""
    return group.get("initial_lr", group["lr"])


def dropouts(model: nn.Module) -> list[tuple[nn.Module, str]]:
    """The modules that drop activations, and the name of the share that they drop."""
    named: list[tuple[nn.Module, str]]
    named = [(module, "p") for module in model.modules() if isinstance(module, DROPOUTS)]
    named += [(module, "dropout") for module in model.modules() if isinstance(module, WITH_DROPOUT)]
    return [(module, name) for module, name in named if getattr(module, name) > 0]


@contextlib.contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Nothing is dropped inside, in any mode."""
    before = [(module, name, getattr(module, name)) for module, name in dropouts(model)]
    for module, name, _ in before:
        setattr(module, name, 0.0)
    try:
        yield
    finally:
        for module, name, share in before:
            setattr(module, name, share)
