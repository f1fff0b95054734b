"""Exercises of lesson 12, training skills: what is looked at in a reader's trainer before it runs.

It is called with sound parts and a tiny text, and each part keeps what it was asked. That shows the first fault.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_lab.checks.compare import as_number
from llm_lab.checks.exercise import Exercise
from llm_lab.config import MaskingConfig
from llm_lab.text.masking import IGNORED

EXERCISES: tuple[Exercise, ...] = ()
ALIKE = 0.8  # share of the targets that two steps or rows have in common; by chance it is below 0.3


@dataclass(frozen=True)
class Plan:
    """What both runs have in common: the text, the sizes of the encoder, and the settings of the loop."""

    rows: Tensor  # (N, T), ids of real text without padding
    vocabulary_size: int
    mask_id: int
    special_ids: tuple[int, ...]
    masking: MaskingConfig
    width: int
    num_layers: int
    num_heads: int
    feed_forward_width: int
    batch_rows: int
    steps: int
    peak_rate: float
    warmup: int  # steps

    @property
    def sizes(self) -> tuple[int, ...]:
        """The first arguments of `MyEncoder`."""
        shape = self.width, self.num_layers, self.num_heads, self.feed_forward_width
        return self.vocabulary_size, *shape, self.rows.shape[1]


def tiny_plan() -> Plan:
    """Ten rows of twelve tokens, some of them special, and eight steps of four rows: each row is read about thrice."""
    chance = torch.Generator().manual_seed(12)
    rows = torch.randint(5, 40, (10, 12), generator=chance)
    rows[:, 0], rows[::3, 6] = 2, 3
    return Plan(rows, 40, 4, (0, 1, 2, 3, 4), MaskingConfig(), 8, 1, 2, 12, 4, 8, 1e-3, 2)


@dataclass
class Step:
    """One step of the loop, as it was seen."""

    inputs: Tensor  # (B, T), what the encoder read
    mask: Tensor | None
    counts: Tensor | None  # (B, T), True where the loss depends on the encoder's vector; None without any slope
    loss: float
    model: nn.Module


@dataclass
class Witness:
    """The parts, as a trainer gets them. Each does its work, and keeps what it was asked."""

    sound: SimpleNamespace
    plan: Plan
    chosen: set[tuple[bytes, bytes]] = field(default_factory=set)  # ids and targets of a row
    hidden: dict[bytes, tuple[Tensor, Tensor]] = field(default_factory=dict)  # inputs -> ids, targets
    sizes: list[tuple[Any, ...]] = field(default_factory=list)
    read: list[tuple[Tensor, Tensor | None, Tensor]] = field(default_factory=list)  # ids, mask, vectors
    steps: list[Step] = field(default_factory=list)
    settings: list[tuple[Any, ...]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    before: dict[str, Tensor] = field(default_factory=dict)
    masking: list[tuple[Any, list[int]]] = field(default_factory=list)  # config and special ids
    attended: int = 0

    def __deepcopy__(self, memory: Any) -> Witness:
        """Whoever copies the model, which holds a hook of the witness, does not copy the witness."""
        return self

    def exact_counts(self, ids: Tensor, config: Any, special_ids: Any, noise: Tensor) -> Tensor:
        """04.exact_counts."""
        targets = self.sound.exact_counts(ids, config, special_ids, noise)
        self.masking.append((config, sorted(int(i) for i in special_ids)))
        self.chosen |= {(self.key(row), self.key(chosen)) for row, chosen in zip(ids, targets, strict=True)}
        return targets

    def labels(self, ids: Tensor, targets: Tensor, mask_id: int) -> Any:
        """04.labels."""
        inputs, labels = self.sound.labels(ids, targets, mask_id)
        for row, chosen, seen in zip(ids, targets, inputs, strict=True):
            if (self.key(row), self.key(chosen)) in self.chosen:
                self.hidden[self.key(seen)] = row, chosen
        return inputs, labels

    def attention(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """06.attention."""
        self.attended += 1
        return self.sound.attention(query, key, value, mask)

    def MyEncoder(self, *sizes: Any, **named: Any) -> nn.Module:  # noqa: N802 (a class, for the reader)
        """08.encoder."""
        encoder = self.sound.MyEncoder(*sizes, **named)
        self.sizes.append((*sizes, *named.values()))
        encoder.register_forward_hook(self._keep_read, with_kwargs=True)
        return encoder

    def _keep_read(self, encoder: nn.Module, given: Any, named: Any, vectors: Tensor) -> None:
        ids, mask = [*given, *named.values(), None][:2]
        self.read.append((ids.detach().clone(), mask, vectors))

    def train(self, model: Any, batches: Any, loss_of: Any, steps: int, peak_rate: float, warmup: int) -> list[float]:
        """09.loop."""
        self.settings.append((steps, peak_rate, warmup))
        self.before = {name: p.detach().clone() for name, p in model.named_parameters()}

        def watched(model: Any, batch: Any) -> Tensor:
            self.read.clear()
            loss = loss_of(model, batch)
            self._note(model, loss)
            return loss

        self.losses = self.sound.train(model, batches, watched, steps, peak_rate, warmup)
        return list(self.losses)

    def _note(self, model: nn.Module, loss: Tensor) -> None:
        if not self.read:
            return
        ids, mask, vectors = self.read[-1]
        counts = None
        if vectors.requires_grad and loss.requires_grad:
            (slope,) = torch.autograd.grad(loss, [vectors], retain_graph=True, allow_unused=True)
            counts = None if slope is None else slope.abs().sum(dim=-1) > 0
        self.steps.append(Step(ids, mask, counts, float(loss.detach()), model))

    @staticmethod
    def key(row: Tensor) -> bytes:
        """A row of ids as the key of a dictionary."""
        return row.detach().contiguous().numpy().tobytes()


def fault_of(answer: Any, sound: SimpleNamespace) -> str:
    """The name of the first fault of a trainer, or nothing."""
    witness = Witness(sound, tiny_plan())
    result = answer(witness, witness.plan)
    if result is None:
        return "nothing comes back"
    return next(faults(witness, result), "")


def faults(witness: Witness, result: Any) -> Iterator[str]:
    """The names of the faults that a run with witnesses shows."""
    plan = witness.plan
    if not witness.settings:
        yield "a loop of its own"
    if not witness.sizes or not witness.attended or not witness.steps:
        yield "an encoder of its own"
    yield from faults_of_form(witness, result)
    batch_rows = {len(step.inputs) for step in witness.steps}
    settings = [(plan.steps, plan.peak_rate, plan.warmup)]
    built = [sizes[:-1] for sizes in witness.sizes]
    if built != [plan.sizes] or witness.settings != settings or batch_rows != {plan.batch_rows}:
        yield "not the plan"
    if len(witness.losses) < plan.steps:
        yield "the batches run out"
    if any(config != plan.masking for config, _ in witness.masking):
        yield "not the plan"
    if any(special != sorted(plan.special_ids) for _, special in witness.masking):
        yield "special tokens may be hidden"
    yield from faults_of_inputs(witness)
    yield from faults_of_loss(witness)
    yield from faults_of_head(witness, result[0])
    yield from faults_of_variety(witness)


def faults_of_form(witness: Witness, result: Any) -> Iterator[str]:
    """What is returned."""
    pair = isinstance(result, list | tuple) and len(result) == 2 and isinstance(result[0], nn.Module)
    if not pair or isinstance(result[1], nn.Module) or not hasattr(result[1], "__len__"):
        yield "no pair"
    if [as_number(loss) for loss in result[1]] != witness.losses:
        yield "other losses"
    trained, returned = witness.steps[-1].model.state_dict(), result[0].state_dict()
    if trained.keys() != returned.keys() or not all(torch.equal(trained[name], returned[name]) for name in trained):
        yield "another model is returned"
    ids = witness.steps[-1].inputs
    scores = result[0](ids, None)
    if not isinstance(scores, Tensor) or scores.shape != (*ids.shape, witness.plan.vocabulary_size):
        yield "no score for each word"


def faults_of_inputs(witness: Witness) -> Iterator[str]:
    """What the encoder reads."""
    plan = witness.plan
    if not any((step.inputs == plan.mask_id).any() for step in witness.steps):
        yield "the words in sight"
    if any(witness.key(row) not in witness.hidden for step in witness.steps for row in step.inputs):
        yield "a masking of its own"
    if any(step.mask is not None and not bool(step.mask.all()) for step in witness.steps):
        yield "real words forbidden"


def faults_of_loss(witness: Witness) -> Iterator[str]:
    """Which places count, and how they are averaged."""
    for step in witness.steps:
        targets = step.inputs == witness.plan.mask_id
        if step.counts is None:
            yield "the encoder gets no slope"
        elif step.counts.all():
            yield "every place counts"
        elif torch.equal(step.counts, ~targets):
            yield "the visible words count"
        elif not torch.equal(step.counts, targets):
            yield "the neighbour answers"
    first = witness.steps[0]
    paid = _by_hand(witness, first.inputs, witness.sound)
    if paid and not math.isclose(first.loss, paid, rel_tol=1e-3):
        yield "no mean over the targets"


def _by_hand(witness: Witness, inputs: Tensor, sound: SimpleNamespace) -> float:
    """Nats a target of one batch, with the weights as they were before the first step."""
    model = witness.steps[0].model
    now = {name: p.detach().clone() for name, p in model.named_parameters()}
    ids = torch.stack([witness.hidden[witness.key(row)][0] for row in inputs])
    labels = ids.masked_fill(inputs != witness.plan.mask_id, IGNORED)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(witness.before[name])
        scores = model(inputs, None)
        for name, parameter in model.named_parameters():
            parameter.copy_(now[name])
    return F.cross_entropy(scores.flatten(0, 1), labels.flatten(), ignore_index=IGNORED).item()


def faults_of_head(witness: Witness, model: nn.Module) -> Iterator[str]:
    """Whether the head is the embedding, and whether all learns."""
    plan = witness.plan
    tables = [p for p in model.parameters() if sorted(p.shape) == sorted((plan.vocabulary_size, plan.width))]
    if len(tables) > 1:
        yield "a head of its own"
    ids = witness.steps[-1].inputs
    model.zero_grad()
    model(ids, None).logsumexp(dim=-1).sum().backward()
    absent = torch.ones(plan.vocabulary_size, dtype=torch.bool).index_fill(0, ids.flatten(), False)
    if not tables or tables[0].grad is None or not tables[0].grad[absent].any():
        yield "a head that never learns"
    if any(torch.equal(p, witness.before.get(name, p)) for name, p in model.named_parameters()):
        yield "parts that never move"


def faults_of_variety(witness: Witness) -> Iterator[str]:
    """Which rows are read, and whether their masks change."""
    visits: dict[bytes, list[Tensor]] = {}
    for step in witness.steps:
        for row in step.inputs:
            ids, targets = witness.hidden[witness.key(row)]
            visits.setdefault(witness.key(ids), []).append(targets)
    if len(visits) <= len(witness.plan.rows) / 2:
        yield "few rows, again and again"
    again = [torch.equal(a, b) for seen in visits.values() for a, b in zip(seen, seen[1:], strict=False)]
    if again and sum(again) > len(again) / 2:
        yield "masks that never change"
    maps = [step.inputs == witness.plan.mask_id for step in witness.steps]
    across_rows = [(row, other) for places in maps for row, other in zip(places, places[1:], strict=False)]
    across_steps = list(zip(maps, maps[1:], strict=False))
    for pairs in (across_rows, across_steps):
        common = sum(int((a & b).sum()) for a, b in pairs) / max(1, sum(int((a | b).sum()) for a, b in pairs))
        if common > ALIKE:
            yield "the same places each time"
