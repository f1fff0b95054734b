"""Lesson 16: what does pretraining buy? Documents are sorted by library, with 10 to 1,000 labels of each library.

    python -m experiments.fine_tuning

Six libraries, their names masked, parts by module (llm_lab/tasks/documentation_tasks.py); accuracy on 97 documents of
each that neither pretraining nor fine-tuning has read. The course's checkpoint against the same model with random
weights, with low-rank additions, frozen under a logistic regression, and against TF-IDF with the same regression, which
reads whole documents where the models read 64 tokens. Each of these gets six settings (the random start as many as the
checkpoint), tried with 100 labels and seed 0; the best on the validation documents is used everywhere. LoRA gets four,
one rate for all layers two. A setting is a rate (learning rate, or strength of the labels) and, for a model that is
tuned, what stands for a text. A seed draws the labelled documents, their order, the new layer, the random weights and
dropout: five seeds everywhere. What fine-tuning forgets: the masked loss of the tuned encoder under its old head. One
thread. Results: experiments/fine_tuning.json.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from experiments.bench import Results, Run
from llm_lab.lessons import SHIPPED
from llm_lab.model.heads import Classifier, MaskedLanguageModel
from llm_lab.tasks.bag_of_words import Bags, TfIdf, accuracy, fit_regression
from llm_lab.tasks.classification import encode
from llm_lab.tasks.documentation_tasks import Parts, library_task
from llm_lab.tasks.finetuning import finetune
from llm_lab.tasks.finetuning_config import FinetuningConfig
from llm_lab.tasks.labelled import Example, balanced, labels_of
from llm_lab.tasks.masked_language_model import score
from llm_lab.tasks.pretrained import Pretrained, load_pretrained
from llm_lab.tasks.rows import EVALUATION_BATCH, padded_batch
from llm_lab.text.batches import Batch, fixed_batches
from llm_lab.text.corpus import Corpus, build_corpus
from llm_lab.text.dataset import prepare

LABELS = (100, 10, 30, 300, 1000)  # of each library; the measure of the issue first
SEEDS = (0, 1, 2, 3, 4)
SEARCH = {"labels": 100, "seed": 0}
EPOCHS = {10: 15, 30: 8, 100: 4, 300: 2, 1000: 1}
BATCH_ROWS = {10: 16, 30: 16, 100: 32, 300: 32, 1000: 32}
TUNED: dict[str, dict[str, Any]] = {  # what differs from the package's defaults
    "own checkpoint": {},
    "random start": {"layer_decay": 1.0},  # no layer knows anything that should stay
    "LoRA": {"mode": "lora"},
    "own checkpoint, one rate": {"layer_decay": 1.0},
}
COUNTED = ("frozen", "TF-IDF")


def settings(poolings: Sequence[str], *rates: float) -> list[dict[str, Any]]:
    """Every way of standing for a text (none for what is counted) with every rate."""
    return [{"pooling": pooling, "rate": rate} for pooling in poolings for rate in rates]


SETTINGS: dict[str, list[dict[str, Any]]] = {
    "own checkpoint": settings(("first", "mean"), 1e-3, 2e-3, 4e-3),
    "random start": settings(("first", "mean"), 3e-4, 1e-3, 3e-3),
    "frozen": settings(("",), 0.001, 0.003, 0.01, 0.03, 0.1, 1.0),
    "TF-IDF": settings(("",), 0.1, 1.0, 3.0, 10.0, 30.0, 100.0),
    "LoRA": settings(("first",), 2e-3) + settings(("mean",), 2e-3, 6e-3, 2e-2),
    "own checkpoint, one rate": settings(("mean",), 3e-4, 1e-3),
}
GRID = ("own checkpoint", "random start", "TF-IDF", "frozen")  # with every number of labels
MASKED_ROWS = 128  # on which the masked loss is measured


@cache
def documents() -> Corpus:
    """The documentation corpus."""
    return build_corpus("docs")


@cache
def parts() -> Parts:
    """The task."""
    return library_task(documents())


@cache
def checkpoint() -> Pretrained:
    """The course's own pretrained model."""
    return load_pretrained(SHIPPED)


def start(method: str, seed: int) -> Pretrained:
    """The weights that a method starts from."""
    if method != "random start":
        return checkpoint()
    torch.manual_seed(1000 + seed)
    return Pretrained(MaskedLanguageModel(checkpoint().model.config), checkpoint().tokenizer)


# -- one run ----------------------------------------------------------------------------------------------------------


def run(method: str, labels: int, seed: int, rate: float, pooling: str = "") -> Run:
    """Accuracy on the validation and the test documents, and the CPU's seconds for learning and measuring."""
    began = time.process_time()
    train = balanced(parts().train, labels, seed)
    if method in COUNTED:
        measured = count(method, train, rate)
    else:
        measured = tune(method, train, labels, seed, rate, pooling)
    return {name: round(value, 4) for name, value in measured.items()} | {
        "cpu_seconds": round(time.process_time() - began, 1)
    }


def tune(method: str, train: list[Example], labels: int, seed: int, rate: float, pooling: str) -> Run:
    """Fine-tune a model."""
    config = FinetuningConfig(
        epochs=EPOCHS[labels],
        batch_rows=BATCH_ROWS[labels],
        row_length=64,
        learning_rate=rate,
        precision="fp32",
        device="cpu",
        seed=seed,
        pooling=pooling,
        **TUNED[method],
    )
    with tempfile.TemporaryDirectory() as folder:
        tuned, trainer = finetune(
            start(method, seed), "classification", train, [], config, Path(folder), show_progress=False
        )
    found = {part: tuned.score(tuned.encode(getattr(parts(), part))) for part in ("validation", "test")}
    last = trainer.records[-10:]
    measured = {part: scored["held_out_accuracy"] for part, scored in found.items()}
    measured |= {"test_loss": found["test"]["held_out_loss"], "train_loss": sum(r["loss"] for r in last) / len(last)}
    if method != "random start":
        measured["masked_loss"] = masked_loss(tuned.model)
    return measured


