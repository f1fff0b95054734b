"""`finetune` and `predict`: from a file to labels, and one sentence for whatever is wrong."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llm_lab import cli
from tests.samples import COLOURS, THINGS
from tests.test_cli import call, corpus_folder, refused, run_folder  # noqa: F401 (fixtures)

ROOT = Path(__file__).resolve().parent.parent
QUICK = ["--epochs", "2", "--batch-rows", "8", "--row-length", "16", "--device", "cpu", "--precision", "fp32"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with texts.csv, texts.jsonl and tags.jsonl: 30 rows with three labels, 12 sentences."""
    folder = tmp_path_factory.mktemp("labelled")
    rows = [(f"The {COLOURS[i % 3]} {THINGS[i % 7]}, number {i}.", COLOURS[i % 3]) for i in range(30)]
    lines = "".join(f'"{text}",{label}\n' for text, label in rows)
    (folder / "texts.csv").write_text("text,label\n" + lines)
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": t, "label": n}) + "\n" for t, n in rows))
    tagged = [{"tokens": ["The", COLOURS[i % 3], THINGS[i % 7]], "tags": ["O", "B-X", "I-X"]} for i in range(12)]
    (folder / "tags.jsonl").write_text("".join(json.dumps(row) + "\n" for row in tagged))
    return folder


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, files, run_folder, session_home):  # noqa: F811
    """What `finetune` writes, for each kind of data."""
    folder = tmp_path_factory.mktemp("tuned")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLM_LAB_HOME", str(session_home))
        for name, data in (("texts", "texts.csv"), ("tags", "tags.jsonl")):
            words = ["finetune", "--data", files / data, "--model", run_folder, "--out", folder / name, *QUICK]
            assert cli.main([str(word) for word in words]) == 0
    return folder


