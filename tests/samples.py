"""Small things that several tests share: a text in our own words, and processes that can be killed."""

from __future__ import annotations

import multiprocessing
import os
import random
from collections.abc import Callable
from typing import Any

SUBJECTS = "the old gardener|a young pilot|my quiet neighbour|every tired farmer|the clever baker|one child".split("|")
VERBS = "carries|paints|remembers|repairs|follows|borrows|describes|hides|measures|collects|finds|sells".split("|")
COLOURS = "red green yellow purple silver golden brown white black orange".split()
THINGS = "lamp boat ladder basket mirror kettle violin blanket window garden letter clock bridge wagon candle".split()
PLACES = "river|harbour|mountain|forest|market|station|library|kitchen|island|valley|tower|meadow".split("|")
TIMES = "before sunrise|at noon|on a rainy day|in late autumn|every second week|without a word|for an hour".split("|")


def sentences(count: int, seed: int = 0) -> list[str]:
    """Return sentences of about 13 words, drawn so that long runs of words hardly ever repeat."""
    draw = random.Random(seed)
    lines = []
    for _ in range(count):
        who, verb, when = draw.choice(SUBJECTS), draw.choice(VERBS), draw.choice(TIMES)
        first, second = draw.sample(THINGS, 2)
        colour, other = draw.sample(COLOURS, 2)
        place = draw.choice(PLACES)
        lines.append(f"{who} {verb} the {colour} {first} and a {other} {second} near the {place} {when}.".capitalize())
    return lines


def paragraphs(count: int = 130, seed: int = 0) -> str:
    """Return a text of `count` paragraphs of about 52 words, with a blank line between them."""
    lines = sentences(4 * count, seed)
    return "\n\n".join(" ".join(lines[i : i + 4]) for i in range(0, len(lines), 4)) + "\n"


def start(function: Callable[..., Any], *arguments: Any, **variables: str) -> Any:
    """Start a function of a test module in a process of its own, with environment variables; returns the process.

    The processes fork from a server that has imported PyTorch once, so that each starts in milliseconds.
    """
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["tests.train.runs", "llm_lab.tasks.pretraining", "torch._dynamo"])
    process = context.Process(target=_with_variables, args=(variables, function, arguments), daemon=True)
    process.start()
    return process


def _with_variables(variables: dict[str, str], function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.environ.update(variables)
    import torch

    torch.set_num_threads(1)
    function(*arguments)
