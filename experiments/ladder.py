"""Lesson 12's ladder: one recipe, one change a row, three seeds.

    python -m experiments.ladder            # speeds first (leave the machine alone), then every missing run
    python -m experiments.ladder --rows "80/10/10" --seeds 0

Text: the documentation corpus in rows of 64 tokens. One thread a run, so that runs side by side don't slow each other
much; speeds and memory are measured by themselves, row by row in turns. Some rows run twice as long, too, to see what
lasts. Results: experiments/ladder.json.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from experiments.bench import Results, Run, train
from llm_lab.cli import load_dataset
from llm_lab.config import MaskingConfig, ModelConfig, TrainConfig
from llm_lab.home import is_fast
from llm_lab.model import attention as attention_module
from llm_lab.model.heads import MaskedLanguageModel
from llm_lab.tasks.masked_language_model import loss_sum, score
from llm_lab.tasks.pretraining import held_out_batches
from llm_lab.text.batches import Batch, BatchStream
from llm_lab.text.dataset import Dataset
from llm_lab.text.masking import IGNORED, corrupt, gather_targets, row_noise
from llm_lab.train.loop import Record
from llm_lab.train.optimizer import build_optimizers
from llm_lab.train.precision import autocast

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


# -- streams ----------------------------------------------------------------------------------------------------------


class LadderStream(BatchStream):
    """The package's stream with a row's change of rows, masks, or their growth over the run."""

    def __init__(self, row: Row, dataset: Dataset, masking: MaskingConfig, config: TrainConfig):
        rows = padded_rows(dataset, config.row_length) if row.padded else dataset.train[: row.corpus_rows]
        super().__init__(rows, dataset.tokenizer, masking, config.batch_rows, config.seed)
        self.row, self.steps, self.length = row, config.steps, config.row_length
        names = (dataset.tokenizer.token_of(i) for i in range(dataset.tokenizer.vocabulary_size))
        self.continues = torch.tensor([name.startswith("##") for name in names])

    def batch(self, step: int) -> Batch:
        """Batch number `step`, counted from 0."""
        row, done = self.row, step / self.steps
        epoch, number = self.rows_of(step)
        third = min(2, int(3 * done))
        if row.batch_ramp:
            kept = (8, 16, 32)[third] * len(number) // 32
            epoch, number = epoch[:kept], number[:kept]
        ids = self.ids_of(number).astype(np.int64)
        noise = row_noise(self.seed, np.zeros_like(epoch) if row.static else epoch, number, ids.shape[1])
        if row.length_ramp:
            length = self.length * (1, 2, 4)[third] // 4
            ids = ids.reshape(-1, length)
            noise = noise.reshape(3, -1, length)
        masking = self.masking
        if row.last_rate is not None:
            masking = replace(masking, rate=masking.rate + (row.last_rate - masking.rate) * done)
        return self._masked(torch.from_numpy(ids), noise, masking)

    def _masked(self, ids: Tensor, noise: Tensor, masking: MaskingConfig) -> Batch:
        tokenizer = self.tokenizer
        special = torch.tensor(tokenizer.special_ids)
        order = noise[0].masked_fill(torch.isin(ids, special), 2.0)
        wanted = ((order < 2).sum(dim=1) * masking.rate).round().long().clamp(min=1)
        if self.row.targets == "words":
            targets = whole_words(order, wanted, self.continues[ids])
        else:
            targets = {"tokens": lowest, "spans": spans}[self.row.targets](order, wanted)
        words = (tokenizer.mask_id, tokenizer.special_ids, tokenizer.vocabulary_size)
        inputs = corrupt(ids, targets, masking.scheme, *words, noise[1:])
        width = max(1, round(ids.shape[1] * masking.rate))
        positions, labels = gather_targets(ids.masked_fill(~targets, IGNORED), width)
        return Batch(inputs, positions, labels, ids != tokenizer.pad_id)._trimmed()


def whole_words(order: Tensor, wanted: Tensor, continues: Tensor) -> Tensor:
    """Whole words in the order of their first piece's noise, while they fit into the wanted count; (B, T)."""
    word = (~continues).long().cumsum(dim=1)
    targets = torch.zeros_like(continues)
    for b in range(len(order)):
        pieces: dict[int, list[int]] = {}
        for place in (order[b] < 2).nonzero()[:, 0].tolist():
            pieces.setdefault(int(word[b, place]), []).append(place)
        left = int(wanted[b])
        for places in sorted(pieces.values(), key=lambda places: float(order[b, places[0]])):
            if len(places) <= left:
                targets[b, places] = True
                left -= len(places)
    return targets


