"""What the notebooks share: budgets, folders, predictions that stay, and whose model is used."""

import json
import re
import shlex
from dataclasses import asdict, fields, replace

import pytest
import torch

from llm_lab import lessons
from llm_lab.cli import build_parser
from llm_lab.config import SIZES, ModelConfig
from llm_lab.model.heads import MaskedLanguageModel, count_parameters
from llm_lab.tasks.masked_language_model import fill
from llm_lab.tasks.pretrained import Pretrained, load_pretrained, save_pretrained
from llm_lab.tasks.pretraining import DEFAULTS


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("LLM_LAB_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def model(tiny_tokenizer):
    config = ModelConfig(tiny_tokenizer.vocabulary_size, 8, 1, 2, 8, max_length=16)
    return Pretrained(MaskedLanguageModel(config), tiny_tokenizer, {"whose": "mine"})


def test_a_fast_lesson_has_its_own_budget_and_folder(own_home, monkeypatch):
    assert lessons.budget(full=1000, fast=5) == 1000
    assert lessons.run_folder("00_start_here") == own_home / "runs" / "00_start_here"
    monkeypatch.setenv("LLM_LAB_FAST", "1")
    assert lessons.budget(full=1000, fast=5) == 5
    assert lessons.run_folder("00_start_here") == own_home / "runs" / "00_start_here-fast"


def test_ten_sentences_with_one_blank_each():
    assert len(set(lessons.TEN_BLANKS)) == 10
    for sentence in lessons.TEN_BLANKS:
        assert sentence.count("[MASK]") == 1 and sentence.endswith(".")


def test_the_readers_own_run_comes_first(own_home, model, monkeypatch, capsys):
    shipped = Pretrained(model.model, model.tokenizer, {"whose": "shipped"})
    save_pretrained(own_home / "shipped", shipped)
    monkeypatch.setattr(lessons, "SHIPPED", own_home / "shipped")
    assert lessons.own_run_or_shipped().record == {"whose": "shipped"}
    assert "the checkpoint that comes with the course" in capsys.readouterr().out
    save_pretrained(lessons.run_folder("00_start_here") / "model", model)
    assert lessons.own_run_or_shipped().record == {"whose": "mine"}
    assert capsys.readouterr().out == "Using your own model from lesson 00.\n"
    monkeypatch.setenv("LLM_LAB_FAST", "1")  # a fast test has no run of its own yet
    assert lessons.own_run_or_shipped().record == {"whose": "shipped"}


def test_a_run_whose_model_is_not_yet_written_does_not_count(own_home, model, monkeypatch, capsys):
    save_pretrained(own_home / "shipped", model)
    monkeypatch.setattr(lessons, "SHIPPED", own_home / "shipped")
    save_pretrained(lessons.run_folder("00_start_here") / "model", model)
    (lessons.run_folder("00_start_here") / "model" / "model.safetensors").unlink()  # the weights are written last
    lessons.own_run_or_shipped()
    assert "comes with the course" in capsys.readouterr().out


def test_the_shipped_checkpoint_is_what_its_card_says():
    shipped = load_pretrained(lessons.SHIPPED)
    card = (lessons.SHIPPED / "README.md").read_text(encoding="utf-8")
    assert f"{count_parameters(shipped.model):,} parameters" in card
    measured = {name.replace("_", " "): f"{value:.3f}" for name, value in shipped.record["result"].items()}
    rows = dict(re.findall(r"^\| ([a-z ]+) \| ([0-9.]+) \|$", card, re.MULTILINE))
    assert rows == {name: value for name, value in measured.items() if name != "targets"}
    assert float(rows["held out loss"]) <= 3.0
    for sentence, words in re.findall(r"^\| (.*\[MASK\].*) \| (.*) \|$", card, re.MULTILINE):
        assert ", ".join(guess.word for guess in fill(shipped.model, shipped.tokenizer, sentence, top=3)[0]) == words
    assert 10e6 < sum(path.stat().st_size for path in lessons.SHIPPED.iterdir()) < 12e6


def test_the_command_on_the_card_gives_the_configuration_of_the_shipped_checkpoint():
    record = load_pretrained(lessons.SHIPPED).record
    card = (lessons.SHIPPED / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    (command,) = re.findall(r"^ +python -m llm_lab (pretrain .*)$", card, re.MULTILINE)
    options = build_parser().parse_args(shlex.split(command))
    size = SIZES[options.size]
    for name, of_size in (("model", size.model), ("train", size.train), ("masking", size.masking)):
        flags = {f.name: getattr(options, f.name) for f in fields(of_size) if getattr(options, f.name) is not None}
        stored = {**DEFAULTS[name], **record[name]}  # a setting that is newer than the run had its default
        assert asdict(replace(of_size, **flags)) == stored
    assert options.corpus == record["corpus"]["name"] and options.out.name == lessons.SHIPPED.name
    assert re.search(rf"^ +python tools/ship_checkpoint.py {options.out} --size {options.size}$", card, re.MULTILINE)


def test_a_prediction_is_kept_and_shown_beside_the_measurement(own_home, capsys):
    lessons.predict("00.1", None)
    assert "put your number in place of None" in capsys.readouterr().out
    lessons.reveal("00.1", 0.25)
    assert capsys.readouterr().out == "00.1: measured 0.25 (you made no prediction).\n"
    lessons.predict("00.1", 0.5)
    lessons.predict("04.2", 7)
    lessons.predict("00.1", 0.4)  # a new one replaces the old
    capsys.readouterr()
    lessons.reveal("00.1", 0.2512)
    assert capsys.readouterr().out == "00.1: you predicted 0.4, measured 0.251.\n"
    stored = json.loads((own_home / "answers" / "predictions.json").read_text())
    assert stored == {"00.1": {"predicted": 0.4, "measured": 0.2512}, "04.2": {"predicted": 7.0}}
    lessons.predict("00.1", None)  # run again without a number: the old one stays
    assert json.loads((own_home / "answers" / "predictions.json").read_text()) == stored


def test_the_machine_is_described_in_its_own_numbers(capsys, monkeypatch):
    monkeypatch.setattr(lessons, "choose_device", lambda name: torch.device("cpu"))
    monkeypatch.setattr(lessons, "choose_precision", lambda name, device: "bf16")
    monkeypatch.setattr(lessons, "matrix_speed", lambda name, device, size: {"fp32": 165.4, "bf16": 1095.0}[name])
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    lessons.describe_machine()
    rows = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    assert [(row[0], row[-1].strip()) for row in rows] == [
        ("processor cores for PyTorch", "3"),
        ("GPU", "none"),
        ("matrix product in fp32", "165 GFLOP/s"),
        ("matrix product in bf16", "1,095 GFLOP/s"),
        ("training here will use", "cpu in bf16"),
    ]
