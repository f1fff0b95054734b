"""From a pretrained model and labelled rows to a model that answers with labels: what `finetune` and `predict` run.

The encoder keeps its weights and gets a new linear layer. Then all weights learn (full), the layer alone (frozen), or
it and low-rank additions (lora). The loop is the one that pretrains.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from llm_lab.home import write_atomically
from llm_lab.model.heads import Classifier
from llm_lab.model.lora import add_lora, merge_lora
from llm_lab.tasks import classification, tagging
from llm_lab.tasks.finetuning_config import FinetuningConfig
from llm_lab.tasks.labelled import Example, labels_of
from llm_lab.tasks.pretrained import Pretrained, PretrainedError, digest, load_weights, open_model, write_model
from llm_lab.tasks.rows import Row, RowStream
from llm_lab.text.tokenizer import Tokenizer
from llm_lab.train.loop import Record, Trainer
from llm_lab.train.optimizer import ADAM_BETAS, ADAM_EPSILON, Optimizers
from llm_lab.train.precision import choose_device, choose_precision

TASKS: dict[str, ModuleType] = {"classification": classification, "tagging": tagging}  # encode, loss, predict, score
RUN_FILE = "run.json"  # what a run is: settings, data, pretrained weights
LAYER = re.compile(r"^encoder\.(?:blocks|layers|norms)\.(\d+)\.")


class FinetuningError(ValueError):
    """A fine-tuning run that can't be started; the message says what to change."""


@dataclass(frozen=True)
class FineTuned:
    """A model that answers with labels, and all that predicting needs."""

    model: Classifier
    tokenizer: Tokenizer
    task: str
    labels: tuple[str, ...]
    row_length: int
    record: dict[str, Any] = field(default_factory=dict)

    def encode(self, examples: Sequence[Example]) -> list[Row]:
        """The rows of these examples, with targets where they have answers."""
        return TASKS[self.task].encode(examples, self.tokenizer, self.row_length, self.labels)

    def predict(self, rows: Sequence[Row]) -> list[Any]:
        """For each text a label with its probability; for each sentence one such for each word."""
        return TASKS[self.task].predict(self.model, rows, self.labels, self.tokenizer.pad_id)

    def score(self, rows: Sequence[Row]) -> Record:
        """What the task measures on rows with answers."""
        return TASKS[self.task].score(self.model, rows, self.labels, self.tokenizer.pad_id)


# -- what learns, and how fast ----------------------------------------------------------------------------------------


def build_classifier(pretrained: Pretrained, task: str, num_labels: int, settings: FinetuningConfig) -> Classifier:
    """The pretrained encoder under a new layer; what the mode does not train is frozen.

    A frozen encoder drops no activations: its vectors are features, the same in every epoch.
    """
    torch.manual_seed(settings.seed)
    shape = pretrained.model.config
    shape = replace(shape, dropout=0.0) if settings.mode == "frozen" else shape
    model = Classifier(shape, num_labels, "each" if task == "tagging" else settings.pooling)
    model.encoder.load_state_dict(pretrained.model.encoder.state_dict())
    if settings.mode == "frozen":
        model.encoder.requires_grad_(False)
    elif settings.mode == "lora":
        add_lora(model.encoder, settings.lora_rank)
    return model


def depth_of(name: str, num_layers: int) -> int:
    """How far up a parameter stands: the embedding 0, layer i of the encoder i + 1, all that is above it layers + 1."""
    layer = LAYER.match(name)
    if layer:
        return int(layer[1]) + 1
    return 0 if name.startswith(("encoder.embedding", "encoder.added")) else num_layers + 1


def layered_optimizers(model: Classifier, peak: float, layer_decay: float, weight_decay: float) -> Optimizers:
    """AdamW in which a parameter at depth d of D learns with peak * layer_decay^(D - d); arXiv 1801.06146, section 3.2.

    Low layers know what many tasks need, so they may move less. Vectors (norms, biases) are never decayed.
    """
    top = model.config.num_layers + 1
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((depth_of(name, top - 1), parameter.ndim >= 2), []).append(parameter)
    members = [
        {
            "params": members,
            "lr": peak * layer_decay ** (top - depth),
            "weight_decay": weight_decay if matrices else 0.0,
        }
        for (depth, matrices), members in sorted(groups.items())
    ]
    return Optimizers([torch.optim.AdamW(members, lr=peak, betas=ADAM_BETAS, eps=ADAM_EPSILON, fused=True)])


# -- a run ------------------------------------------------------------------------------------------------------------


def finetune(
    pretrained: Pretrained,
    task: str,
    train: Sequence[Example],
    held_out: Sequence[Example],
    settings: FinetuningConfig,
    folder: Path,
    show_progress: bool = True,
) -> tuple[FineTuned, Trainer]:
    """Train on `train` in a folder (metrics.jsonl, checkpoints/); its newest checkpoint is taken up if there is one.

    The held-out rows are scored after every epoch. The last epoch's weights stay: the learning rate ends at zero. A
    trainer that was `interrupted` has saved its state.
    """
    labels, tokenizer = labels_of(train), pretrained.tokenizer
    model = build_classifier(pretrained, task, len(labels), settings)
    row_length = min(settings.row_length, model.config.max_length)
    tuned = FineTuned(model, tokenizer, task, labels, row_length)
    rows = tuned.encode(train)
    if show_progress and share_cut(rows):
        print(_too_long(tuned, rows))
    stream = RowStream(rows, tokenizer.pad_id, settings.batch_rows, settings.seed)
    tested = tuned.encode(held_out)
    trainer = Trainer(
        model,
        stream,
        TASKS[task].loss_sum,
        settings.training(stream.steps_per_epoch),
        folder,
        (lambda _: tuned.score(tested)) if tested else None,
        show_progress=show_progress,
    )
    trainer.optimizers = layered_optimizers(model, settings.peak, settings.layer_decay, settings.weight_decay)
    trainer.resume()
    trainer.run()
    if settings.mode == "lora" and not trainer.interrupted:
        merge_lora(model.encoder)
    model.eval().cpu()
    return tuned, trainer