def lowest(order: Tensor, wanted: Tensor) -> Tensor:
    """The `wanted` (B,) tokens of each row with the smallest noise, (B, T)."""
    return order.argsort(dim=1).argsort(dim=1) < wanted[:, None]


def spans(order: Tensor, wanted: Tensor) -> Tensor:
    """Neighbours hidden together: spans of 1 to 10 tokens, 3.8 on average before cutting (arXiv 1907.10529)."""
    targets = torch.zeros_like(order, dtype=torch.bool)
    for b in range(len(order)):
        open_places = order[b] < 2
        for start in order[b].argsort().tolist():
            left = int(wanted[b] - targets[b].sum())
            if left <= 0:
                break
            # The noise beyond what chose the place is as good as a fresh draw.
            u = max(float(order[b, start] * 7919 % 1.0), 1e-9)
            length = min(10, 1 + int(math.log(u) / math.log(0.8)), left)
            stretch = slice(start, start + length)
            targets[b, stretch] |= open_places[stretch]
    return targets


def padded_rows(dataset: Dataset, length: int) -> np.ndarray:
    """Each training document in rows of its own, the last one padded, (N, T)."""
    tokenizer = dataset.tokenizer
    rows = []
    for ids in tokenizer.encode_many([document.text for document in dataset.corpus.split("train")]):
        for start in range(0, len(ids), length):
            piece = ids[start : start + length]
            rows.append(piece + [tokenizer.pad_id] * (length - len(piece)))
    return np.array(rows, dtype=np.uint16)


# -- one run ----------------------------------------------------------------------------------------------------------


def dense_loss_sum(model: MaskedLanguageModel, batch: Batch) -> Tensor:
    """The same loss with logits at all T positions, as most scripts compute it."""
    labels = torch.full_like(batch.inputs, IGNORED)
    real = batch.targets != IGNORED
    rows = torch.arange(len(labels))[:, None].expand_as(batch.positions)
    labels[rows[real], batch.positions[real]] = batch.targets[real]
    logits = model(batch.inputs, batch.mask).float()
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")


@cache
def dataset_of(vocabulary: int) -> Dataset:
    """The documentation corpus with a vocabulary of this size; one library of it where seconds are asked for."""
    dataset = load_dataset("docs:tornado" if is_fast() else "docs", vocabulary, TRAIN.row_length)
    assert isinstance(dataset, Dataset)
    return dataset


@dataclass
class Bench:
    """Everything that one run needs."""

    model: MaskedLanguageModel
    stream: LadderStream
    config: TrainConfig
    loss: Callable[[Any, Any], Tensor]
    attention: contextlib.AbstractContextManager[Any]


def prepare(row: Row, seed: int, steps: int = STEPS, learning_rate: float | None = None) -> Bench:
    """Model, data and settings of one run."""
    dataset = dataset_of(row.vocabulary)
    settings: dict[str, Any] = {"steps": steps, "seed": seed, **row.train}
    config = replace(TRAIN, **settings)
    if learning_rate is not None:
        config = replace(config, learning_rate=learning_rate)
    torch.manual_seed(seed)
    shape = replace(MODEL, vocabulary_size=dataset.tokenizer.vocabulary_size, **row.model)
    model = MaskedLanguageModel(shape)
    loss: Callable[[Any, Any], Tensor] = dense_loss_sum if row.dense else loss_sum
    if row.compiled:
        loss = torch.compile(loss)
    other = getattr(attention_module, f"attention_{row.attention}", None)
    patch = mock.patch.object(attention_module, "attention", other) if other else contextlib.nullcontext()
    stream = LadderStream(row, dataset, replace(MaskingConfig(), **row.masking), config)
    return Bench(model, stream, config, loss, patch)


