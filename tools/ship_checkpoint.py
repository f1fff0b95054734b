"""Turn a finished run into the checkpoint that comes with the course, with its card.

    python -m llm_lab pretrain --corpus docs --size small --dropout 0.1 --steps 9000 --evaluate-every 500 \\
        --checkpoint-every 250 --out runs/docs-small
    python tools/ship_checkpoint.py runs/docs-small --size small

Writes data/models/NAME, after the name of the run's folder: weights in fp16, tokenizer, config, the curve (curve.jsonl)
and the card (README.md). The numbers of the card are measured here, on the weights as they are shipped.
"""

import argparse
import importlib.metadata
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from llm_lab.config import SIZES
from llm_lab.home import write_atomically
from llm_lab.tasks.evaluation import evaluate
from llm_lab.tasks.masked_language_model import fill
from llm_lab.tasks.pretrained import Pretrained, load_pretrained, save_pretrained
from llm_lab.text.corpus import build_corpus
from llm_lab.text.dataset import prepare
from llm_lab.train.loop import Record, read_metrics

MODELS = ROOT / "data" / "models"
POINTS = 120  # of the curve

CARD = """\
# {name}: a small masked language model of documentation English

{parameters:,} parameters: an encoder of {layers} layers, {width} wide, with {heads} heads, rotary positions and GeGLU,
and a lowercase WordPiece vocabulary of {vocabulary:,}. Lessons use it when you have no run of your own. Weights are
stored in fp16.

## How it was made

    python -m llm_lab pretrain --corpus docs --size {size} --dropout {dropout} --steps {steps} \\
        --evaluate-every {every} --checkpoint-every {kept} --out runs/{name}
    python tools/ship_checkpoint.py runs/{name} --size {size}

{steps:,} steps of {rows} rows of {length} tokens, {rate:.0%} of the tokens hidden, in {minutes:.0f} minutes of training
on a CPU that did other work, too ({precision}), seed {seed}. The data: {words:,} words of documentation, SHA-256
`{sha}`.

## What it reaches

On held-out modules, pure [MASK] on fixed 15% of the positions, {targets:,} targets; one seed:

| measure | value |
|---|---|
{measures}

The curve is in `curve.jsonl`. Some blanks:

| sentence | three best words |
|---|---|
{blanks}

## Limits

It knows the English of Python documentation and little else: ask it about cats and it answers about arrays. It was
trained on rows of {length} tokens and reads at most {max_length}. It is far too small for a conversation, and nothing
that it fills in is a fact. It repeats habits of its text, fair or not. Only one seed was trained.

## The text it read

The text itself is not part of this repository. These packages were read, under these licences as their metadata gives
them:

| package | version | licence |
|---|---|---|
{packages}
"""


def licence_of(package: str) -> str:
    """Return a package's licence from its metadata, in a few words."""
    if package == "python":
        return "PSF-2.0"
    try:
        metadata: Mapping[str, str] = importlib.metadata.metadata(package)  # type: ignore[assignment]
    except importlib.metadata.PackageNotFoundError:
        return "see the package"
    every = metadata.get_all("Classifier") or []  # type: ignore[attr-defined]
    classified = ", ".join(line.split(" :: ")[-1] for line in every if line.startswith("License ::"))
    stated = metadata.get("License-Expression") or classified or (metadata.get("License") or "").split("\n")[0]
    return stated[:120] or "see the package"


def write_card(
    target: Path, size: str, pretrained: Pretrained, measured: Mapping[str, float], records: list[Record]
) -> None:
    """Write the card from the run's record and what was measured."""
    record, model = pretrained.record, pretrained.model
    sentences = (
        "Returns the [MASK] of the array.",
        "If the file does not [MASK], an error is raised.",
        "The default [MASK] is zero.",
        "The cat sat on the [MASK].",
    )
    filled = {s: ", ".join(g.word for g in fill(model, pretrained.tokenizer, s, top=3)[0]) for s in sentences}
    names = [name for name in measured if name != "targets"]
    card = CARD.format(
        name=target.name,
        size=size,
        dropout=model.config.dropout,
        parameters=sum(p.numel() for p in model.parameters()),
        layers=model.config.num_layers,
        width=model.config.width,
        heads=model.config.num_heads,
        vocabulary=model.config.vocabulary_size,
        max_length=model.config.max_length,
        steps=record["train"]["steps"],
        every=record["train"]["evaluate_every"],
        kept=record["train"]["checkpoint_every"],
        rows=record["train"]["batch_rows"],
        length=record["train"]["row_length"],
        seed=record["train"]["seed"],
        precision=record["precision"],
        rate=record["masking"]["rate"],
        minutes=records[-1]["seconds"] / 60,
        words=record["corpus"]["words"],
        sha=record["corpus"]["sha"],
        targets=int(measured["targets"]),
        measures="\n".join(f"| {name.replace('_', ' ')} | {measured[name]:.3f} |" for name in names),
        blanks="\n".join(f"| {sentence} | {words} |" for sentence, words in filled.items()),
        packages="\n".join(f"| {p} | {v} | {licence_of(p)} |" for p, v in record["corpus"]["versions"].items()),
    )
    write_atomically(target / "README.md", card.encode())


def main() -> int:
    """Ship the run that is named on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--size", choices=SIZES, required=True, help="the size that the run was started with")
    options = parser.parse_args()
    target = MODELS / options.run.resolve().name
    run = load_pretrained(options.run)
    save_pretrained(target, run, dtype=torch.float16)
    shipped = load_pretrained(target)  # the weights as fp16 keeps them
    corpus = build_corpus(run.record["corpus"]["name"])
    if corpus.sha != run.record["corpus"]["sha"]:
        sys.exit(
            "The corpus on this machine is not the one that the run was trained on: ship from the same environment."
        )
    every = evaluate(shipped, prepare(corpus, 0, run.record["train"]["row_length"], shipped.tokenizer))
    counts = ("documents", "leaked_8_grams", "leaked_documents")  # of the corpus, not of the model
    measured = {name: value for name, value in every.items() if type(value) in (int, float) and name not in counts}
    shipped.record["result"] = measured
    save_pretrained(target, shipped, dtype=torch.float16)
    records = read_metrics(options.run / "metrics.jsonl")
    kept = [r for i, r in enumerate(records) if i % (len(records) // POINTS + 1) == 0 or "held_out_loss" in r]
    write_atomically(target / "curve.jsonl", "".join(json.dumps(r) + "\n" for r in kept).encode())
    write_card(target, options.size, shipped, measured, records)
    megabytes = sum(path.stat().st_size for path in target.iterdir()) / 1e6
    print(f"{target.relative_to(ROOT)}: {megabytes:.1f} MB, " + json.dumps(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())
