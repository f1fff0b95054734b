"""Who competes: the package's training step, and what a reader would use instead, of equal width, depth and size.

Ours is the package's `Trainer`, step for step. The others have the plain loop of a script: forward with labels,
backward, clip, AdamW. Everyone clips to a norm of 1 and reads the loss once a step. Learning rates stay small: they
don't change a step's time.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.batches import Shelf, dense_labels
from benchmarks.work import Size, Way, count_flops, count_step
from llm_lab.config import BERT_SHAPE, ModelConfig, TrainConfig
from llm_lab.model.attention import SHORT_ROW
from llm_lab.model.heads import MaskedLanguageModel, count_parameters
from llm_lab.tasks.masked_language_model import loss_sum
from llm_lab.text.batches import Batch
from llm_lab.train.loop import Trainer
from llm_lab.train.precision import autocast, choose_device, choose_precision

LEARNING_RATE = 1e-3
STEPS = 10_000  # more than any benchmark takes: the schedule stays in its warm-up
TOLERANCE = 0.03  # by how much the parameters of two contestants may differ


@dataclass(frozen=True)
class Setup:
    """Where everyone runs."""

    device: torch.device
    precision: str  # of those that take the fastest format of the device


def setup_for(device: str = "auto", precision: str = "auto") -> Setup:
    """The device, and the format that the package measures to be fast on it."""
    chosen = choose_device(device)
    return Setup(chosen, choose_precision(precision, chosen))


class Runner(Protocol):
    """One contestant, ready to train."""

    model: nn.Module
    precision: str

    def take(self) -> float:
        """One whole training step; returns its loss."""

    def mean_loss(self, batch: Batch) -> Tensor:
        """The loss of a batch in the contestant's format, to count its products."""

    def update(self) -> None:
        """The optimizers' part of a step, to count its products."""


class Ours(Trainer):
    """The package's trainer, one step at a time."""

    def take(self) -> float:
        """One step of the package's loop; returns its loss."""
        return self._train_step()[0]["loss"]

    def mean_loss(self, batch: Batch) -> Tensor:
        """The loss that a step takes the gradient of."""
        with autocast(self.device, self.precision):
            return self.loss_sum(self.model, batch.to(self.device)) / batch.num_targets

    def update(self) -> None:
        """The optimizers' part of a step."""
        for optimizer in self.optimizers:
            optimizer.step()


class Peer:
    """Another library's model in the loop that its readers write."""

    def __init__(self, model: nn.Module, loss: Callable[[Batch], Tensor], shelf: Shelf, setup: Setup, fused: bool):
        self.model, self.loss, self.shelf = model, loss, shelf
        self.device, self.precision = setup.device, setup.precision
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE / 10, fused=fused or None)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.step = 0

    def take(self) -> float:
        """One training step; returns its loss."""
        batch = self.shelf.batch(self.step).to(self.device)
        self.model.train()
        loss = self.mean_loss(batch)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return loss.item()

    def mean_loss(self, batch: Batch) -> Tensor:
        """The loss of a batch, in the contestant's format."""
        with autocast(self.device, self.precision):
            return self.loss(batch.to(self.device))

    def update(self) -> None:
        """The optimizer's part of a step."""
        self.optimizer.step()


class TorchEncoder(nn.Module):
    """`torch.nn.TransformerEncoder` with learned positions and BERT's head: what a tutorial builds."""

    def __init__(self, size: Size):
        super().__init__()
        self.embedding = nn.Embedding(size.vocabulary, size.width)
        self.positions = nn.Parameter(torch.zeros(size.length, size.width))
        layer = nn.TransformerEncoderLayer(
            size.width, size.heads, 4 * size.width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        norm = nn.LayerNorm(size.width)
        self.encoder = nn.TransformerEncoder(layer, size.layers, norm, enable_nested_tensor=False)
        self.dense, self.norm = nn.Linear(size.width, size.width), nn.LayerNorm(size.width)
        self.bias = nn.Parameter(torch.zeros(size.vocabulary))
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, batch: Batch) -> Tensor:
        """The mean loss of a batch, with logits at every position."""
        x = self.embedding(batch.inputs) + self.positions[: batch.inputs.shape[1]]
        x = self.encoder(x, src_key_padding_mask=None if batch.mask is None else ~batch.mask)
        logits = F.linear(self.norm(F.gelu(self.dense(x))), self.embedding.weight, self.bias)
        return F.cross_entropy(logits.flatten(0, 1).float(), dense_labels(batch).flatten())


