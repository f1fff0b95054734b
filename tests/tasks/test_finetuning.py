"""Fine-tuning: toy tasks that are learnt, what each mode leaves alone, rates by layer, folders that are whole."""

import errno
import json
import os
import random
from dataclasses import replace

import pytest
import safetensors.torch
import torch

from llm_lab import home
from llm_lab.config import ModelConfig
from llm_lab.model.heads import MaskedLanguageModel
from llm_lab.tasks import finetuning
from llm_lab.tasks.finetuning import (
    FinetuningError,
    build_classifier,
    depth_of,
    finetune,
    finetune_into,
    layered_optimizers,
    load_finetuned,
    predict_examples,
    save_finetuned,
)
from llm_lab.tasks.finetuning_config import FinetuningConfig
from llm_lab.tasks.labelled import Example, labels_of
from llm_lab.tasks.pretrained import Pretrained, PretrainedError, load_pretrained, save_pretrained
from llm_lab.train.loop import Trainer
from tests.samples import COLOURS, PLACES, THINGS

SETTINGS = FinetuningConfig(epochs=4, batch_rows=8, row_length=32, learning_rate=1e-2, device="cpu", precision="fp32")


@pytest.fixture
def pretrained(tiny_tokenizer):
    """A small model with random weights, other ones than the runs' seeds give."""
    torch.manual_seed(7)
    config = ModelConfig(tiny_tokenizer.vocabulary_size, 32, 2, 2, 48, max_length=32, dropout=0.1)
    return Pretrained(MaskedLanguageModel(config), tiny_tokenizer, {"corpus": {"tokenizer": tiny_tokenizer.sha}})


def texts(count, seed):
    """Texts whose label is the colour in them, wherever it stands."""
    draw = random.Random(seed)
    found = []
    for i in range(count):
        colour = COLOURS[i % 3]
        words = draw.sample(THINGS, draw.randint(1, 6))
        words.insert(draw.randint(0, len(words)), colour)
        found.append(Example(" ".join(words), (colour,)))
    return found


def sentences(count, seed):
    """Tokens in which a place is a span and a colour before it belongs to the span."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        tokens, tags = [], []
        for _ in range(draw.randint(1, 4)):
            tokens += [draw.choice(THINGS), draw.choice(COLOURS), draw.choice(PLACES)]
            tags += ["O", "B-PLACE", "I-PLACE"]
            if draw.random() < 0.5:
                tokens.append(draw.choice(COLOURS))
                tags.append("O")
        found.append(Example(tuple(tokens), tuple(tags)))
    return found


def train(pretrained, folder, settings, task="classification", rows=texts, held_out=12):
    return finetune(pretrained, task, rows(48, 1), rows(held_out, 2), settings, folder, show_progress=False)


# -- it learns --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_a_task_that_can_be_learnt_is_learnt(pretrained, tmp_path, pooling):
    settings = replace(SETTINGS, epochs=8, pooling=pooling)
    tuned, trainer = train(pretrained, tmp_path, settings, held_out=60)
    assert trainer.records[-1]["held_out_accuracy"] == 1.0 and tuned.model.pooling == pooling
    measured = tuned.score(tuned.encode(texts(60, 2)))  # what was held out, and no training text
    assert trainer.records[-1]["held_out_loss"] == pytest.approx(measured["held_out_loss"], rel=1e-5)
    assert trainer.records[0]["loss"] == pytest.approx(
        torch.tensor(3.0).log().item(), abs=0.15
    )  # a head that knows nothing
    assert [r["step"] for r in trainer.records if "held_out_loss" in r] == [6 * e for e in range(1, 9)]
    assert {p["label"] for p in predict_examples(tuned, texts(9, 5))} == set(COLOURS[:3])


def test_low_rank_additions_learn_it_too(pretrained, tmp_path):
    settings = replace(SETTINGS, epochs=6, mode="lora", learning_rate=3e-2)
    tuned, _ = train(pretrained, tmp_path, settings)
    assert tuned.score(tuned.encode(texts(60, 3)))["held_out_accuracy"] == 1.0


def test_tags_are_learnt(pretrained, tmp_path):
    """A colour's tag depends on the next word alone."""
    tuned, trainer = train(pretrained, tmp_path, replace(SETTINGS, epochs=12), "tagging", sentences)
    assert tuned.labels == ("B-PLACE", "I-PLACE", "O")
    assert trainer.records[-1]["held_out_accuracy"] > 0.97 and trainer.records[-1]["held_out_span_f1"] > 0.9
    (found,) = predict_examples(tuned, [Example(("lamp", "red", "river", "boat"))])
    assert [(one["token"], one["tag"]) for one in found] == [
        ("lamp", "O"),
        ("red", "B-PLACE"),
        ("river", "I-PLACE"),
        ("boat", "O"),
    ]