def run(
    row: str,
    seed: int = 0,
    steps: int = STEPS,
    learning_rate: float | None = None,
    show_progress: bool = False,
) -> Run:
    """Train one row and measure it on all held-out rows. `bits_per_byte` compares vocabularies."""
    chosen = LADDER[row]
    bench = prepare(chosen, seed, steps, learning_rate)
    dataset = dataset_of(chosen.vocabulary)
    quick, full = held_out_batches(dataset, 256), held_out_batches(dataset)

    def evaluate(model: nn.Module) -> Record:
        last = len(quick_calls) >= steps // TRAIN.evaluate_every - (steps % TRAIN.evaluate_every == 0)
        quick_calls.append(1)
        return score(model, full if last else quick)  # type: ignore[arg-type]

    quick_calls: list[int] = []
    schedule = None
    if chosen.cosine:
        warmup = max(1, round(bench.config.warmup * steps))
        schedule = lambda step: min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * step / steps))  # noqa: E731
    with bench.attention:
        measured = train(
            bench.model,
            bench.stream,
            bench.config,
            evaluate,
            bench.loss,
            schedule,
            chosen.averaging,
            show_progress=show_progress,
        )
    bits = measured["held_out_loss"] * dataset.tokens_per_byte / math.log(2)
    del measured["losses"]
    return measured | {"bits_per_byte": round(bits, 4)}


# -- speed ------------------------------------------------------------------------------------------------------------


def speeds(names: list[str], rounds: int = 5, steps: int = 8) -> dict[str, dict[str, float]]:
    """Tokens/s and ms a step of full training steps on this process's threads, the rows taking turns.

    The middle of the rounds; `spread` is the largest over the smallest. Ramps are timed over the whole of their range.
    """
    ready: dict[str, Any] = {}
    taken: dict[str, list[float]] = {name: [] for name in names}
    tokens: dict[str, float] = {}
    for name in names:
        bench = prepare(LADDER[name], seed=0)
        config = bench.config
        muon = torch.bfloat16 if config.precision == "bf16" else torch.float32
        optimizers = build_optimizers(bench.model, config.optimizer, config.learning_rate, config.weight_decay, muon)
        batches = [bench.stream.batch(s) for s in np.linspace(0, STEPS - 1, steps).astype(int)]
        tokens[name] = statistics.mean(batch.num_tokens for batch in batches)
        ready[name] = (bench, optimizers, batches)
    for turn in range(rounds + 1):
        for name, (bench, optimizers, batches) in ready.items():
            start = time.perf_counter()
            with bench.attention:
                for batch in batches:
                    with autocast(torch.device("cpu"), bench.config.precision):
                        loss = bench.loss(bench.model, batch) / batch.num_targets
                    loss.backward()
                    nn.utils.clip_grad_norm_(bench.model.parameters(), bench.config.clip)
                    for optimizer in optimizers:
                        optimizer.step()
                    optimizers.zero_grad()
            if turn:  # the first turn warms up, and compiles
                taken[name].append((time.perf_counter() - start) / steps)
    return {
        name: {
            "tokens_per_second": round(tokens[name] / statistics.median(times)),
            "step_ms": round(1000 * statistics.median(times), 2),
            "spread": round(max(times) / min(times), 3),
        }
        for name, times in taken.items()
    }


