"""The rows of lesson 12's ladder: a recipe, and what each row changes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from llm_lab.config import ModelConfig, TrainConfig

SEEDS = (0, 1, 2)
STEPS = 600
LONG_STEPS = 1200
LONG = ("base", "80/10/10", "AdamW")
MODEL = ModelConfig(width=96, num_layers=2, num_heads=4, feed_forward_width=256)
TRAIN = TrainConfig(
    steps=STEPS, row_length=64, learning_rate=8e-3, evaluate_every=100, checkpoint_every=10**9, precision="fp32"
)


@dataclass(frozen=True)
class Row:
    """One change of the recipe. `search`: learning rates tried with seed 0 before the seeds that count."""

    name: str
    group: str
    train: dict[str, Any] = field(default_factory=dict)
    masking: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    vocabulary: int = 2048
    targets: str = "tokens"  # tokens, words or spans
    static: bool = False  # the masks of a row never change
    padded: bool = False  # a document a row instead of packed rows
    corpus_rows: int | None = None  # train on this many rows only
    dense: bool = False  # logits at every position
    compiled: bool = False
    attention: str = ""  # "batched" or "fused" instead of the package's choice
    cosine: bool = False
    averaging: float = 0.0
    last_rate: float | None = None  # the mask rate at the last step; it changes in a line
    batch_ramp: bool = False  # 8 rows, then 16, then 32
    length_ramp: bool = False  # rows of 16, then 32, then 64 tokens; the tokens of a batch stay
    search: tuple[float, ...] = ()
    against: str = "base"  # the row that differs by this one change


def _ladder() -> tuple[Row, ...]:
    small: dict[str, Any] = {"corpus_rows": 1000, "group": "small corpus"}
    return (
        Row("base", "base", search=(2e-3, 4e-3, 8e-3, 1.6e-2)),
        Row("logits at every position", "speed", dense=True),
        Row("padded rows", "speed", padded=True),
        Row("bf16", "speed", {"precision": "bf16"}),
        Row("compiled", "speed", compiled=True),
        Row("attention in three products", "speed", attention="batched"),
        Row("mask rate 15%", "masks", masking={"rate": 0.15}),
        Row("mask rate 20%", "masks", masking={"rate": 0.2}),
        Row("mask rate 40%", "masks", masking={"rate": 0.4}),
        Row("mask rate 30% to 15%", "masks", last_rate=0.15),
        Row("80/10/10", "masks", masking={"scheme": "80/10/10"}),
        Row("whole words", "masks", targets="words"),
        Row("spans", "masks", targets="spans"),
        Row("AdamW", "optimizer", {"optimizer": "adamw"}, search=(2e-3, 4e-3, 8e-3, 1.6e-2)),
        Row("learning rate / 4", "optimizer", {"learning_rate": TRAIN.learning_rate / 4}),
        Row("learning rate x 4", "optimizer", {"learning_rate": TRAIN.learning_rate * 4}),
        Row("no weight decay", "optimizer", {"weight_decay": 0.0}),
        Row("weight decay x 4", "optimizer", {"weight_decay": 0.2}),
        Row("no warm-up", "schedule", {"warmup": 0.0}),
        Row("warm-up 20%", "schedule", {"warmup": 0.2}),
        Row("constant", "schedule", {"decay": 0.0}),
        Row("falling line", "schedule", {"decay": 0.95}),
        Row("cosine", "schedule", cosine=True),
        Row("averaged weights", "schedule", averaging=0.98),
        Row("constant, averaged", "schedule", {"decay": 0.0}, averaging=0.98, against="constant"),
        Row("batch of 8", "batch", {"batch_rows": 8}, search=(2e-3, 4e-3, 8e-3, 1.6e-2)),
        Row("batch of 128", "batch", {"batch_rows": 128}, search=(4e-3, 8e-3, 1.6e-2, 3.2e-2)),
        Row("batch ramp 8 to 32", "batch", batch_ramp=True),
        Row("length ramp 16 to 64", "batch", length_ramp=True),
        Row("vocabulary 1,024", "vocabulary", vocabulary=1024),
        Row("vocabulary 4,096", "vocabulary", vocabulary=4096),
        Row("vocabulary 8,192", "vocabulary", vocabulary=8192),
        Row("1,000 rows", **small),
        Row("1,000 rows, static masks", static=True, against="1,000 rows", **small),
        Row("1,000 rows, dropout 10%", model={"dropout": 0.1}, against="1,000 rows", **small),
        Row("1,000 rows, dropout 30%", model={"dropout": 0.3}, against="1,000 rows", **small),
        Row("dropout 10%", "small corpus", model={"dropout": 0.1}),
        Row("together", "together", {"decay": 0.0}, {"scheme": "80/10/10"}, averaging=0.98, length_ramp=True),
    )


LADDER = {row.name: row for row in _ladder()}