# -- modes ------------------------------------------------------------------------------------------------------------


def test_frozen_leaves_the_encoder_bit_for_bit(pretrained, tmp_path):
    before = {name: tensor.clone() for name, tensor in pretrained.model.encoder.state_dict().items()}
    tuned, trainer = train(pretrained, tmp_path, replace(SETTINGS, mode="frozen", learning_rate=0.05))
    after = tuned.model.encoder.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before) and set(after) == set(before)
    assert tuned.model.config.dropout == 0  # features, the same in every epoch
    losses = [record["loss"] for record in trainer.records]
    assert sum(losses[-6:]) < 0.9 * sum(losses[:6])  # the new layer did learn


def test_full_moves_every_weight_and_never_the_pretrained_model(pretrained, tmp_path):
    before = {name: tensor.clone() for name, tensor in pretrained.model.state_dict().items()}
    tuned, _ = train(pretrained, tmp_path, SETTINGS)
    assert all(torch.equal(tensor, before[name]) for name, tensor in pretrained.model.state_dict().items())
    for name, tensor in tuned.model.encoder.named_parameters():
        assert not torch.equal(tensor, before[f"encoder.{name}"]), name


def test_lora_moves_the_matrices_by_a_low_rank_and_nothing_else(pretrained, tmp_path):
    before = pretrained.model.encoder.state_dict()
    settings = replace(SETTINGS, mode="lora", lora_rank=2, learning_rate=3e-2)
    tuned, _ = train(pretrained, tmp_path, settings)
    assert set(tuned.model.encoder.state_dict()) == set(before)
    for name, tensor in tuned.model.encoder.state_dict().items():
        moved = tensor - before[name]
        if "attention." in name or "feed_forward." in name:
            values = torch.linalg.svdvals(moved)
            assert values[0] > 1e-3 and values[2:].max() < 1e-5 * values[0]
        else:
            assert moved.abs().max() == 0, name


def test_the_encoder_starts_as_it_was_pretrained(pretrained):
    ids = torch.randint(5, 200, (2, 9))
    for mode in ("full", "frozen", "lora"):
        model = build_classifier(pretrained, "classification", 3, replace(SETTINGS, mode=mode)).eval()
        assert torch.equal(model.encoder(ids), pretrained.model.eval().encoder(ids))
        again = build_classifier(pretrained, "classification", 3, replace(SETTINGS, mode=mode))
        assert torch.equal(model.output.weight, again.output.weight)
    other = build_classifier(pretrained, "classification", 3, replace(SETTINGS, seed=1))
    assert not torch.equal(model.output.weight, other.output.weight)


# -- rates by layer ---------------------------------------------------------------------------------------------------


