"""From a corpus to a trained masked language model in one call: what `python -m llm_lab pretrain` and the lessons
run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llm_lab.config import MaskingConfig, ModelConfig, TrainConfig
from llm_lab.home import write_atomically
from llm_lab.model.heads import MaskedLanguageModel, count_parameters
from llm_lab.tasks.card import CARD_FILE, pretraining_card
from llm_lab.tasks.held_out import answers, documents_of, exam_result, held_out_batches, unigram_loss
from llm_lab.tasks.masked_language_model import loss_sum
from llm_lab.tasks.pretrained import WEIGHTS, Pretrained, save_pretrained
from llm_lab.text.dataset import Dataset
from llm_lab.text.sentences import SentenceDataset
from llm_lab.train import distributed
from llm_lab.train.loop import Record, Trainer
from llm_lab.train.precision import autocast, choose_device, choose_precision

DEFAULTS = {"model": asdict(ModelConfig()), "masking": asdict(MaskingConfig()), "train": asdict(TrainConfig())}
RUN_FILE = "run.json"  # what a run is: settings, corpus, precision


class RunError(ValueError):
    """A run that can't be started or resumed as asked; the message says what to change."""


@dataclass(frozen=True)
class Run:
    """What a training run leaves behind: the model, on the CPU, and one record a step (see `train/loop.py`)."""

    pretrained: Pretrained
    records: list[Record]
    folder: Path
    interrupted: bool


def pretrain(
    dataset: Dataset | SentenceDataset,
    model_config: ModelConfig,
    train_config: TrainConfig,
    masking: MaskingConfig,
    folder: Path | str,
    resume: bool = False,
    show_progress: bool = True,
) -> Run:
    """Train a model on a prepared corpus and leave it in `folder`.

    `folder` receives run.json (what the run is), metrics.jsonl, checkpoints/ and model/ with its card. The vocabulary's
    size is the tokenizer's. With `resume` a run that was broken off goes on; without it, a folder that holds a run is
    refused. Raises RunError, CheckpointError, TrainingDiverged, or OSError on a full disk.
    """
    folder = Path(folder)
    model_config = replace(model_config, vocabulary_size=dataset.tokenizer.vocabulary_size)
    if train_config.row_length > model_config.max_length:
        raise RunError(
            f"rows of {train_config.row_length} tokens are longer than the model's {model_config.max_length}: "
            "shorten the rows or raise max_length."
        )
    if isinstance(dataset, SentenceDataset) and train_config.row_length != dataset.row_length:
        raise RunError(
            f"a row of {dataset.language.name} is one sentence, {dataset.row_length} tokens at most, not "
            f"{train_config.row_length}: leave out --row-length."
        )
    _require_format(model_config, train_config)
    rank, world_size = distributed.join()
    if distributed.is_first():
        _claim(folder, _describe(dataset, model_config, train_config, masking), resume)
    distributed.wait_for_all()
    record = _read_run(folder / RUN_FILE)
    train_config = replace(
        train_config, precision=record["precision"]
    )  # measured once a run, so that it resumes exactly
    torch.manual_seed(train_config.seed)
    model = MaskedLanguageModel(model_config)
    stream = dataset.stream(masking, train_config.batch_rows, train_config.seed, rank, world_size)
    quick, full = held_out_batches(dataset, train_config.evaluate_rows), held_out_batches(dataset)

    result: dict[str, Any] = {}  # of the last evaluation, which asks for every held-out row

    def evaluate(model: nn.Module) -> Record:
        last = trainer.step == train_config.steps
        found = answers(model, full if last else quick)
        if last:
            result.update(exam_result(found, documents_of(dataset, full)), unigram_loss=unigram_loss(dataset, full))
        return {"held_out_loss": float(found.nats.mean()), "held_out_accuracy": float(found.right.double().mean())}

    def write_model(model: nn.Module) -> None:
        last = next((r for r in reversed(trainer.records) if "held_out_loss" in r), {})
        made = {**record, "parameters": count_parameters(model), "steps_done": trainer.step, "seconds": trainer.seconds}
        made["result"] = {**last, **result}
        write_atomically(folder / "model" / CARD_FILE, pretraining_card(folder.resolve().name, made).encode())
        save_pretrained(folder / "model", Pretrained(model, dataset.tokenizer, made))  # type: ignore[arg-type]

    loss = compiled(loss_sum) if train_config.compile else loss_sum
    trainer = Trainer(model, stream, loss, train_config, folder, evaluate, write_model, show_progress)  # type: ignore[arg-type]
    if resume:
        trainer.resume()
    records = trainer.run()
    if distributed.is_first() and not trainer.interrupted and not _is_written(folder / "model", train_config.steps):
        with torch.no_grad(), autocast(trainer.device, trainer.precision):
            evaluate(model)
        write_model(model)
    distributed.leave()
    return Run(Pretrained(model.eval().cpu(), dataset.tokenizer, record), records, folder, trainer.interrupted)


