"""How long another library's BERT needs to reach the loss that ours has after a minute, on real text.

One thread a run, so that two can run side by side. The learning rate warms up and falls with the *time* of a run, so
that each run is a whole one: a budget of 600 seconds is another run than the first 600 seconds of a longer one.

The search: every model tries four learning rates with seed 0; ours in runs of a minute, the others in runs of five.
Then three seeds: ours for a minute; its mean loss is the target. The others start with ten minutes, then go on to
twenty, or back to five, two and one, until the first budget that reaches the target lies between two neighbours.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import machine
from benchmarks.contestants import CONTESTANTS, labelled_loss, our_config, transformers_model
from benchmarks.results import Measurements
from benchmarks.throughput import size_from
from benchmarks.work import Size
from experiments.bench import BenchTrainer, Run
from llm_lab.cli import load_dataset
from llm_lab.config import MaskingConfig, TrainConfig
from llm_lab.model.block import gather_positions
from llm_lab.model.heads import MaskedLanguageModel, count_parameters
from llm_lab.tasks.masked_language_model import loss_sum, score
from llm_lab.tasks.pretraining import held_out_batches
from llm_lab.text.batches import Batch
from llm_lab.train.loop import Record
from llm_lab.train.optimizer import ADAM_BETAS, ADAM_EPSILON, Muon, Optimizers
from llm_lab.train.precision import choose_precision

MINUTE = 60.0  # seconds of the run that sets the target
SEARCH = 5  # times as long are the others' runs of the search
MULTIPLES = (1, 2, 5, 10, 20)  # of the minute, for the others
START = 10
SEEDS = (0, 1, 2)
RATES = {
    "ours": (2e-3, 4e-3, 8e-3, 1.6e-2),
    "BERT, AdamW": (5e-4, 1e-3, 2e-3, 4e-3),
    "BERT, Muon": (2e-3, 4e-3, 8e-3, 1.6e-2),
}
WARMUP, DECAY = 0.05, 0.4  # shares of the time, as in the package's schedule
EVALUATE_EVERY = 100  # steps
STEPS = 10**9  # a run ends by its time


class Theirs(nn.Module):
    """BertForMaskedLM, tuned (no dropout, the faster attention), behind the calls that `score` makes."""

    def __init__(self, size: Size, precision: str):
        super().__init__()
        self.model = transformers_model("BERT", size, "eager" if precision == "bf16" else "sdpa", 0.0)

    def forward(self, ids: Tensor, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """ids (B, T) -> logits (B, K, V) at `positions` (B, K)."""
        logits = self.model(input_ids=ids, attention_mask=None if mask is None else mask.long()).logits
        return logits if positions is None else gather_positions(logits, positions)


def their_loss_sum(model: Theirs, batch: Batch) -> Tensor:
    """The sum of a batch's losses as transformers computes them, with logits everywhere."""
    return labelled_loss(model.model)(batch) * batch.num_targets


def their_optimizers(model: Theirs, kind: str, learning_rate: float, decay: float, dtype: torch.dtype) -> Optimizers:
    """The package's rule of who moves what; the decoder, a linear layer here, is the embedding and belongs to AdamW."""
    tied = model.model.get_output_embeddings().weight  # type: ignore[operator]
    linear = {id(layer.weight) for layer in model.modules() if isinstance(layer, nn.Linear)} - {id(tied)}
    hidden = [p for p in model.parameters() if id(p) in linear and kind == "muon"]
    moved = {id(weight) for weight in hidden}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in moved]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    members: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=learning_rate, betas=ADAM_BETAS, eps=ADAM_EPSILON, fused=True)
    ]
    if hidden:
        members.append(Muon(hidden, lr=learning_rate, weight_decay=decay, dtype=dtype))
    return Optimizers(members)


def share(done: float) -> float:
    """The learning rate's share of its peak when this share of the time is over."""
    return max(0.0, min(1.0, (done + 0.001) / WARMUP, (1 - done) / DECAY))


@cache
def dataset_of(corpus: str, vocabulary: int, length: int) -> Any:
    """The corpus as rows, once a process."""
    return load_dataset(corpus, vocabulary, length)


def train(model: str, learning_rate: float, seed: int, seconds: float, corpus: str, size: dict[str, Any]) -> Run:
    """One run of `seconds` seconds of training steps; evaluations don't count."""
    shape = Size(**size)
    dataset = dataset_of(corpus, shape.vocabulary, shape.length)
    length = dataset.held_out.shape[1]
    shape = Size(**{**size, "vocabulary": dataset.tokenizer.vocabulary_size, "length": length})
    precision = choose_precision("auto", torch.device("cpu"))
    quick = held_out_batches(dataset, 256)

    def evaluate(net: nn.Module) -> Record:
        return score(net, quick) | {"at": trainer.seconds}  # type: ignore[arg-type]

    torch.manual_seed(seed)
    ours = model == "ours"
    net: nn.Module = MaskedLanguageModel(our_config(shape)) if ours else Theirs(shape, precision)
    kind = "adamw" if model.endswith("AdamW") else "muon"
    config = TrainConfig(
        steps=STEPS,
        batch_rows=shape.rows,
        row_length=length,
        learning_rate=learning_rate,
        optimizer=kind,
        evaluate_every=EVALUATE_EVERY,
        checkpoint_every=10**9,
        precision=precision,
        device="cpu",
        seed=seed,
    )
    stream = dataset.stream(MaskingConfig(), shape.rows, seed)
    with tempfile.TemporaryDirectory() as folder:
        loss: Any = loss_sum if ours else their_loss_sum
        trainer = BenchTrainer(net, stream, loss, config, Path(folder), evaluate, None, False)
        if isinstance(net, Theirs):
            dtype = torch.bfloat16 if precision == "bf16" else torch.float32
            trainer.optimizers = their_optimizers(net, kind, learning_rate, config.weight_decay, dtype)
        trainer.schedule = lambda step: share(trainer.seconds / seconds)
        trainer.stop = lambda records: trainer.seconds >= seconds
        records = trainer.run()
    return _measured(net, dataset, records, shape)