def test_rates_are_the_formula(pretrained):
    """Three layers of the encoder: depths 0 (embedding) to 4 (head), each at decay times the rate of the next."""
    config = replace(pretrained.model.config, num_layers=3, positions="learned")
    model = build_classifier(
        Pretrained(MaskedLanguageModel(config), pretrained.tokenizer), "classification", 3, SETTINGS
    )
    (optimizer,) = layered_optimizers(model, peak=0.1, layer_decay=0.5, weight_decay=0.3)
    rates = {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    assert len(rates) == len(list(model.parameters()))
    expected = {
        "encoder.embedding.": 0.1 / 16,
        "encoder.added.": 0.1 / 16,
        "encoder.embedding_norm.": 0.1 / 16,
        "encoder.blocks.0.": 0.1 / 8,
        "encoder.blocks.1.": 0.1 / 4,
        "encoder.blocks.2.": 0.1 / 2,
        "encoder.final_norm.": 0.1,
        "output.": 0.1,
    }
    for name, parameter in model.named_parameters():
        rate, decay = rates[id(parameter)]
        (wanted,) = [value for start, value in expected.items() if name.startswith(start)]
        assert rate == pytest.approx(wanted), name
        assert decay == (0.3 if parameter.ndim >= 2 else 0.0), name


@pytest.mark.parametrize("architecture", ["transformer", "bilstm", "rnn", "window"])
def test_every_architecture_has_depths_from_0_to_the_head(pretrained, architecture):
    config = replace(pretrained.model.config, num_layers=3, architecture=architecture)
    model = build_classifier(
        Pretrained(MaskedLanguageModel(config), pretrained.tokenizer), "classification", 3, SETTINGS
    )
    depths = {name: depth_of(name, 3) for name, _ in model.named_parameters()}
    assert set(depths.values()) == {0, 1, 2, 3, 4}
    assert (
        depths["encoder.embedding.weight"] == 0 and depths["output.weight"] == depths["encoder.final_norm.weight"] == 4
    )


def test_the_first_step_moves_each_layer_by_its_rate(pretrained, tmp_path):
    """Adam's first step is the learning rate in each number, whatever the gradient; no weight is decayed here."""
    settings = replace(SETTINGS, epochs=1, batch_rows=48, layer_decay=0.5, weight_decay=0.0, learning_rate=1e-3)
    before = pretrained.model.encoder.state_dict()
    tuned, _ = finetune(pretrained, "classification", texts(48, 1), [], settings, tmp_path, show_progress=False)
    after = tuned.model.encoder.state_dict()
    for name, depth in (("embedding_norm.weight", 0), ("blocks.0.attention.value.weight", 1), ("final_norm.weight", 3)):
        moved = (after[name] - before[name]).abs().median().item()
        assert moved == pytest.approx(1e-3 * 0.5 ** (3 - depth), rel=0.02), name


# -- the same run, again ----------------------------------------------------------------------------------------------


def test_a_run_is_a_function_of_its_seed(pretrained, tmp_path):
    runs = [train(pretrained, tmp_path / str(i), replace(SETTINGS, seed=s))[0] for i, s in enumerate((0, 0, 1))]
    first, second, third = (run.model.output.weight for run in runs)
    assert torch.equal(first, second) and not torch.equal(first, third)


class Broken(Exception):
    """Ends a run in the middle, as a power cut would."""


@pytest.mark.parametrize("mode", ["full", "lora"])
def test_a_run_that_was_broken_off_goes_on_with_the_same_numbers(pretrained, tmp_path, monkeypatch, mode):
    settings = replace(SETTINGS, mode=mode)
    arguments = (pretrained, "classification", texts(48, 1), texts(12, 2), settings, False)
    whole = finetune_into(tmp_path / "whole", *arguments)
    step = Trainer._train_step

    def breaking(self):
        if self.step == 14:
            raise Broken
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_step", breaking)
        with pytest.raises(Broken):
            finetune_into(tmp_path / "broken", *arguments)
    assert not (tmp_path / "broken").exists() and (tmp_path / ".broken.partial" / "checkpoints").is_dir()
    asked = []
    monkeypatch.setattr(Trainer, "_train_step", lambda self: asked.append(self.step) or step(self))
    again = finetune_into(tmp_path / "broken", *arguments)
    assert asked[0] == 12  # the end of the second epoch
    for (name, a), b in zip(whole.model.state_dict().items(), again.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken", "whole"]


def test_a_run_keeps_the_precision_that_it_began_with(pretrained, tmp_path, monkeypatch):
    """Even if another would be measured to be faster when it goes on."""
    arguments = (pretrained, "classification", texts(48, 1), [], replace(SETTINGS, precision="auto"), False)
    choices = iter(["bf16", "fp32"])
    monkeypatch.setattr(finetuning, "choose_precision", lambda name, device: next(choices))
    used = []

    def breaking(self):
        used.append(self.precision)
        raise Broken

    monkeypatch.setattr(Trainer, "_train_step", breaking)
    for _ in range(2):
        with pytest.raises(Broken):
            finetune_into(tmp_path / "run", *arguments)
    assert used == ["bf16", "bf16"]
    (tmp_path / ".run.partial" / "run.json").write_text("{damaged")
    monkeypatch.setattr(finetuning, "choose_precision", lambda name, device: "fp32")
    with pytest.raises(Broken):
        finetune_into(tmp_path / "run", *arguments)
    assert used[2] == "fp32"


def test_another_run_in_the_same_place_starts_anew(pretrained, tmp_path, monkeypatch):
    step = Trainer._train_step

    def breaking(self):
        if self.step == 8:  # after the checkpoint of the first epoch
            raise Broken
        return step(self)

    arguments = (pretrained, "classification", texts(48, 1), texts(12, 2))
    for change in ({"epochs": 2}, {"seed": 1}):
        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_train_step", breaking)
            with pytest.raises(Broken):
                finetune_into(tmp_path / "run", *arguments, replace(SETTINGS, **change), False)
    other = finetune_into(tmp_path / "run", *arguments, SETTINGS, False)
    alone = finetune_into(tmp_path / "alone", *arguments, SETTINGS, False)
    assert torch.equal(other.model.output.weight, alone.model.output.weight)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 25))


