"""The model card: every number on it again in the record, and its command through the command line's own parser."""

import json
import math
import re
import shlex
from dataclasses import asdict, fields, replace

import pytest

from llm_lab.cli import build_parser
from llm_lab.config import SENTENCE_SIZES, SIZES, MaskingConfig, ModelConfig, TrainConfig
from llm_lab.tasks import card as module
from llm_lab.tasks.card import Measure, card, command_of, pretraining_card

RESULT = {
    "targets": 14_213, "documents": 2_023, "held_out_loss": 2.80621, "held_out_loss_interval": [2.74237, 2.86841],
    "held_out_accuracy": 0.46907, "held_out_accuracy_interval": [0.46004, 0.47821],
    "unigram_loss": 6.42152, "step": 500,
}  # fmt: skip


def record_of(size="small", model=None, train=None, masking=None, known=False, **more):
    """The record of a run with some settings of its own."""
    of_size = (SENTENCE_SIZES if known else SIZES)[size]
    corpus = {"name": "grammar" if known else "docs", "sha": "5e" * 32, "tokenizer": "7a" * 32}
    parts = {
        "corpus": corpus if known else corpus | {"words": 1_329_390},
        "model": asdict(replace(of_size.model, **(model or {}))),
        "train": asdict(replace(of_size.train, **{"steps": 500, **(train or {})})),
        "masking": asdict(replace(of_size.masking, **(masking or {}))),
        "precision": "fp32", "parameters": 5_384_704, "steps_done": 500, "seconds": 3834.6, "result": RESULT,
    }  # fmt: skip
    return json.loads(json.dumps(parts | more))  # as it comes back from config.json


def numbers_of(text):
    """Every number of a text, commas taken out."""
    return [float(n.replace(",", "")) for n in re.findall(r"(?<![\w.`])\d[\d,]*\.?\d*(?:e-\d+)?(?![\w`])", text)]


# -- round trip -------------------------------------------------------------------------------------------------------


def test_every_measured_number_is_that_of_the_record():
    text = pretraining_card("my_run", record_of())
    rows = dict(re.findall(r"^\| ([a-z ]+) \| (\d+\.\d{4}) \|", text, re.MULTILINE))
    expected = {
        "held out loss": RESULT["held_out_loss"], "held out accuracy": RESULT["held_out_accuracy"],
        "loss of word frequencies": RESULT["unigram_loss"], "loss of knowing nothing": math.log(8192),
    }  # fmt: skip
    assert {name: float(value) for name, value in rows.items()} == pytest.approx(expected, abs=6e-5)
    intervals = re.findall(r"^\| ([a-z ]+) \| [\d.]+ \| ([\d.]+) to ([\d.]+) \|", text, re.MULTILINE)
    assert [name for name, *_ in intervals] == ["held out loss", "held out accuracy"]
    for name, low, high in intervals:
        stored = RESULT[f"{name.replace(' ', '_')}_interval"]
        assert [float(low), float(high)] == pytest.approx(stored, abs=6e-5)


def test_no_number_stands_on_the_card_that_is_not_in_the_record():
    """Whatever changes in the record changes on the card, and there is nothing else."""
    record = record_of(
        train={"seed": 3, "row_length": 96, "batch_rows": 24, "learning_rate": 0.0031}, masking={"rate": 0.37}
    )
    text = pretraining_card("my_run", record)
    known = {record["parameters"], 4, 256, 8192, 1_329_390, 500, 24, 96, 512, 3, 0.0031, 0.37, 37}
    known |= {round(record["seconds"] / 60, 1), 14_213, 2_023, 15, 95}
    known |= {round(v, 4) for v in (*RESULT["held_out_loss_interval"], *RESULT["held_out_accuracy_interval"])}
    known |= {round(v, 4) for v in (2.80621, 0.46907, 6.42152, math.log(8192))}
    assert set(numbers_of(text)) == known
    for sha in ("5e" * 32, "7a" * 32):
        assert f"`{sha}`" in text


def test_the_three_questions_of_a_card_are_answered():
    text = pretraining_card("my_run", record_of())
    assert text.startswith("# my_run: a masked language model\n")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings == ["How it was made", "What it reaches", "What it is not good for"]
    assert text.endswith("\n") and "None" not in text and "{" not in text
    assert len(text.splitlines()) < 60 and "!" not in text


# -- a run under way --------------------------------------------------------------------------------------------------