def compiled(loss_sum: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same loss through `torch.compile`. Raises RunError, when it is first called, where PyTorch can't compile."""
    from torch._dynamo.exc import TorchDynamoException  # takes seconds to import

    fast = torch.compile(loss_sum)

    def run(*arguments: Any) -> Tensor:
        try:
            return fast(*arguments)
        except TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            raise RunError(
                f"torch.compile fails here ({reason}): leave out --compile, and choose another folder."
            ) from error

    return run


def _is_written(folder: Path, steps: int) -> bool:
    """Whether a model folder and its card are those of the last step: a run may have been killed just before."""
    if not all((folder / name).is_file() for name in (CARD_FILE, "config.json", WEIGHTS)):
        return False
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))["record"].get("steps_done") == steps


def _require_format(model: ModelConfig, train: TrainConfig) -> None:
    """Raise RunError if this processor has no bf16 for the model: PyTorch's LSTM needs instructions that few have."""
    device = choose_device(train.device)
    if device.type != "cpu" or train.precision != "bf16" or model.architecture not in ("lstm", "bilstm"):
        return
    try:
        with autocast(device, "bf16"):
            nn.LSTM(8, 8)(torch.zeros(1, 1, 8))
    except RuntimeError as error:
        raise RunError(
            f"PyTorch has no bf16 for --architecture {model.architecture} on this processor: leave out --precision "
            "bf16."
        ) from error


def _describe(
    dataset: Dataset | SentenceDataset, model: ModelConfig, train: TrainConfig, masking: MaskingConfig
) -> dict[str, Any]:
    precision = choose_precision(train.precision, choose_device(train.device))
    parts = {"corpus": dataset.about, "model": asdict(model), "masking": asdict(masking), "train": asdict(train)}
    return {**parts, "precision": precision}


def _claim(folder: Path, record: Mapping[str, Any], resume: bool) -> None:
    """Write run.json, or hold it against the run that is to be resumed."""
    path = folder / RUN_FILE
    if path.is_file():
        if not resume:
            raise RunError(f"{folder} already holds a run: add --resume to go on with it, or choose another folder.")
        _require_same(folder, _read_run(path), record)
        return
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file: choose a folder for the run.")
    write_atomically(path, (json.dumps(record, indent=2) + "\n").encode())


def _read_run(path: Path) -> dict[str, Any]:
    """What `_describe` wrote. Raises RunError when the file is damaged."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if all(record[part] for part in ("corpus", "model", "masking", "train", "precision")):
            return record
    except (ValueError, KeyError, TypeError):
        pass
    raise RunError(f"{path} is damaged: start the run again in another folder.")


def _require_same(folder: Path, stored: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    for name in ("sha", "tokenizer"):
        if stored["corpus"].get(name) != record["corpus"][name]:
            raise RunError(
                f"{folder} was started on another text or tokenizer (a package may have been updated since): "
                "choose another folder."
            )
    for part in ("model", "masking", "train"):
        before = {**DEFAULTS[part], **stored[part]}  # a setting that is newer than the run had its default
        for name, value in record[part].items():
            if before[name] != value:
                raise RunError(
                    f"{folder} was started with {name} {before[name]!r}, not {value!r}: "
                    "resume with the settings it was started with, or choose another folder."
                )
