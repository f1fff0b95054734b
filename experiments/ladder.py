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
from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from experiments.bench import Results, Run, train
from experiments.ladder_rows import LADDER, LONG, LONG_STEPS, MODEL, SEEDS, STEPS, TRAIN, Row
from experiments.ladder_streams import LadderStream
from llm_lab.cli import load_dataset
from llm_lab.config import MaskingConfig, TrainConfig
from llm_lab.home import is_fast
from llm_lab.model import attention as attention_module
from llm_lab.model.heads import MaskedLanguageModel
from llm_lab.tasks.masked_language_model import loss_sum, score
from llm_lab.tasks.pretraining import held_out_batches
from llm_lab.text.batches import Batch
from llm_lab.text.dataset import Dataset
from llm_lab.text.masking import IGNORED
from llm_lab.train.loop import Record
from llm_lab.train.optimizer import build_optimizers
from llm_lab.train.precision import autocast

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
