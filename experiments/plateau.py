"""Lesson 10: what ends the plateau at the unigram loss? Optimizer, block, first weights and learning rate, crossed.

    python -m experiments.plateau

A run ends when its training loss, averaged over 25 steps, is 0.3 nats below the unigram's, or after 900 steps (2,400
on the known language). The learning rate stays, after a warm-up of 30 steps. Of four rates the one that leaves first
with seed 0 is run with three seeds. Then, on text with Muon at one rate, the parts in which BERT's block differs from
the plain post-norm block, one at a time: added to that block, and taken from BERT's. One thread a run. Results:
experiments/plateau.json.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from experiments.architectures import CORPORA, ROWS, corpus, masking, shape
from experiments.bench import Results, Run, train
from llm_lab.config import BERT_SHAPE, TrainConfig
from llm_lab.model.heads import MaskedLanguageModel
from llm_lab.tasks.masked_language_model import score
from llm_lab.tasks.pretraining import held_out_batches
from llm_lab.text.masking import IGNORED
from llm_lab.train.loop import Record

OPTIMIZERS = ("adamw", "muon")
BLOCKS: dict[str, dict[str, Any]] = {
    "pre-norm": {},
    "post-norm": {"norm_place": "post"},
    "BERT": {**BERT_SHAPE, "dropout": 0.1},
}
# One part of BERT's added to the post-norm block, or taken from BERT's.
PARTS: dict[str, dict[str, Any]] = {
    "post-norm, learned positions": {"norm_place": "post", "positions": "learned"},
    "post-norm, GELU and biases": {"norm_place": "post", "feed_forward": "gelu", "biases": True},
    "post-norm, dropout": {"norm_place": "post", "dropout": 0.1},
    "BERT, rotary positions": {**BLOCKS["BERT"], "positions": "rotary"},
    "BERT, GeGLU and no biases": {**BLOCKS["BERT"], "feed_forward": "geglu", "biases": False},
    "BERT, no dropout": {**BLOCKS["BERT"], "dropout": 0.0},
}
PARTS_RATE = 4e-3  # the best of BERT's block with Muon; the post-norm block leaves at it, too
WEIGHTS = ("0.02", "PyTorch")  # of the linear layers: normal with this deviation, or nn.Linear's own
RATES = (1e-3, 2e-3, 4e-3, 8e-3)
SEEDS = (0, 1, 2)
STEPS = {"grammar": 2400, "docs": 900}
BELOW, WINDOW = 0.3, 25  # nats, steps


def run(corpus_name: str, optimizer: str, block: str, weights: str, learning_rate: float, seed: int) -> Run:
    """Train until the plateau is left. `left` is the step, None if it wasn't."""
    dataset = corpus(corpus_name)
    batches = held_out_batches(dataset)
    targets = np.concatenate([batch.targets[batch.targets != IGNORED].numpy() for batch in batches])
    unigram = float(-np.log(dataset.unigram[targets]).mean())
    torch.manual_seed(seed)
    model = MaskedLanguageModel(replace(shape("transformer", corpus_name), **{**BLOCKS, **PARTS}[block]))
    if weights == "PyTorch":
        for layer in model.modules():
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
    settings = TrainConfig(
        steps=STEPS[corpus_name],
        batch_rows=ROWS[corpus_name],
        row_length=dataset.held_out.shape[1],
        learning_rate=learning_rate,
        optimizer=optimizer,
        evaluate_every=10**9,
        checkpoint_every=10**9,
        precision="fp32",
        seed=seed,
    )

    def recent(records: list[Record]) -> float:
        last = [record["loss"] for record in records[-WINDOW:]]
        return sum(last) / len(last) if len(last) == WINDOW else math.inf

    measured = train(
        model,
        dataset.stream(masking(corpus_name), settings.batch_rows, seed),
        settings,
        lambda m: score(m, batches),  # type: ignore[arg-type]
        schedule=lambda step: min(1.0, (step + 1) / 30),
        stop=lambda records: recent(records) < unigram - BELOW,
    )
    losses = measured.pop("losses")
    left = measured["steps"] if measured["steps"] < STEPS[corpus_name] else None
    curve = [round(float(np.mean(losses[i : i + 20])), 3) for i in range(0, len(losses), 20)]
    return measured | {"unigram": round(unigram, 4), "left": left, "curve": curve}


def main(arguments: list[str] | None = None) -> None:
    """Measure what experiments/plateau.json doesn't hold yet."""
    parser = argparse.ArgumentParser(description="What ends the plateau.")
    parser.add_argument("--workers", type=int, default=2, help="runs side by side, one thread each (2)")
    options = parser.parse_args(arguments)
    results = Results("plateau")
    cells = [
        {"corpus_name": name, "optimizer": optimizer, "block": block, "weights": weights}
        for name in CORPORA
        for optimizer in OPTIMIZERS
        for block in BLOCKS
        for weights in WEIGHTS
    ]
    search = [{**cell, "learning_rate": rate, "seed": 0} for cell in cells for rate in RATES]
    results.fill(run, search, options.workers)
    keys = [{**cell, "learning_rate": best_rate(results, cell), "seed": seed} for cell in cells for seed in SEEDS]
    results.fill(run, keys, options.workers)
    one = {"corpus_name": "docs", "optimizer": "muon", "weights": "0.02", "learning_rate": PARTS_RATE}
    parts = [{**one, "block": block, "seed": seed} for block in ("post-norm", "BERT", *PARTS) for seed in SEEDS]
    results.fill(run, parts, options.workers)


def best_rate(results: Results, cell: dict[str, Any]) -> float:
    """The learning rate that left the plateau first with seed 0; if none did, the one with the lowest loss."""
    tried = [one for one in (results.done(**cell, seed=0, learning_rate=rate) for rate in RATES) if one]
    return min(tried, key=lambda one: (one["left"] or math.inf, one["held_out_loss"]))["learning_rate"]


if __name__ == "__main__":
    main()
