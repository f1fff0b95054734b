"""A trained model in a folder: `config.json`, `tokenizer.json`, `model.safetensors`.

The weights carry the SHA-256 of their own numbers, so that a changed byte is found when they are loaded.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from llm_lab.config import ModelConfig
from llm_lab.home import write_atomically
from llm_lab.model.heads import MaskedLanguageModel
from llm_lab.text.tokenizer import Tokenizer, load_tokenizer

WEIGHTS = "model.safetensors"


class PretrainedError(ValueError):
    """A model folder that can't be used; the message says what to do."""


@dataclass(frozen=True)
class Pretrained:
    """A model, its tokenizer, and a record of how it was made (corpus, SHA, versions, steps, losses)."""

    model: MaskedLanguageModel
    tokenizer: Tokenizer
    record: dict[str, Any] = field(default_factory=dict)


class Saved(NamedTuple):
    """A model folder that was read and checked, all but the weights."""

    folder: Path
    config: dict[str, Any]  # config.json: "model", "record", and what a task adds
    shape: ModelConfig
    tokenizer: Tokenizer


def save_pretrained(folder: Path | str, pretrained: Pretrained, dtype: torch.dtype = torch.float32) -> None:
    """Write the three files, each atomically, the weights last. `dtype` float16 halves the file. Raises OSError."""
    config = {"model": asdict(pretrained.model.config), "record": pretrained.record}
    write_model(Path(folder), config, pretrained.tokenizer, pretrained.model, dtype)


def load_pretrained(folder: Path | str) -> Pretrained:
    """Read a model folder, or the `model` folder of a run. Raises FileNotFoundError or PretrainedError."""
    saved = open_model(folder)
    if "task" in saved.config:
        raise PretrainedError(
            f"{saved.folder} holds a model that was fine-tuned for {saved.config['task']} and guesses no words: "
            "use predict, or give the folder of a pretrained model."
        )
    model = MaskedLanguageModel(saved.shape)
    load_weights(saved.folder, model)
    return Pretrained(model.eval(), saved.tokenizer, saved.config["record"])


# -- the folder of any model ------------------------------------------------------------------------------------------


def write_model(
    folder: Path, config: dict[str, Any], tokenizer: Tokenizer, model: nn.Module, dtype: torch.dtype = torch.float32
) -> None:
    """Write the three files of a model with this config.json, each atomically, the weights last. Raises OSError."""
    state = {name: t.detach().to("cpu", dtype).contiguous() for name, t in model.state_dict().items()}
    weights = safetensors.torch.save(state, metadata={"sha256": digest(state)})
    tokenizer.save(folder / "tokenizer.json")
    write_atomically(folder / "config.json", (json.dumps(config, indent=2) + "\n").encode())
    write_atomically(folder / WEIGHTS, weights)


def open_model(folder: Path | str) -> Saved:
    """Read and check a model folder, or the `model` folder of a run, all but its weights.

    Raises FileNotFoundError or PretrainedError.
    """
    folder = Path(folder)
    if (folder / "model" / "config.json").is_file():
        folder = folder / "model"
    for name in ("config.json", "tokenizer.json", WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"there is no trained model in {folder} ({name} is missing): give the folder of a run."
            )
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        shape, record = ModelConfig(**config["model"]), config["record"]
    except (ValueError, TypeError, KeyError) as error:
        raise PretrainedError(f"{folder / 'config.json'} is damaged ({error}): copy the model again.") from error
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    if tokenizer.vocabulary_size != shape.vocabulary_size:
        raise PretrainedError(
            f"the tokenizer in {folder} has {tokenizer.vocabulary_size:,} entries, "
            f"the model {shape.vocabulary_size:,}: take the tokenizer that the model was trained with."
        )
    trained_with = record.get("corpus", {}).get("tokenizer")  # a SHA-256, where the record has one
    if trained_with not in (None, tokenizer.sha):
        raise PretrainedError(
            f"the tokenizer in {folder} is not the one that the model was trained with: copy the model again."
        )
    return Saved(folder, config, shape, tokenizer)


def load_weights(folder: Path, model: nn.Module) -> None:
    """Put the weights of a model folder into a model of its shape. Raises PretrainedError when they are damaged."""
    try:
        model.load_state_dict(_read_weights(folder / WEIGHTS))
    except RuntimeError as error:
        raise PretrainedError(
            f"the weights in {folder} belong to a model of another size or architecture than config.json says: "
            "copy the model again."
        ) from error


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    except (safetensors.SafetensorError, OSError) as error:
        raise PretrainedError(f"{path} is damaged ({error}): copy the model again, or train with --resume.") from error
    if metadata.get("sha256") != digest(state):
        raise PretrainedError(
            f"{path} is damaged (its checksum differs): copy the model again, or train with --resume."
        )
    return {name: tensor.float() for name, tensor in state.items()}


def digest(state: dict[str, Tensor]) -> str:
    """SHA-256 of the names, shapes and numbers, in the order of the names."""
    summed = hashlib.sha256()
    for name in sorted(state):
        summed.update(f"{name} {tuple(state[name].shape)} {state[name].dtype}".encode())
        summed.update(state[name].reshape(-1).view(torch.uint8).numpy().tobytes())
    return summed.hexdigest()