def test_finetune_says_what_it_does(capsys, files, run_folder, tmp_path):  # noqa: F811
    out_folder = tmp_path / "run"
    status, out, err = call(
        capsys, "finetune", "--data", files / "texts.jsonl", "--model", run_folder, "--out", out_folder, *QUICK
    )
    assert status == 0
    assert "classification: 27 rows to learn from, 3 held out, 3 labels." in err
    assert "held out accuracy" in err and f"The model is in {out_folder / 'model'}" in err
    assert "tokens/s" in out and "left" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    records = [json.loads(line) for line in (out_folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(1, 9))
    assert "held_out_accuracy" in records[-1]


def test_flags_become_settings(capsys, files, run_folder, tmp_path):  # noqa: F811
    flags = "--mode lora --lora-rank 3 --learning-rate 0.01 --layer-decay 0.8 --pooling first --seed 5".split()
    arguments = ["--data", files / "texts.csv", "--model", run_folder, "--out", tmp_path / "a", *flags, *QUICK]
    assert call(capsys, "finetune", *arguments, "--held-out", "0")[0] == 0
    config = json.loads((tmp_path / "a" / "model" / "config.json").read_text())
    used = config["record"]["finetuning"]
    assert (used["mode"], used["lora_rank"], used["learning_rate"], used["seed"]) == ("lora", 3, 0.01, 5)
    assert (used["layer_decay"], used["epochs"], config["pooling"]) == (0.8, 2, "first")
    assert config["record"]["data"]["held_out"][0] == 0 and config["record"]["result"] == {}
    assert config["labels"] == sorted(COLOURS[:3]) and config["row_length"] == 16


def test_a_second_file_is_held_out(capsys, files, run_folder, tmp_path):  # noqa: F811
    held_out = tmp_path / "held_out.csv"
    held_out.write_text(f"text,label\nThe lamp.,{COLOURS[0]}\n")
    arguments = ["--data", files / "texts.csv", "--model", run_folder, "--out", tmp_path / "a", *QUICK]
    status, _, err = call(capsys, "finetune", *arguments, "--held-out", held_out)
    assert status == 0 and "30 rows to learn from, 1 held out" in err
    held_out.write_text("text,label\nThe lamp.,turquoise\n")
    said = refused(capsys, "finetune", *arguments[:5], tmp_path / "b", *QUICK, "--held-out", held_out)
    assert f"{held_out}, line 2: the label 'turquoise' is in no row to learn from" in said


# -- predict ----------------------------------------------------------------------------------------------------------


def test_a_label_with_its_probability_a_line(capsys, files, tuned):
    status, out, _ = call(capsys, "predict", "--model", tuned / "texts", "--data", files / "texts.csv")
    lines = out.splitlines()
    assert status == 0 and len(lines) == 30
    status, out, _ = call(capsys, "predict", "--model", tuned / "texts", "--data", files / "texts.jsonl", "--json")
    found = json.loads(out)
    assert status == 0 and len(found) == 30 and set(found[0]) == {"label", "probability"}
    for line, one in zip(lines, found, strict=True):
        label, probability = line.split()
        assert label == one["label"] in COLOURS[:3] and float(probability) == pytest.approx(
            one["probability"], abs=6e-4
        )
        assert 1 / 3 <= one["probability"] <= 1


def test_one_text_by_itself(capsys, files, tuned):
    text = "The red lamp, number 1."
    _, out, _ = call(capsys, "predict", "--model", tuned / "texts" / "model", "--text", text, "--json")
    everything = json.loads(
        call(capsys, "predict", "--model", tuned / "texts", "--data", files / "texts.csv", "--json")[1]
    )
    row = [line.split('"')[1] for line in (files / "texts.csv").read_text().splitlines()[1:]]
    assert json.loads(out)[0]["label"] in COLOURS
    status, out, _ = call(capsys, "predict", "--model", tuned / "texts", "--text", row[4], "--json")
    assert status == 0 and json.loads(out)[0]["probability"] == pytest.approx(everything[4]["probability"], abs=1e-5)


def test_a_tag_for_each_word(capsys, files, tuned):
    status, out, _ = call(capsys, "predict", "--model", tuned / "tags", "--text", "The red lamp.")
    lines = out.splitlines()
    assert status == 0 and [line.split()[0] for line in lines[:-1]] == ["The", "red", "lamp", "."] and lines[-1] == ""
    assert all(line.split()[1] in ("O", "B-X", "I-X") for line in lines[:-1])
    status, out, _ = call(capsys, "predict", "--model", tuned / "tags", "--data", files / "tags.jsonl", "--json")
    found = json.loads(out)
    assert status == 0 and [len(sentence) for sentence in found] == [3] * 12
    assert found[0][0].keys() == {"token", "tag", "probability"} and found[0][0]["token"] == "The"


def test_a_long_text_is_cut_and_that_is_said_once(capsys, tuned):
    status, out, err = call(capsys, "predict", "--model", tuned / "texts", "--text", "The red lamp. " * 20)
    assert status == 0 and len(out.splitlines()) == 1
    assert err == "100.0% of the rows are longer than 16 tokens and are cut there.\n"


# -- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, content, sentence",
    [
        (
            "a.csv",
            "text,stars\nx,1\n",
            "a.csv, line 1: it has the columns text, stars: name the columns text and label",
        ),
        ("a.csv", "", "a.csv has no rows"),
        ("a.csv", "text,label\nx,y\nz,y\n", "a.csv, line 2 and all other rows to learn from have one label, 'y'"),
        ("a.csv", "text,label\nx,y\n,z\n", "a.csv, line 3: the text is empty"),
        ("a.jsonl", '{"text":"x","label":"y"}\n' * 16 + "{", "a.jsonl, line 17: broken JSON"),
        ("a.csv", b"text,label\n\xff,y\n", "a.csv, line 2: byte 0xff is not UTF-8"),
        ("a.jsonl", '{"tokens": ["x"], "tags": ["O", "O"]}', "a.jsonl, line 1: there are 1 tokens and 2 tags"),
        ("a.txt", "x", "a.txt is neither .csv nor .jsonl"),
    ],
)
def test_a_bad_file_is_refused_in_one_sentence(capsys, run_folder, tmp_path, name, content, sentence):  # noqa: F811
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    said = refused(capsys, "finetune", "--data", tmp_path / name, "--model", run_folder, "--out", tmp_path / "b")
    assert sentence in said
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_other_mistakes_are_refused_in_one_sentence(capsys, files, run_folder, tuned, tmp_path):  # noqa: F811
    good = ["--data", files / "texts.csv", "--model", run_folder, "--out", tmp_path / "a"]
    assert "there is no file no.csv" in refused(capsys, "finetune", "--data", "no.csv", *good[2:])
    assert "there is no trained model" in refused(capsys, "finetune", *good[:3], tmp_path, *good[4:])
    assert "was fine-tuned for classification" in refused(capsys, "finetune", *good[:3], tuned / "texts", *good[4:])
    assert "epochs is 0" in refused(capsys, "finetune", *good, "--epochs", 0)
    assert "mode is 'half'" in refused(capsys, "finetune", *good, "--mode", "half")
    assert "choose a share from 0" in refused(capsys, "finetune", *good, "--held-out", 1.5)
    assert "exists already" in refused(capsys, "finetune", *good[:5], tuned / "texts")
    assert "knows no labels yet" in refused(capsys, "predict", "--model", run_folder, "--text", "x")
    assert "the text is empty" in refused(capsys, "predict", "--model", tuned / "texts", "--text", " ")
    assert "the column 'tokens' is missing" in refused(
        capsys, "predict", "--model", tuned / "tags", "--data", files / "texts.csv"
    )
    assert "--data --text" in refused(capsys, "predict", "--model", tuned / "texts")
    assert not list(tmp_path.iterdir())


def test_help_shows_the_defaults_without_torch():
    program = (
        "import sys, llm_lab.cli as cli\n"
        "for command in ('finetune', 'predict'):\n"
        "    try: cli.main([command, '--help'])\n"
        "    except SystemExit as end: assert end.code == 0\n"
        "assert not {'torch', 'numpy', 'tokenizers'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert "--epochs INT times that every row is read (6)" in text and "--mode STR" in text
    assert "depends on" not in text and "None" not in text


@pytest.mark.skipif(sys.platform == "win32", reason="no Ctrl-C can be sent to a process there")
def test_ctrl_c_saves_and_the_same_command_goes_on(files, run_folder, tmp_path, session_home):  # noqa: F811
    words = ["finetune", "--data", files / "texts.csv", "--model", run_folder, "--out", tmp_path / "a", *QUICK]
    command = [sys.executable, "-m", "llm_lab", *map(str, words), "--epochs", "400"]
    environment = {**os.environ, "LLM_LAB_HOME": str(session_home), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if line.startswith("step"):
            process.send_signal(signal.SIGINT)
            break
    process.stdout.close()
    said = process.stderr.read()
    assert process.wait(timeout=60) == cli.RESUMABLE
    assert "Stopped and saved; the same command goes on." in said and "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == [".a.partial"]
