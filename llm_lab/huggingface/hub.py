"""Folders of `transformers`, and models and texts of the Hugging Face hub where there is a network.

No code of a repository is ever run. What is missing (a package, the network, a name) is said in one sentence, within
seconds.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llm_lab.huggingface.twins import (
    ExportError,
    from_transformers,
    from_transformers_tokenizer,
    require_transformers,
    to_transformers,
    to_transformers_tokenizer,
    twin_of,
)
from llm_lab.tasks.pretrained import Pretrained

SECONDS = 3.0  # how long the hub may take to answer at all


class HubError(ValueError):
    """Something of the hub that can't be had; the message says what is missing, or what to change."""


def export(pretrained: Pretrained, folder: Path | str) -> None:
    """Write a folder that `AutoModelForMaskedLM` and `AutoTokenizer` load without a network.

    Raises ExportError for an architecture that `transformers` doesn't have, for a folder that isn't empty, or when
    `transformers` is missing.
    """
    folder = Path(folder)
    twin_of(pretrained.model.config)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ExportError(f"{folder} already holds something: choose another folder.")
    their_tokenizer = to_transformers_tokenizer(pretrained.tokenizer, pretrained.model.config.max_length)
    their_model = to_transformers(pretrained.model, pretrained.tokenizer)
    os.makedirs(folder, exist_ok=True)
    their_tokenizer.save_pretrained(folder)
    their_model.save_pretrained(folder)


def load_masked_model(name: Path | str) -> tuple[Any, Any]:
    """A masked language model of `transformers`, ready for use, and its tokenizer.

    `name` is a saved folder or the hub's OWNER/NAME; what was fetched before needs no network. Raises HubError, also
    for weights without a head for words, which `transformers` would fill with random numbers.
    """
    try:
        model, tokenizer, lacking = _load(name, local=True)
    except HubError:
        if Path(name).is_dir():
            raise
        _require_network(name)  # it was never fetched
        model, tokenizer, lacking = _load(name, local=False)
    if lacking:
        raise HubError(f"{name} lacks weights ({lacking[0]}): choose a model that was trained to guess hidden words.")
    return model.eval(), tokenizer


def _load(name: Path | str, local: bool) -> tuple[Any, Any, list[str]]:
    """Model, tokenizer, and the names of the weights that the files lack."""
    library = require_transformers()
    options = {"local_files_only": local, "trust_remote_code": False}
    try:
        model, report = library.AutoModelForMaskedLM.from_pretrained(name, output_loading_info=True, **options)
        return model, library.AutoTokenizer.from_pretrained(name, **options), sorted(report["missing_keys"])
    except Exception as error:  # the library raises many kinds: no such name, another kind of model, a damaged file
        raise HubError(
            f"{name} can't be read as a masked language model ({_first_line(error)}): check its name."
        ) from error


def load_from_transformers(name: Path | str) -> Pretrained:
    """The same as a model and a tokenizer of ours, for `fill`, `evaluate` and `save_pretrained`. Raises HubError or
    ExportError.
    """
    model, tokenizer = load_masked_model(name)
    return Pretrained(from_transformers(model), from_transformers_tokenizer(tokenizer), {"from": str(name)})


def stream_texts(
    name: Path | str, configuration: str | None = None, split: str = "train", column: str = "text"
) -> Iterator[str]:
    """The texts of a data set, one after the other, read while they are used: nothing is kept, empty ones are skipped.

    `name` is the hub's OWNER/NAME or a folder of parquet files. Raises HubError.
    """
    try:
        import datasets
    except ImportError as error:
        raise HubError("streaming a data set needs `datasets`: pip install datasets, or the extra `hub`.") from error
    if not Path(name).is_dir():
        _require_network(name)
    try:
        for row in datasets.load_dataset(str(name), configuration, split=split, streaming=True):
            if column not in row:
                raise HubError(f"{name} has no column {column!r} (it has {', '.join(sorted(row))}): choose another.")
            if (text := " ".join((row[column] or "").split())) != "":
                yield text
    except HubError:
        raise
    except Exception as error:  # as above
        raise HubError(f"{name} can't be streamed ({_first_line(error)}): check its name and the network.") from error


def _require_network(name: Path | str) -> None:
    """Raise HubError, within seconds, unless the hub answers."""
    require_transformers()  # it brings huggingface_hub
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise HubError(
            f"{name} is not on this machine, and HF_HUB_OFFLINE forbids to fetch it: unset it, or go online."
        )
    if not _hub_answers():
        raise HubError(
            f"{name} is not on this machine, and the hub can't be reached: run this where there is a network."
        )


def _hub_answers() -> bool:
    """Ask in a thread that nobody waits for: looking up a name may take longer than any time limit of a request."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    answered = threading.Event()

    def ask() -> None:
        with contextlib.suppress(Exception):
            get_session().head(constants.ENDPOINT, timeout=SECONDS)
            answered.set()

    threading.Thread(target=ask, daemon=True).start()
    return answered.wait(SECONDS)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