def test_a_run_that_has_not_ended_says_so():
    early = {"step": 100, "held_out_loss": 5.1234, "held_out_accuracy": 0.1212}
    text = pretraining_card("my_run", record_of(steps_done=120, result=early))
    assert "The run has not ended: this is step 120 of 500." in text
    assert "At step 100, on a part of the held-out text" in text
    assert "| held out loss | 5.1234 |  |  |" in text and "word frequencies" not in text
    unmeasured = pretraining_card("my_run", record_of(steps_done=20, result={}))
    assert "Not measured yet." in unmeasured and "held out loss" not in unmeasured
    assert "has not ended" not in pretraining_card("my_run", record_of())


def test_a_result_without_an_interval_is_shown_without_one():
    result = {name: value for name, value in RESULT.items() if not name.endswith("interval")} | {"documents": 1}
    assert "| held out loss | 2.8062 |  |  |" in pretraining_card("my_run", record_of(result=result))


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "changes"),
    [
        (False, {}),
        (False, {"train": {"steps": 9000, "seed": 4, "learning_rate": 0.0007}, "model": {"dropout": 0.1}}),
        (False, {"size": "tiny", "masking": {"rate": 0.15, "scheme": "80/10/10"}, "train": {"precision": "fp32"}}),
        (False, {"model": {"biases": True, "norm_epsilon": 1e-12, "positions": "learned", "width": 64}}),
        (True, {"size": "tiny", "model": {"architecture": "bilstm", "vocabulary_size": 193}}),
        (True, {"size": "base", "model": {"convolution": 3}, "train": {"batch_rows": 64, "accumulate": 1}}),
    ],
)
def test_the_command_gives_the_configuration_of_the_run(known, changes):
    record = record_of(known=known, **changes)
    command = command_of("runs/my run", record)
    assert command.startswith("python -m llm_lab pretrain ")
    options = build_parser().parse_args(shlex.split(command)[3:])
    size = (SENTENCE_SIZES if known else SIZES)[options.size]
    for name, of_size in (("model", size.model), ("train", size.train), ("masking", size.masking)):
        flags = {f.name: getattr(options, f.name) for f in fields(of_size) if getattr(options, f.name) is not None}
        made = asdict(replace(of_size, **flags))
        if known and name == "model":
            made["vocabulary_size"] = record["model"]["vocabulary_size"]  # the language's own, whatever is asked
        assert made == record[name]
    assert options.corpus == record["corpus"]["name"] and str(options.out) == "runs/my run"
    assert command in pretraining_card("runs/my run", record).replace("\n    ", "")


def test_a_yes_or_no_setting_becomes_its_flag(monkeypatch):
    with_biases = record_of(model={"biases": True})
    assert " --biases " in command_of("run", with_biases)
    assert "biases" not in command_of("run", record_of())
    small = replace(SIZES["small"], model=replace(SIZES["small"].model, biases=True))
    monkeypatch.setattr(module, "SIZES", {"small": small})  # a size that has them by default
    assert "biases" not in command_of("run", with_biases) and " --no-biases " in command_of("run", record_of())


def test_a_setting_that_is_newer_than_the_run_had_its_default():
    record = record_of()
    del record["model"]["norm_epsilon"], record["train"]["clip"]
    assert command_of("run", record) == "python -m llm_lab pretrain --corpus docs --size small --steps 500 --out run"


def test_the_corpus_is_quoted():
    record = record_of()
    record["corpus"]["name"] = "my texts/a.txt"
    assert "--corpus 'my texts/a.txt' --size" in command_of("run", record)


@pytest.mark.parametrize("config", [ModelConfig, TrainConfig, MaskingConfig])
def test_every_setting_can_be_said(config):
    """A field that is added to a config must reach the command: all are flags, or yes-or-no."""
    assert {one.type for one in fields(config)} <= {"int", "float", "str", "bool"}


# -- any other task ---------------------------------------------------------------------------------------------------


def test_a_card_lays_out_plain_data():
    text = card(
        "sorter: which library?", "It names the library of a text.",
        "python -m llm_lab finetune --data a.csv --out sorter",
        {"labels": "6"}, "On 300 texts of other modules.",
        [Measure("accuracy", 0.81234, (0.77, 0.85), "5 seeds"), Measure("of chance", 1 / 6)], ["Poems."],
    )  # fmt: skip
    assert "| accuracy | 0.8123 | 0.7700 to 0.8500 | 5 seeds |\n| of chance | 0.1667 |  |  |" in text
    assert "    python -m llm_lab finetune --data a.csv --out sorter\n" in text
    assert "| labels | 6 |" in text and text.rstrip().endswith("- Poems.")
    assert "interval" not in card("a", "b", "c", {}, "d", [], ["e"])