def step_megabytes(name: str) -> float:
    """MB at the fullest moment of a training step: weights, optimizer state, and all that the step itself allocates."""
    bench = prepare(LADDER[name], seed=0)
    batch = bench.stream.batch(STEPS - 1)
    optimizers = build_optimizers(bench.model, bench.config.optimizer, bench.config.learning_rate, 0.0)

    def step() -> None:
        with bench.attention, autocast(torch.device("cpu"), bench.config.precision):
            (bench.loss(bench.model, batch) / batch.num_targets).backward()
        for optimizer in optimizers:
            optimizer.step()
        optimizers.zero_grad()

    step()  # the optimizer's state is there from now on
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
    events = profiled.profiler.kineto_results.events()  # type: ignore[union-attr]
    sizes = [event.nbytes() for event in sorted(events, key=lambda e: e.start_ns()) if event.name() == "[memory]"]
    kept = [*bench.model.parameters(), *bench.model.buffers()]
    kept += [t for o in optimizers for state in o.state.values() for t in state.values() if torch.is_tensor(t)]
    return round((sum(t.nbytes for t in kept) + max(np.cumsum(sizes))) / 1e6, 1)


def measure_machine(results: Results) -> None:
    """Speed and memory of every row that has none yet, on one thread. Rows are timed in turns with the base."""
    torch.set_num_threads(1)
    timed = results.content.setdefault("speed", {})
    if missing := [name for name in LADDER if name not in timed]:
        fresh = speeds(list(dict.fromkeys(["base", *missing])))
        for name in missing:  # beside it the base of the same turns, which may be another machine's
            timed[name] = fresh[name] | {"base_step_ms": fresh["base"]["step_ms"]}
        results.save()
    held = results.content.setdefault("megabytes", {})
    for name in LADDER:
        if name not in held:
            held[name] = step_megabytes(name)
            results.save()


def steps_at_equal_time(results: Results, name: str) -> int:
    """The steps that the row can take in the time of the base's."""
    one = results.content["speed"][name]
    base = one.get("base_step_ms", results.content["speed"]["base"]["step_ms"])
    return round(STEPS * base / one["step_ms"])


def main(arguments: list[str] | None = None) -> None:
    """Measure what experiments/ladder.json doesn't hold yet."""
    parser = argparse.ArgumentParser(description="The ladder of lesson 12.")
    parser.add_argument("--rows", nargs="*", default=list(LADDER), choices=list(LADDER), metavar="ROW")
    parser.add_argument("--seeds", nargs="*", type=int, default=list(SEEDS))
    parser.add_argument("--workers", type=int, default=2, help="runs side by side, one thread each (2)")
    options = parser.parse_args(arguments)
    results = Results("ladder")
    measure_machine(results)
    rows = [LADDER[name] for name in options.rows]
    searches = [
        {"row": row.name, "seed": 0, "steps": STEPS, "learning_rate": rate} for row in rows for rate in row.search
    ]
    results.fill(run, searches, options.workers)
    best = {row.name: best_rate(results, row) for row in rows}
    equal_steps = [
        {"row": row.name, "seed": seed, "steps": STEPS, "learning_rate": best[row.name]}
        for row in rows
        for seed in options.seeds
    ]
    results.fill(run, equal_steps, options.workers)
    equal_time = [
        {**key, "steps": steps}
        for key in equal_steps
        if abs((steps := steps_at_equal_time(results, key["row"])) / STEPS - 1) > 0.04
    ]
    results.fill(run, equal_time, options.workers)
    results.fill(run, [{**key, "steps": LONG_STEPS} for key in equal_steps if key["row"] in LONG], options.workers)


def best_rate(results: Results, row: Row) -> float:
    """The learning rate of a row: the best of its search, else its own, else the recipe's."""
    tried = [results.done(row=row.name, seed=0, steps=STEPS, learning_rate=rate) for rate in row.search]
    measured = [one for one in tried if one is not None]
    if measured:
        return min(measured, key=lambda one: one["held_out_loss"])["learning_rate"]
    return row.train.get("learning_rate", TRAIN.learning_rate)


if __name__ == "__main__":
    main()