def finetune_into(
    folder: Path | str,
    pretrained: Pretrained,
    task: str,
    train: Sequence[Example],
    held_out: Sequence[Example],
    settings: FinetuningConfig,
    show_progress: bool = True,
) -> FineTuned | None:
    """Train, and leave run.json, metrics.jsonl and model/ in `folder`, which appears when all of it is written.

    Until then the run is in .FOLDER.partial beside it, and the same call goes on with it if it was broken off. Returns
    None after a Ctrl-C. Raises FinetuningError when the folder holds something, OSError on a full disk.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FinetuningError(f"{folder} exists already and is kept as it is: choose another folder for this run.")
    about = _describe(pretrained, task, train, held_out, settings)
    partial = folder.with_name(f".{folder.name}.partial")
    settings = replace(settings, precision=_claim(partial, about))  # measured once a run, so that it resumes exactly
    tuned, trainer = finetune(pretrained, task, train, held_out, settings, partial, show_progress)
    if trainer.interrupted:
        return None
    last = {name: value for name, value in trainer.records[-1].items() if name.startswith("held_out")}
    tuned = replace(tuned, record={**about, "corpus": pretrained.record.get("corpus", {}), "result": last})
    save_finetuned(partial / "model", tuned)
    shutil.rmtree(partial / "checkpoints")
    if folder.exists():
        folder.rmdir()  # empty
    partial.rename(folder)
    return tuned


def _describe(
    pretrained: Pretrained, task: str, train: Sequence[Example], held_out: Sequence[Example], settings: FinetuningConfig
) -> dict[str, Any]:
    """What the run is; runs with equal descriptions, but for the precision, are the same."""
    parts = {"train": train, "held_out": held_out}
    data = {name: [len(part), hashlib.sha256(json.dumps(part).encode()).hexdigest()] for name, part in parts.items()}
    weights = digest({name: tensor.cpu() for name, tensor in pretrained.model.state_dict().items()})
    precision = choose_precision(settings.precision, choose_device(settings.device))
    return {
        "task": task,
        "finetuning": asdict(settings),
        "data": data,
        "pretrained": weights,
        "precision": precision,
    }


def _claim(partial: Path, about: dict[str, Any]) -> str:
    """Make the folder of an unfinished run ours: kept if it is the same run, else emptied. Returns its precision."""
    path = partial / RUN_FILE
    with contextlib.suppress(OSError, ValueError):
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored == {**about, "precision": stored.get("precision")}:
            return stored["precision"]
    shutil.rmtree(partial, ignore_errors=True)
    write_atomically(path, (json.dumps(about, indent=2) + "\n").encode())
    return about["precision"]


# -- the folder of a model --------------------------------------------------------------------------------------------


def save_finetuned(folder: Path | str, tuned: FineTuned) -> None:
    """Write the three files of `tasks/pretrained.py`; config.json also holds task, labels, pooling and row length."""
    config = {
        "task": tuned.task,
        "labels": tuned.labels,
        "pooling": tuned.model.pooling,
        "row_length": tuned.row_length,
        "model": asdict(tuned.model.config),
        "record": tuned.record,
    }
    write_model(Path(folder), config, tuned.tokenizer, tuned.model)


def load_finetuned(folder: Path | str) -> FineTuned:
    """Read the folder of a fine-tuning run or of its model. Raises FileNotFoundError or PretrainedError."""
    saved = open_model(folder)
    config = saved.config
    if "task" not in config:
        raise PretrainedError(
            f"{saved.folder} holds a pretrained model, which knows no labels yet: run finetune first."
        )
    try:
        task, labels, row_length = config["task"], tuple(config["labels"]), config["row_length"]
        model = Classifier(saved.shape, len(labels), config["pooling"])
        known = TASKS[task] and row_length >= 8 and all(isinstance(label, str) for label in labels)
    except (KeyError, TypeError, ValueError):
        known = False
    if not known:
        raise PretrainedError(f"{saved.folder / 'config.json'} is damaged: copy the model again.")
    load_weights(saved.folder, model)
    return FineTuned(model.eval(), saved.tokenizer, task, labels, row_length, config["record"])


# -- using it ---------------------------------------------------------------------------------------------------------


def predict_examples(tuned: FineTuned, examples: Sequence[Example], say: Callable[[str], object] = print) -> list[Any]:
    """A dict with label and probability for each text; a list of dicts with token, tag and probability for a sentence.

    `say` hears once of texts that had to be cut.
    """
    rows = tuned.encode([example._replace(answers=()) for example in examples])
    if share_cut(rows):
        say(_too_long(tuned, rows))
    found = tuned.predict(rows)
    if tuned.task == "classification":
        return [prediction._asdict() for prediction in found]
    return [
        [{"token": token, **tag._asdict()} for token, tag in zip(example.content, tags, strict=True)]
        for example, tags in zip(examples, found, strict=True)
    ]


def share_cut(rows: Sequence[Row]) -> float:
    """The share of the rows whose text did not fit into one."""
    return sum(row.cut for row in rows) / len(rows)


def _too_long(tuned: FineTuned, rows: Sequence[Row]) -> str:
    what = "are cut there" if tuned.task == "classification" else "go on in another row"
    return f"{share_cut(rows):.1%} of the rows are longer than {tuned.row_length} tokens and {what}."