def _measured(net: nn.Module, dataset: Any, records: list[Record], shape: Size) -> Run:
    final = score(net, held_out_batches(dataset))  # type: ignore[arg-type]
    tokens = shape.rows * shape.length
    curve = [[round(r["at"], 1), r["step"] * tokens, round(r["held_out_loss"], 4)] for r in records if "at" in r]
    return {
        **{name: round(value, 5) for name, value in final.items()},
        "steps": len(records),
        "tokens": len(records) * tokens,
        "trained_seconds": records[-1]["seconds"],
        "parameters": count_parameters(net),
        "curve": curve,
    }


# -- the plan ---------------------------------------------------------------------------------------------------------


def next_multiple(reached: dict[int, bool], multiples: Iterable[int]) -> int | None:
    """The budget to try next, given which ones reached the target; None when the answer lies between neighbours."""
    hits = [multiple for multiple, hit in reached.items() if hit]
    misses = [multiple for multiple, hit in reached.items() if not hit]
    low, high = max(misses, default=0), min(hits, default=float("inf"))
    open_ones = [multiple for multiple in multiples if low < multiple < high]
    if not reached:
        return min(open_ones, key=lambda multiple: abs(multiple - START), default=None)
    if not open_ones:
        return None
    return max(open_ones) if hits else min(open_ones)


def best_rate(results: Measurements, model: str, seconds: float, **key: Any) -> float:
    """The learning rate of the search's lowest held-out loss."""
    tried = [results.done(model=model, learning_rate=rate, seed=0, seconds=seconds, **key) for rate in RATES[model]]
    measured = [one for one in tried if one is not None]
    return min(measured, key=lambda one: one["held_out_loss"])["learning_rate"]


def command(options: argparse.Namespace) -> int:
    """`python -m benchmarks learning`: measure what the results file doesn't hold yet."""
    if CONTESTANTS["BERT"].missing:
        print(CONTESTANTS["BERT"].missing)
        return 0
    size = size_from(options, "quick" if options.quick else (options.size or ["S"])[0])
    corpus = "grammar-easy" if options.quick else options.corpus
    minute = 1.0 if options.quick else MINUTE
    seeds = options.seeds[:1] if options.quick else options.seeds
    multiples = (1,) if options.quick else [m for m in MULTIPLES if m <= options.cap]
    models = ["ours", *(f"BERT, {name}" for name in options.optimizers)]
    dataset_of(corpus, size.vocabulary, size.length)  # so that the runs find it in the cache
    shared = {"corpus": corpus, "size": {name: getattr(size, name) for name in Size.__dataclass_fields__}}
    results = Measurements("learning", machine.describe(), options.out, go_on=not options.fresh)
    results.content["command_line"] = options.command_line
    results.content["cap"] = max(multiples)

    search = {model: minute * (1 if model == "ours" or options.quick else SEARCH) for model in models}
    keys = [
        {"model": model, "learning_rate": rate, "seed": 0, "seconds": search[model], **shared}
        for model in models
        for rate in (RATES[model][:1] if options.quick else RATES[model])
    ]
    results.fill(train, keys, options.workers)
    best = {model: best_rate(results, model, search[model], **shared) for model in models}
    results.content["best_rates"] = best
    ours = [{"model": "ours", "learning_rate": best["ours"], "seed": s, "seconds": minute, **shared} for s in seeds]
    results.fill(train, ours, options.workers)
    target = statistics.mean(_done(results, key)["held_out_loss"] for key in ours)
    results.content |= {"target": round(target, 4), "minute": minute, "size": size.name}
    results.save()
    while keys := _open_keys(results, models[1:], best, seeds, minute, multiples, target, shared):
        results.fill(train, keys, options.workers)
    from benchmarks.tables import learning_table

    print(learning_table(results.content))
    print(f"written to {results.path.name}")
    return 0


def _done(results: Measurements, key: dict[str, Any]) -> Run:
    run = results.done(**key)
    assert run is not None
    return run


def _open_keys(
    results: Measurements,
    models: list[str],
    best: dict[str, float],
    seeds: list[int],
    minute: float,
    multiples: Iterable[int],
    target: float,
    shared: dict[str, Any],
) -> list[dict[str, Any]]:
    """The next run of each other model and seed whose answer isn't bracketed yet."""
    keys = []
    for model in models:
        for seed in seeds:
            base = {"model": model, "learning_rate": best[model], "seed": seed, **shared}
            runs = {m: results.done(seconds=minute * m, **base) for m in multiples}
            reached = {m: run["held_out_loss"] <= target for m, run in runs.items() if run is not None}
            multiple = next_multiple(reached, multiples)
            if multiple is not None:
                keys.append({**base, "seconds": minute * multiple})
    return keys