def transformers_model(kind: str, size: Size, attention: str, dropout: float) -> nn.Module:
    """BertForMaskedLM or ModernBertForMaskedLM with random weights; ModernBERT's every layer sees the whole row."""
    import transformers

    common: dict[str, Any] = {
        "vocab_size": size.vocabulary,
        "hidden_size": size.width,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "max_position_embeddings": size.length,
        "pad_token_id": 0,
        "attn_implementation": attention,
    }
    if kind == "BERT":
        common |= {"intermediate_size": 4 * size.width}
        common |= {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
        return transformers.BertForMaskedLM(transformers.BertConfig(**common))
    common |= {"intermediate_size": size.feed_forward, "layer_types": ["full_attention"] * size.layers}
    common |= {"sparse_prediction": True, "bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
    return transformers.ModernBertForMaskedLM(transformers.ModernBertConfig(**common))


def labelled_loss(model: nn.Module) -> Callable[[Batch], Tensor]:
    """A batch -> the loss that a model of transformers computes from labels."""

    def loss(batch: Batch) -> Tensor:
        mask = None if batch.mask is None else batch.mask.long()
        return model(input_ids=batch.inputs, attention_mask=mask, labels=dense_labels(batch)).loss

    return loss


@dataclass(frozen=True)
class Variant:
    """One way to run a contestant."""

    attention: str = "sdpa"
    compiled: bool = False

    @property
    def name(self) -> str:
        """`sdpa`, or `eager, compiled`."""
        return self.attention + (", compiled" if self.compiled else "")


TRIED = (Variant("eager"), Variant("sdpa"), Variant("eager", True), Variant("sdpa", True))


@dataclass(frozen=True)
class Contestant:
    """A row of the table: how to build it, what it needs, and the variants of which the fastest competes."""

    name: str
    about: str
    kind: str = "ours"  # ours, BERT, ModernBERT or torch
    shape: tuple[tuple[str, Any], ...] = ()  # ours: changes of the model's config
    optimizer: str = "muon"
    tuned: bool = True  # the device's fastest format and fused AdamW, else fp32 and plain AdamW
    dropout: float = 0.0
    variants: tuple[Variant, ...] = (Variant(),)

    @property
    def missing(self) -> str:
        """Why this machine can't run it, in a sentence; empty if it can."""
        if self.kind in ("BERT", "ModernBERT") and importlib.util.find_spec("transformers") is None:
            return f"{self.name}: skipped, transformers is not installed (pip install transformers)."
        return ""

    def build(self, size: Size, setup: Setup, shelf: Shelf, variant: Variant | None = None, seed: int = 0) -> Runner:
        """A fresh model, from the seed, ready to train."""
        variant = variant or self.variants[0]
        torch.manual_seed(seed)
        if self.kind == "ours":
            return self._ours(size, setup, shelf, variant, seed)
        if self.kind == "torch":
            model: nn.Module = TorchEncoder(size)
            loss: Callable[[Batch], Tensor] = model
        else:
            model = transformers_model(self.kind, size, variant.attention, self.dropout)
            loss = labelled_loss(torch.compile(model) if variant.compiled else model)  # type: ignore[arg-type]
        own = setup if self.tuned else replace(setup, precision="fp32")
        return Peer(model.to(setup.device), loss, shelf, own, fused=self.tuned)

    def _ours(self, size: Size, setup: Setup, shelf: Shelf, variant: Variant, seed: int) -> Ours:
        config = our_config(size, **dict(self.shape))
        settings = TrainConfig(
            steps=STEPS,
            batch_rows=size.rows,
            row_length=size.length,
            learning_rate=LEARNING_RATE,
            optimizer=self.optimizer,
            precision=setup.precision,
            device=setup.device.type,
            seed=seed,
        )
        loss = torch.compile(loss_sum) if variant.compiled else loss_sum
        return Ours(MaskedLanguageModel(config), shelf, loss, settings, Path("."))  # type: ignore[arg-type]

    def way(self, size: Size, setup: Setup, variant: Variant) -> Way:
        """What the formula must know: which products are left out, and which are done twice."""
        if self.kind == "ours":
            bert = dict(self.shape).get("feed_forward") == "gelu"
            short = setup.device.type == "cpu" and setup.precision == "bf16" and size.length <= SHORT_ROW
            return Way(gated=not bert, fused=not short)
        fused = variant.attention == "sdpa" and self.dropout == 0.0
        modern = self.kind == "ModernBERT"
        return Way(gated=modern, sparse_head=modern, sparse_last=False, fused=fused)


def our_config(size: Size, **changes: Any) -> ModelConfig:
    """The package's default architecture at a size."""
    config = ModelConfig(
        vocabulary_size=size.vocabulary,
        width=size.width,
        num_layers=size.layers,
        num_heads=size.heads,
        feed_forward_width=size.feed_forward,
        max_length=size.length,
    )
    if changes.get("feed_forward") == "gelu":
        changes = {**changes, "feed_forward_width": 4 * size.width}
    return replace(config, **changes)


OURS = "ours"
CONTESTANTS = {
    one.name: one
    for one in (
        Contestant(OURS, "the package as `pretrain` runs it: Muon, format by measurement, not compiled"),
        Contestant("ours, compiled", "the same, its loss compiled", variants=(Variant(compiled=True),)),
        Contestant("ours, AdamW", "the same with AdamW for all", optimizer="adamw"),
        Contestant(
            "ours as BERT", "our code on BERT's architecture, AdamW", shape=tuple(BERT_SHAPE.items()), optimizer="adamw"
        ),
        Contestant("BERT", "BertForMaskedLM in fp32, dropout off", "BERT", tuned=False),
        Contestant("BERT, dropout", "the same with its default dropout of 0.1", "BERT", tuned=False, dropout=0.1),
        Contestant(
            "BERT, tuned", "no dropout, format by measurement, fused AdamW, best variant", "BERT", variants=TRIED
        ),
        Contestant("ModernBERT", "sparse prediction, tuned the same, best variant", "ModernBERT", variants=TRIED),
        Contestant("nn.TransformerEncoder", "torch's own layers with BERT's head, fp32", "torch", tuned=False),
    )
}


def available(names: list[str]) -> Iterator[Contestant]:
    """The contestants of these names that this machine can run; a sentence for each of the others."""
    for name in names:
        if CONTESTANTS[name].missing:
            print(CONTESTANTS[name].missing)
        else:
            yield CONTESTANTS[name]


def require_equal_size(parameters: dict[str, int]) -> None:
    """Raise ValueError if a contestant has noticeably more or fewer parameters than ours, or than the first."""
    ours = parameters.get(OURS, next(iter(parameters.values())))
    for name, count in parameters.items():
        if abs(count / ours - 1) > TOLERANCE:
            raise ValueError(f"{name} has {count:,} parameters, ours {ours:,}: no fair comparison.")


def operations(runner: Runner, batch: Batch) -> dict[str, int]:
    """Counted operations of one step: forward and backward, and the optimizers' (Muon multiplies matrices too)."""
    counted = {"step": count_step(lambda: runner.mean_loss(batch)), "optimizer": count_flops(runner.update)}
    runner.model.zero_grad(set_to_none=True)
    return counted


def parameters_of(runner: Runner) -> int:
    """Numbers that training changes."""
    return count_parameters(runner.model)
