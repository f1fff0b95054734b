"""Exercises of lesson 12, training skills: the two runs of the last one, the reader's and the package's."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_lab import home
from llm_lab.checks import guard
from llm_lab.checks.assembly import Tell
from llm_lab.checks.exercise import Exercise
from llm_lab.checks.lessons.lesson_12_look import Plan
from llm_lab.config import MaskingConfig, ModelConfig, TrainConfig
from llm_lab.lessons import budget
from llm_lab.model.heads import MaskedLanguageModel, count_parameters
from llm_lab.tasks.held_out import held_out_batches, unigram_loss
from llm_lab.tasks.masked_language_model import loss_sum
from llm_lab.text.corpus import build_corpus
from llm_lab.text.dataset import Dataset, prepare
from llm_lab.text.masking import IGNORED
from llm_lab.train.loop import Trainer

EXERCISES: tuple[Exercise, ...] = ()
TEXT, FAST_TEXT = "docs:numpy", "docs:tornado"
VOCABULARY, LENGTH = 512, 16

# -- the two runs -----------------------------------------------------------------------------------------------------


@cache
def text_named(name: str) -> Dataset:
    """A part of the documentation corpus in short rows."""
    return prepare(build_corpus(name, progress=lambda line: None), VOCABULARY, LENGTH)


def text() -> Dataset:
    """The text of both runs; in fast mode a smaller one."""
    return text_named(FAST_TEXT if home.is_fast() else TEXT)


def plan_of(text: Dataset) -> Plan:
    """What both runs have in common."""
    words, steps = text.tokenizer, budget(full=900, fast=6)
    return Plan(
        rows=torch.from_numpy(text.train.astype(np.int64)),
        vocabulary_size=words.vocabulary_size,
        mask_id=words.mask_id,
        special_ids=tuple(words.special_ids),
        masking=MaskingConfig(),
        width=64,
        num_layers=2,
        num_heads=4,
        feed_forward_width=192,
        batch_rows=64,
        steps=steps,
        peak_rate=4e-3,
        warmup=steps // 10,
    )


def with_progress(train: Any, plan: Plan, tell: Tell) -> Any:
    """The reader's loop, which now and then tells how far it is."""

    def told(model: Any, batches: Any, loss_of: Any, *settings: Any) -> Any:
        done = 0

        def counted(model: Any, batch: Any) -> Tensor:
            nonlocal done
            loss, done = loss_of(model, batch), done + 1
            if done % max(1, plan.steps // 8) == 0:
                tell(f"  step {done:4} of {plan.steps}   loss {float(loss.detach()):.3f}")
            return loss

        return train(model, batches, counted, *settings)

    return told


@torch.no_grad()
def held_out_loss(model: nn.Module, text: Dataset) -> float:
    """Nats a target on all held-out rows, at the package's fixed masks: 15% of the words."""
    nats, targets = 0.0, 0
    model.eval()
    for batch in held_out_batches(text):
        scores = model(batch.inputs, batch.mask)
        scores = scores.gather(1, batch.positions[..., None].expand(-1, -1, scores.shape[-1]))
        scores, targets_of = scores.flatten(0, 1), batch.targets.flatten()
        nats += F.cross_entropy(scores, targets_of, ignore_index=IGNORED, reduction="sum").item()
        targets += batch.num_targets
    return nats / targets


def loss_of_own(answer: Any, parts: SimpleNamespace, tell: Tell) -> float:
    """The held-out loss of the reader's trainer, with the reader's parts."""
    plan = plan_of(text())
    given = SimpleNamespace(**{**vars(parts), "train": with_progress(parts.train, plan, tell)})
    model, _ = answer(given, plan)
    loss = held_out_loss(model, text())
    tell(f"  your model, {count_parameters(model):,} parameters: {loss:.3f} nats on held-out text")
    return loss


@cache
def package_run() -> tuple[float, int]:
    """The held-out loss of the package's encoder, masking and loop with the same plan, and its parameters."""
    plan, data = plan_of(text()), text()
    with guard.generators_kept(), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        shape = ModelConfig(
            plan.vocabulary_size,
            width=plan.width,
            num_layers=plan.num_layers,
            num_heads=plan.num_heads,
            feed_forward_width=plan.feed_forward_width * 2 // 3,  # three matrices in place of two
            max_length=LENGTH,
        )
        model = MaskedLanguageModel(shape)
        warmup = plan.warmup / plan.steps
        config = TrainConfig(
            steps=plan.steps,
            batch_rows=plan.batch_rows,
            row_length=LENGTH,
            learning_rate=plan.peak_rate,
            optimizer="adamw",
            weight_decay=0.01,
            warmup=warmup,
            decay=1 - warmup,
            checkpoint_every=10**9,
            precision="fp32",
            device="cpu",
        )
        stream = data.stream(plan.masking, plan.batch_rows, seed=0)
        Trainer(model, stream, loss_sum, config, Path(folder), show_progress=False).run()  # type: ignore[arg-type]
    return held_out_loss(model, data), count_parameters(model)


def loss_of_package(tell: Tell) -> float:
    """The package's held-out loss; it is run once a session."""
    tell("  now the package: the same text, as many steps, the same rate ...")
    loss, parameters = package_run()
    frequencies = unigram_loss(text(), held_out_batches(text()))
    tell(f"  who knows word frequencies and nothing else: {frequencies:.3f} nats")
    tell(f"  the package's model, {parameters:,} parameters: {loss:.3f} nats on held-out text")
    return loss
