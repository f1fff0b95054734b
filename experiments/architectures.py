"""Lesson 10: RNN, LSTM, BiLSTM and Transformer at equal parameters and equal processor time.

    python -m experiments.architectures

On the known language (hard level) and on the documentation corpus. Each architecture is as wide as gives it the
Transformer's number of parameters, and takes as many steps as fit into the Transformer's time; its learning rate is the
best of four with seed 0, then come three seeds. One thread a run. Results: experiments/architectures.json.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from functools import cache

import torch
from torch import nn

from experiments.bench import Results, Run, train
from experiments.ladder import dataset_of
from llm_lab.config import MaskingConfig, ModelConfig, TrainConfig
from llm_lab.model.heads import MaskedLanguageModel, count_parameters
from llm_lab.tasks.known_language import compare
from llm_lab.tasks.masked_language_model import loss_sum, score
from llm_lab.tasks.pretraining import held_out_batches
from llm_lab.text.dataset import Dataset
from llm_lab.text.grammar import hard_language
from llm_lab.text.sentences import SentenceDataset
from llm_lab.train.optimizer import build_optimizers

KINDS = ("rnn", "lstm", "bilstm", "transformer")
CORPORA = ("grammar", "docs")
RATES = (2e-3, 4e-3, 8e-3, 1.6e-2)
SEEDS = (0, 1, 2)
STEPS = {"grammar": 2400, "docs": 600}  # of the Transformer
ROWS = {"grammar": 64, "docs": 32}


@cache
def corpus(name: str) -> Dataset | SentenceDataset:
    """The corpus of this name, rows included."""
    return SentenceDataset(hard_language()) if name == "grammar" else dataset_of(2048)


def masking(name: str) -> MaskingConfig:
    """30% of the words: drawn as the oracle assumes on the known language, exact counts on text."""
    return MaskingConfig(selection="bernoulli" if name == "grammar" else "exact")


@cache
def shape(kind: str, name: str) -> ModelConfig:
    """Two layers, as wide as gives the Transformer's parameters."""
    width = 64 if name == "grammar" else 96
    base = ModelConfig(
        vocabulary_size=corpus(name).tokenizer.vocabulary_size,
        width=width,
        num_layers=2,
        feed_forward_width=width * 8 // 3,
        max_length=64,
    )
    if kind == "transformer":
        return base
    wanted = parameters(base)
    candidates = (replace(base, architecture=kind, width=w, num_heads=1) for w in range(width // 2, 4 * width, 2))
    return min(candidates, key=lambda config: abs(parameters(config) - wanted))


def parameters(config: ModelConfig) -> int:
    """Numbers that training changes."""
    return count_parameters(MaskedLanguageModel(config))


def step_seconds(name: str, rounds: int = 5, steps: int = 10) -> dict[str, float]:
    """Seconds of a training step of each architecture on one thread, in turns: the middle of the rounds."""
    torch.set_num_threads(1)
    taken: dict[str, list[float]] = {kind: [] for kind in KINDS}
    models = {kind: MaskedLanguageModel(shape(kind, name)) for kind in KINDS}
    optimizers = {kind: build_optimizers(model, "muon", 1e-3, 0.05) for kind, model in models.items()}
    stream = corpus(name).stream(masking(name), ROWS[name], 0)
    batches = [stream.batch(step) for step in range(steps)]
    for turn in range(rounds + 1):
        for kind, model in models.items():
            start = time.perf_counter()
            for batch in batches:
                (loss_sum(model, batch) / batch.num_targets).backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                for optimizer in optimizers[kind]:
                    optimizer.step()
                optimizers[kind].zero_grad()
            if turn:
                taken[kind].append((time.perf_counter() - start) / steps)
    return {kind: statistics.median(times) for kind, times in taken.items()}


def run(corpus_name: str, kind: str, seed: int, learning_rate: float, steps: int) -> Run:
    """One run; on the known language with floor and excess."""
    dataset, config = corpus(corpus_name), shape(kind, corpus_name)
    settings = TrainConfig(
        steps=steps,
        batch_rows=ROWS[corpus_name],
        row_length=dataset.held_out.shape[1],
        learning_rate=learning_rate,
        evaluate_every=max(1, steps // 6),
        checkpoint_every=10**9,
        precision="fp32",
        seed=seed,
    )
    torch.manual_seed(seed)
    model = MaskedLanguageModel(config)
    stream = dataset.stream(masking(corpus_name), settings.batch_rows, seed)
    held_out = held_out_batches(dataset)
    measured = train(model, stream, settings, lambda m: score(m, held_out))  # type: ignore[arg-type]
    del measured["losses"]
    if isinstance(dataset, SentenceDataset):
        compared = compare(model.eval(), dataset)
        measured |= {"floor": compared.floor.mean, "excess": compared.excess.mean}
        measured["excess_by_kind"] = {k: round(e.mean, 4) for k, e in compared.excess_by_kind.items()}
    return measured | {"parameters": parameters(config), "width": config.width}


def main(arguments: list[str] | None = None) -> None:
    """Measure what experiments/architectures.json doesn't hold yet."""
    parser = argparse.ArgumentParser(description="Architectures at equal cost.")
    parser.add_argument("--workers", type=int, default=2, help="runs side by side, one thread each (2)")
    options = parser.parse_args(arguments)
    results = Results("architectures")
    if "step_seconds" not in results.content:
        results.content["step_seconds"] = {name: step_seconds(name) for name in CORPORA}
        results.save()
    steps = {
        (name, kind): round(STEPS[name] * times["transformer"] / times[kind])
        for name, times in results.content["step_seconds"].items()
        for kind in KINDS
    }
    pairs = [{"corpus_name": name, "kind": kind, "steps": steps[name, kind]} for name in CORPORA for kind in KINDS]
    results.fill(run, [{**pair, "seed": 0, "learning_rate": rate} for pair in pairs for rate in RATES], options.workers)
    keys = []
    for pair in pairs:
        tried = [one for one in (results.done(**pair, seed=0, learning_rate=rate) for rate in RATES) if one]
        best = min(tried, key=lambda one: one["held_out_loss"])["learning_rate"]
        keys += [{**pair, "seed": seed, "learning_rate": best} for seed in SEEDS]
    results.fill(run, keys, options.workers)


if __name__ == "__main__":
    main()
