"""The model card: one short page beside the weights that says what a model is, how it came about and what it can't do.

(Mitchell et al. 2019, arXiv 1810.03993.) `card` lays out plain data and serves every task; `pretraining_card` fills it
from the record of a pretraining run. Every number on the page stands in the record as well.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

from llm_lab.config import SENTENCE_SIZES, SIZES, Size

CARD_FILE = "README.md"


class Measure(NamedTuple):
    """A measured number, with the ends of its 95% interval where there are any."""

    name: str
    value: float
    interval: Sequence[float] | None = None
    note: str = ""


def card(
    title: str,
    summary: str,
    command: str,
    facts: Mapping[str, str],
    measured_on: str,
    measures: Sequence[Measure],
    limits: Sequence[str],
) -> str:
    """A page of markdown: what the model is, how it was made, what it reaches, what it is not good for.

    `facts` are rows of a table on how it was made; `measured_on` says on what and how `measures` were taken; `command`
    makes the model again.
    """
    rows = [f"| {name} | {value} |" for name, value in facts.items()]
    numbers = [f"| {m.name} | {m.value:.4f} | {_between(m.interval)} | {m.note} |" for m in measures]
    parts = [
        f"# {title}\n\n{summary}",
        "## How it was made\n\n" + "\n".join(["| | |", "|---|---|", *rows]),
        f"The command that makes it again:\n\n    {command}",
        f"## What it reaches\n\n{measured_on}",
        "\n".join(["| measure | value | 95% interval | |", "|---|---|---|---|", *numbers]) if numbers else "",
        "## What it is not good for\n\n" + "\n".join(f"- {limit}" for limit in limits),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _between(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


# -- the card of a pretraining run ------------------------------------------------------------------------------------


def pretraining_card(name: str, record: Mapping[str, Any]) -> str:
    """The card of a masked language model from its record: corpus, model, masking, train, precision, parameters,
    steps_done, seconds, and result (see `held_out.exam_result`; of a run under way only loss and accuracy, or nothing).
    """
    model, train, result = record["model"], record["train"], record["result"]
    part = f"step {record['steps_done']:,} of {train['steps']:,}"
    unfinished = record["steps_done"] < train["steps"]
    return card(
        f"{name}: a masked language model",
        f"It guesses hidden words from the words around them. {model['architecture'].capitalize()}, "
        f"{record['parameters']:,} parameters, {model['num_layers']} layers, {model['width']} wide, a vocabulary of "
        f"{model['vocabulary_size']:,}." + (f" The run has not ended: this is {part}." if unfinished else ""),
        command_of(name, record),
        _facts(record),
        _measured_on(result),
        _measures(result, model["vocabulary_size"]),
        _limits(record),
    )


def _facts(record: Mapping[str, Any]) -> dict[str, str]:
    corpus, masking, train = record["corpus"], record["masking"], record["train"]
    words = f", {corpus['words']:,} words" if "words" in corpus else ", fresh sentences without end"
    return {
        "text": f"`{corpus['name']}`{words}",
        "SHA-256 of the text": f"`{corpus['sha']}`",
        "SHA-256 of the vocabulary": f"`{corpus['tokenizer']}`",
        "masks": f"{masking['rate']:.0%} of the tokens, {masking['scheme']}, {masking['selection']}",
        "steps": f"{record['steps_done']:,} of {train['steps']:,}, each of {train['batch_rows']} rows of at most "
        f"{train['row_length']} tokens",
        "optimizer": f"{train['optimizer']}, learning rate {train['learning_rate']:g}",
        "precision": str(record["precision"]),
        "seed": str(train["seed"]),
        "minutes of training": f"{record['seconds'] / 60:.1f}",
    }


def _measured_on(result: Mapping[str, Any]) -> str:
    if not result:
        return "Not measured yet."
    masks = "15% of the positions hidden by fixed masks, all of them as [MASK]; losses in nats a hidden word"
    if "targets" not in result:
        return f"At step {result['step']:,}, on a part of the held-out text, {masks}."
    return (
        f"On the held-out text, {masks}: {result['targets']:,} hidden words in {result['documents']:,} documents or "
        "sentences, which the interval is over. One seed was trained: another run would differ, too."
    )


def _measures(result: Mapping[str, Any], vocabulary_size: int) -> list[Measure]:
    if not result:
        return []
    found = [
        Measure(name.replace("_", " "), result[name], result.get(f"{name}_interval"))
        for name in ("held_out_loss", "held_out_accuracy")
    ]
    if "unigram_loss" in result:
        found.append(Measure("loss of word frequencies", result["unigram_loss"], note="what counting reaches"))
    return [*found, Measure("loss of knowing nothing", math.log(vocabulary_size), note="ln of the vocabulary")]


def _limits(record: Mapping[str, Any]) -> list[str]:
    model, train = record["model"], record["train"]
    return [
        f"Text of another kind than `{record['corpus']['name']}`: it knows the words and habits of that, fair or not.",
        f"Long texts: it was trained on rows of at most {train['row_length']} tokens and reads at most "
        f"{model['max_length']:,}.",
        "Facts and conversation: it fills blanks with what is probable in its text, true or not.",
        "Comparison by loss with a model of another vocabulary or other masks: use bits per byte, on the same text.",
    ]


def command_of(name: str, record: Mapping[str, Any]) -> str:
    """The command line that starts this run again: the size that is nearest, and a flag for each setting that differs.

    >>> command_of("my_run", record)
    'python -m llm_lab pretrain --corpus docs --size tiny --steps 500 --out my_run'
    """
    known = "words" not in record["corpus"]  # a known language has no end
    sizes = SENTENCE_SIZES if known else SIZES
    flags = {size: _flags(record, sizes[size], known) for size in sizes}
    nearest = min(sizes, key=lambda size: len(flags[size]))
    corpus, out = shlex.quote(record["corpus"]["name"]), shlex.quote(name)
    start = f"python -m llm_lab pretrain --corpus {corpus} --size {nearest}"
    return " ".join([start, *flags[nearest], f"--out {out}"])


def _flags(record: Mapping[str, Any], size: Size, known: bool) -> list[str]:
    """What must be said beside `--size`; a known language brings its own vocabulary."""
    flags = []
    for part in ("train", "masking", "model"):
        for one in fields(getattr(size, part)):
            value = record[part].get(one.name, one.default)  # a setting that is newer than the run had its default
            if value == getattr(getattr(size, part), one.name) or (known and one.name == "vocabulary_size"):
                continue
            flag = one.name.replace("_", "-")
            flags += [f"--{flag}" if value else f"--no-{flag}"] if one.type == "bool" else [f"--{flag} {value}"]
    return flags