# -- the folder -------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["classification", "tagging"])
def run(request, pretrained, tmp_path):
    rows = texts if request.param == "classification" else sentences
    folder = tmp_path / "run"
    tuned = finetune_into(
        folder, pretrained, request.param, rows(24, 1), rows(6, 2), replace(SETTINGS, epochs=1), False
    )
    return folder, tuned, rows(9, 4)


def test_the_folder_holds_all_that_predicting_needs(run):
    folder, tuned, examples = run
    assert sorted(p.name for p in folder.iterdir()) == ["metrics.jsonl", "model", "run.json"]
    assert sorted(p.name for p in (folder / "model").iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    for place in (folder, folder / "model"):
        again = load_finetuned(place)
        assert predict_examples(again, examples) == predict_examples(tuned, examples)
        assert again.record == tuned.record and not again.model.training
        assert (again.task, again.labels, again.row_length) == (tuned.task, tuned.labels, 32)
    assert set(tuned.record["result"]) >= {"held_out_loss", "held_out_accuracy"}
    assert tuned.record["finetuning"]["epochs"] == 1 and tuned.record["data"]["train"][0] == 24


def test_a_changed_byte_is_found(run):
    path = run[0] / "model" / "model.safetensors"
    whole = path.read_bytes()
    for place in (20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(PretrainedError, match="model.safetensors is damaged"):
            load_finetuned(run[0])


@pytest.mark.parametrize(
    "change",
    [
        {"labels": None},
        {"task": "juggling"},
        {"pooling": "max"},
        {"row_length": "x"},
        {"labels": [1, 2]},
        {"row_length": 3},
    ],
    ids=str,
)
def test_a_damaged_config_is_found(run, change):
    path = run[0] / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(PretrainedError, match="config.json is damaged: copy the model again"):
        load_finetuned(run[0])


def test_labels_that_do_not_fit_the_weights_are_found(run):
    path = run[0] / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"labels": ["a", "b"]}))
    with pytest.raises(PretrainedError, match="belong to a model of another size"):
        load_finetuned(run[0])