def count(method: str, train: list[Example], rate: float) -> Run:
    """Fit a logistic regression on fixed features: TF-IDF, or the frozen encoder's mean vectors."""
    names = labels_of(train)
    examined = {"train": train, "validation": parts().validation, "test": parts().test}
    targets = {part: torch.tensor([names.index(e.answers[0]) for e in rows]) for part, rows in examined.items()}
    features: dict[str, torch.Tensor | Bags]
    if method == "TF-IDF":
        vectors = TfIdf([example.content for example in train])
        size = len(vectors.number)
        features = {part: vectors.bags([example.content for example in rows]) for part, rows in examined.items()}
    else:
        size = checkpoint().model.config.width
        features = {part: frozen_vectors(rows) for part, rows in examined.items()}
    model = fit_regression(features["train"], targets["train"], size, rate)
    return {part: accuracy(features[part], targets[part], model) for part in ("validation", "test")}


VECTORS: dict[str, torch.Tensor] = {}  # of texts that the frozen encoder has read


@torch.no_grad()
def frozen_vectors(examples: list[Example]) -> torch.Tensor:
    """The mean vector of each text under the checkpoint's encoder, (N, E)."""
    tokenizer = checkpoint().tokenizer
    reader = Classifier(checkpoint().model.config, 2)
    reader.encoder = checkpoint().model.encoder
    reader.eval()
    new = [example for example in examples if example.content not in VECTORS]
    rows = sorted(encode([e._replace(answers=()) for e in new], tokenizer, 64), key=lambda row: len(row.ids))
    for i in range(0, len(rows), EVALUATION_BATCH):
        some = rows[i : i + EVALUATION_BATCH]
        batch = padded_batch(some, tokenizer.pad_id)  # keeps their order: they are sorted by length
        found = reader.vectors(batch.inputs, batch.mask, batch.positions)[:, 0]
        VECTORS.update({new[row.example].content: vector for row, vector in zip(some, found, strict=True)})
    return torch.stack([VECTORS[example.content] for example in examples])


# -- what is forgotten ------------------------------------------------------------------------------------------------


@cache
def masked_batches() -> list[Batch]:
    """Held-out rows of the corpus with fixed masks."""
    dataset = prepare(documents(), 0, 128, checkpoint().tokenizer)
    rows = dataset.held_out[:: max(1, len(dataset.held_out) // MASKED_ROWS)][:MASKED_ROWS]
    return fixed_batches(rows, dataset.tokenizer, dataset.evaluation_masking, 64)


def masked_loss(tuned: Classifier | None = None) -> float:
    """The loss on hidden words, in nats, of the checkpoint with this encoder in it; of the checkpoint itself."""
    model = copy.deepcopy(checkpoint().model)
    if tuned is not None:
        model.encoder.load_state_dict(tuned.encoder.state_dict())
    return score(model.eval(), masked_batches())["held_out_loss"]


# -- all runs ---------------------------------------------------------------------------------------------------------


def best(results: Results, method: str) -> dict[str, Any]:
    """The setting with the highest accuracy on the validation documents in the search."""

    def accuracy_of(setting: dict[str, Any]) -> float:
        found = results.done(method=method, **setting, **SEARCH)
        return found["validation"] if found else -1.0

    return max(SETTINGS[method], key=accuracy_of)


def cells(results: Results) -> Iterator[dict[str, Any]]:
    """The settings of all runs, what matters most first. Those after the search ask for its results when they come."""

    def search(methods: Sequence[str]) -> list[dict[str, Any]]:
        return [{"method": method, **setting, **SEARCH} for method in methods for setting in SETTINGS[method]]

    def chosen(labels: Sequence[int], seeds: Sequence[int], methods: Sequence[str]) -> Iterator[dict[str, Any]]:
        for n, seed, method in itertools.product(labels, seeds, methods):
            yield {"method": method, **best(results, method), "labels": n, "seed": seed}

    yield from search(GRID)
    yield from chosen(LABELS[:1], SEEDS, GRID)
    yield from search(("LoRA", "own checkpoint, one rate"))
    yield from chosen(LABELS[:1], SEEDS, ("LoRA",))
    yield from chosen(LABELS[1:], SEEDS, GRID)


def main(arguments: list[str] | None = None) -> None:
    """Measure what experiments/fine_tuning.json doesn't hold yet, one run after the other: the corpus is read once."""
    parser = argparse.ArgumentParser(description="Fine-tuning against random starts and counting.")
    parser.add_argument("--cpu-minutes", type=float, default=math.inf, help="begin no run after so many (no limit)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    results = Results("fine_tuning")
    if "masked_loss_before" not in results.content:
        results.content["masked_loss_before"] = round(masked_loss(), 4)
        results.content["test_documents"] = len(parts().test)
    for key in cells(results):
        if results.done(**key) is None:
            if time.process_time() > 60 * options.cpu_minutes:
                print("The time is up; the same command goes on.")
                return
            results.add({**key, **run(**key)})
            print(results.runs[-1], flush=True)


if __name__ == "__main__":
    main()