def test_the_two_kinds_of_model_are_not_mistaken_for_each_other(run, pretrained, tmp_path):
    with pytest.raises(PretrainedError, match="was fine-tuned for .* and guesses no words: use predict"):
        load_pretrained(run[0])
    save_pretrained(tmp_path / "plain", pretrained)
    with pytest.raises(
        PretrainedError, match="holds a pretrained model, which knows no labels yet: run finetune first"
    ):
        load_finetuned(tmp_path / "plain")
    with pytest.raises(FileNotFoundError, match="there is no trained model in .*nowhere"):
        load_finetuned(tmp_path / "nowhere")


def test_a_folder_that_holds_something_is_refused_and_kept(pretrained, tmp_path):
    (tmp_path / "run").mkdir()
    note = tmp_path / "run" / "note.txt"
    arguments = (pretrained, "classification", texts(24, 1), [], replace(SETTINGS, epochs=1), False)
    note.write_text("mine")
    with pytest.raises(FinetuningError, match="run exists already and is kept as it is: choose another folder"):
        finetune_into(tmp_path / "run", *arguments)
    with pytest.raises(FinetuningError, match="note.txt exists already"):
        finetune_into(note, *arguments)
    assert note.read_text() == "mine" and list(tmp_path.iterdir()) == [tmp_path / "run"]
    note.unlink()
    assert finetune_into(tmp_path / "run", *arguments).record["result"] == {}  # an empty folder will do


@pytest.mark.parametrize("write", range(1, 7))  # run.json, two checkpoints, tokenizer, config, weights
def test_a_full_disk_leaves_no_half_folder_and_the_same_call_goes_on(pretrained, tmp_path, monkeypatch, write):
    """Whichever file is the one that does not fit."""
    arguments = (pretrained, "classification", texts(24, 1), texts(6, 2), replace(SETTINGS, epochs=2), False)
    real, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) == write:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(home.os, "fsync", full)
        with pytest.raises(OSError):
            finetune_into(tmp_path / "run", *arguments)
    assert not (tmp_path / "run").exists()
    finetune_into(tmp_path / "run", *arguments)
    alone = finetune_into(tmp_path / "alone", *arguments)
    assert torch.equal(load_finetuned(tmp_path / "run").model.output.weight, alone.model.output.weight)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["alone", "run"]


def test_texts_that_are_cut_are_said_once(pretrained, tmp_path, capsys):
    long = [Example(" ".join(["lamp"] * 100), ("a",)), *[Example("boat", (label,)) for label in "abb"]]
    finetune(pretrained, "classification", long, [], replace(SETTINGS, epochs=1), tmp_path / "a")
    out = capsys.readouterr().out
    assert out.count("25.0% of the rows are longer than 32 tokens and are cut there.") == 1 and "tokens/s" in out
    tuned, _ = finetune(pretrained, "classification", texts(24, 1), [], replace(SETTINGS, epochs=1), tmp_path / "b")
    assert "longer" not in capsys.readouterr().out
    heard = []
    predict_examples(tuned, long, heard.append)
    assert heard == ["25.0% of the rows are longer than 32 tokens and are cut there."]


def test_rows_are_never_longer_than_the_model_takes(pretrained, tmp_path):
    settings = replace(SETTINGS, row_length=500, epochs=1)
    long = [Example(" ".join(["lamp"] * 100), (label,)) for label in "abab"]
    tuned, _ = finetune(pretrained, "classification", long, [], settings, tmp_path, show_progress=False)
    assert tuned.row_length == 32 and labels_of(long) == tuned.labels


def test_half_precision_weights_are_read(run):
    """A folder whose weights were halved to save space predicts as the rounded weights do."""
    folder, tuned, examples = run
    from llm_lab.tasks.pretrained import open_model, write_model

    saved = open_model(folder)
    write_model(saved.folder, saved.config, saved.tokenizer, tuned.model, torch.float16)
    state = safetensors.torch.load_file(saved.folder / "model.safetensors")
    assert all(tensor.dtype == torch.float16 for tensor in state.values())
    loaded = load_finetuned(folder).model.state_dict()
    assert all(torch.equal(loaded[name], tensor.float()) for name, tensor in state.items())
    save_finetuned(folder / "model", tuned)
    assert predict_examples(load_finetuned(folder), examples) == predict_examples(tuned, examples)
