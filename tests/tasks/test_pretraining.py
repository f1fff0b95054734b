"""From a corpus to a model: what a run leaves behind, its card among it, and what it refuses."""

import errno
import json
import math
import re
import shutil
import signal
from dataclasses import asdict, replace

import pytest
import torch

from llm_lab.config import MaskingConfig, ModelConfig, TrainConfig
from llm_lab.tasks import pretraining as module
from llm_lab.tasks.card import pretraining_card
from llm_lab.tasks.held_out import answers, documents_of, exam_result, held_out_batches
from llm_lab.tasks.masked_language_model import score
from llm_lab.tasks.pretrained import load_pretrained
from llm_lab.tasks.pretraining import RunError, pretrain
from llm_lab.text.baselines import ladder
from llm_lab.text.batches import BatchStream
from llm_lab.train.checkpoint import CheckpointError, all_checkpoints
from llm_lab.train.loop import read_metrics
from llm_lab.train.precision import choose_precision

MODEL = ModelConfig(width=32, num_layers=2, num_heads=2, feed_forward_width=48, max_length=16)
TRAIN = TrainConfig(
    steps=120, batch_rows=32, row_length=16, learning_rate=0.03, evaluate_every=40, evaluate_rows=16,
    checkpoint_every=40, precision="fp32", device="cpu",
)  # fmt: skip
SHORT = replace(TRAIN, steps=6, batch_rows=4, evaluate_every=3, checkpoint_every=2)
MASKING = MaskingConfig(rate=0.3)


@pytest.fixture(scope="module")
def run(tiny_dataset, tmp_path_factory):
    """A finished run of a second or two."""
    folder = tmp_path_factory.mktemp("run")
    torch.set_num_threads(1)
    return pretrain(tiny_dataset, MODEL, TRAIN, MASKING, folder / "run", show_progress=False)


def start(dataset, folder, model=MODEL, train=SHORT, masking=MASKING, **options):
    return pretrain(dataset, model, train, masking, folder, show_progress=False, **options)


# -- what a run is ----------------------------------------------------------------------------------------------------


def test_it_learns_more_than_the_word_before(run, tiny_dataset):
    """The place of a word in the sentence says more than the word before it."""
    steps = {step.name: step.loss for step in ladder(tiny_dataset, held_out_batches(tiny_dataset))}
    held_out = [r["held_out_loss"] for r in run.records if "held_out_loss" in r]
    assert run.records[0]["loss"] == pytest.approx(math.log(300), abs=0.15)
    assert held_out == sorted(held_out, reverse=True)
    assert held_out[-1] < steps["left neighbour"] - 0.3


def test_the_last_evaluation_uses_every_held_out_row_and_those_before_a_part(run, tiny_dataset):
    measured = score(run.pretrained.model, held_out_batches(tiny_dataset))
    last = run.records[-1]
    assert (last["held_out_loss"], last["held_out_accuracy"]) == pytest.approx(tuple(measured.values()), rel=1e-6)
    part = score(run.pretrained.model, held_out_batches(tiny_dataset, 16))
    assert part["held_out_loss"] != pytest.approx(measured["held_out_loss"], rel=1e-4)


def test_the_folder_tells_what_the_run_is(run, tiny_dataset):
    record = json.loads((run.folder / "run.json").read_text())
    assert record["model"] == asdict(replace(MODEL, vocabulary_size=300))  # the tokenizer's, not the default
    assert record["train"] == asdict(TRAIN) and record["masking"] == asdict(MASKING)
    assert record["corpus"]["sha"] == tiny_dataset.corpus.sha and record["precision"] == "fp32"
    assert read_metrics(run.folder / "metrics.jsonl") == run.records and len(run.records) == 120
    saved = load_pretrained(run.folder)
    assert {name: saved.record[name] for name in record} == record
    assert {name: saved.record["result"][name] for name in run.records[-1]} == pytest.approx(run.records[-1])
    assert saved.record["steps_done"] == 120 and saved.record["seconds"] == pytest.approx(
        run.records[-1]["seconds"], abs=1e-3
    )
    assert saved.tokenizer.to_json() == tiny_dataset.tokenizer.to_json()
    ours, theirs = saved.model.state_dict(), run.pretrained.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not run.pretrained.model.training and not run.interrupted


def test_the_seed_decides_weights_order_and_masks(tiny_dataset, tmp_path):
    torch.manual_seed(5)  # nothing outside matters
    first = [r["loss"] for r in start(tiny_dataset, tmp_path / "a").records]
    torch.manual_seed(6)
    assert [r["loss"] for r in start(tiny_dataset, tmp_path / "b").records] == first
    other = start(tiny_dataset, tmp_path / "c", train=replace(SHORT, seed=1)).records
    assert [r["loss"] for r in other] != first


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_run_goes_on_where_it_was_broken_off(tiny_dataset, tmp_path, monkeypatch, stop):
    model = replace(MODEL, dropout=0.2)
    whole = start(tiny_dataset, tmp_path / "whole", model)
    real = BatchStream.batch

    def broken(stream, step):
        if step == stop:
            raise KeyboardInterrupt
        return real(stream, step)

    monkeypatch.setattr(BatchStream, "batch", broken)
    with pytest.raises(KeyboardInterrupt):
        start(tiny_dataset, tmp_path / "run", model)
    monkeypatch.undo()
    again = start(tiny_dataset, tmp_path / "run", model, resume=True)
    strip = lambda records: [{k: v for k, v in r.items() if k != "seconds"} for r in records]  # noqa: E731
    assert strip(again.records) == strip(whole.records)
    assert strip(read_metrics(tmp_path / "run" / "metrics.jsonl")) == strip(whole.records)
    ours, theirs = again.pretrained.model.state_dict(), whole.pretrained.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_resume_without_a_run_starts_one(tiny_dataset, tmp_path):
    assert len(start(tiny_dataset, tmp_path / "new", resume=True).records) == 6


def test_a_run_keeps_the_precision_it_was_started_with(tiny_dataset, tmp_path, monkeypatch):
    """The machine is asked once: what it chose at the start stays, whatever it would choose now."""
    auto = replace(SHORT, precision="auto")
    other = {"bf16": "fp32", "fp32": "bf16"}[choose_precision("auto", torch.device("cpu"))]
    used, real = [], module.Trainer
    monkeypatch.setattr(module, "Trainer", lambda *a: used.append(real(*a)) or used[-1])
    with monkeypatch.context() as at_the_start:
        at_the_start.setattr(module, "choose_precision", lambda name, device: other)
        start(tiny_dataset, tmp_path / "run", train=auto)
    all_checkpoints(tmp_path / "run" / "checkpoints")[-1].unlink()
    start(tiny_dataset, tmp_path / "run", train=auto, resume=True)
    assert [trainer.precision for trainer in used] == [other, other]


def test_the_seed_reaches_the_order_of_rows_and_the_masks(tiny_dataset, tmp_path, monkeypatch):
    used, real = [], module.Trainer
    monkeypatch.setattr(module, "Trainer", lambda *a: used.append(real(*a)) or used[-1])
    start(tiny_dataset, tmp_path / "run", train=replace(SHORT, seed=3))
    expected = BatchStream(tiny_dataset.train, tiny_dataset.tokenizer, MASKING, SHORT.batch_rows, seed=3).batch(1)
    assert torch.equal(used[0].stream.batch(1).inputs, expected.inputs)


# -- what is refused --------------------------------------------------------------------------------------------------


def test_a_folder_with_a_run_is_not_overwritten(run, tiny_dataset):
    before = {p: p.stat().st_mtime_ns for p in run.folder.rglob("*")}
    with pytest.raises(RunError, match="already holds a run: add --resume to go on with it, or choose another folder"):
        start(tiny_dataset, run.folder)
    assert {p: p.stat().st_mtime_ns for p in run.folder.rglob("*")} == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": replace(MODEL, width=16)}, "was started with width 32, not 16"),
        ({"train": replace(TRAIN, steps=121)}, "was started with steps 120, not 121"),
        ({"train": replace(TRAIN, seed=1)}, "was started with seed 0, not 1"),
        ({"masking": MaskingConfig(rate=0.15)}, "was started with rate 0.3, not 0.15"),
    ],
)
def test_a_run_is_resumed_with_its_own_settings_alone(run, tiny_dataset, change, words):
    choices = {"model": MODEL, "train": TRAIN, "masking": MASKING, **change}
    with pytest.raises(RunError, match=words):
        start(tiny_dataset, run.folder, resume=True, **choices)


def test_a_run_from_before_a_setting_was_there_is_resumed_with_its_default(run, tiny_dataset, tmp_path):
    shutil.copytree(run.folder, tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    record = json.loads(path.read_text())
    for name in ("norm_place", "norm_kind", "norm_epsilon", "feed_forward", "biases"):
        del record["model"][name]
    path.write_text(json.dumps(record))
    assert len(start(tiny_dataset, tmp_path / "run", train=TRAIN, resume=True).records) == 120
    with pytest.raises(RunError, match="was started with norm_place 'pre', not 'post'"):
        start(tiny_dataset, tmp_path / "run", replace(MODEL, norm_place="post"), train=TRAIN, resume=True)


def test_a_run_is_resumed_on_its_own_text_and_tokenizer_alone(run, tiny_dataset):
    other_text = replace(tiny_dataset, corpus=replace(tiny_dataset.corpus, sha="other"))
    from llm_lab.text.tokenizer import train_tokenizer
    from tests import samples

    other_words = replace(tiny_dataset, tokenizer=train_tokenizer(samples.sentences(300, 7), 300))
    for dataset in (other_text, other_words):
        with pytest.raises(RunError, match="was started on another text or tokenizer"):
            start(dataset, run.folder, train=TRAIN, resume=True)
    renamed = replace(tiny_dataset, corpus=replace(tiny_dataset.corpus, name="the same text elsewhere"))
    assert len(start(renamed, run.folder, train=TRAIN, resume=True).records) == 120


def test_rows_longer_than_the_model_are_refused(tiny_dataset, tmp_path):
    with pytest.raises(RunError, match="rows of 17 tokens are longer than the model's 16: shorten the rows or raise"):
        start(tiny_dataset, tmp_path / "run", train=replace(SHORT, row_length=17))
    assert not (tmp_path / "run").exists()


def test_an_lstm_without_bf16_is_refused_before_anything_is_written(tiny_dataset, tmp_path, monkeypatch):
    """Processors differ: here it is PyTorch's error that is made, and our sentence that is read."""

    def no_primitive(*arguments):
        raise RuntimeError("could not create a primitive descriptor for the LSTM forward propagation primitive")

    monkeypatch.setattr(torch.nn.LSTM, "forward", no_primitive)
    model = ModelConfig(architecture="bilstm", width=32, num_layers=1, max_length=16)
    with pytest.raises(RunError, match="no bf16 for --architecture bilstm on this processor: leave out --precision"):
        start(tiny_dataset, tmp_path / "run", model, replace(SHORT, precision="bf16"))
    assert not (tmp_path / "run").exists()


def test_a_file_in_the_place_of_the_folder_is_refused_and_kept(tiny_dataset, tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(RunError, match="is a file: choose a folder for the run"):
        start(tiny_dataset, tmp_path / "run")
    assert (tmp_path / "run").read_text() == "mine"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"model": {}}'])
def test_a_damaged_run_file_is_named(tiny_dataset, tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError, match="run.json is damaged: start the run again in another folder"):
        start(tiny_dataset, tmp_path, resume=True)


def test_a_damaged_checkpoint_is_named(tiny_dataset, tmp_path):
    start(tiny_dataset, tmp_path / "run")
    newest = all_checkpoints(tmp_path / "run" / "checkpoints")[-1]
    newest.write_bytes(newest.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="is damaged"):
        start(tiny_dataset, tmp_path / "run", resume=True)


# -- the card ---------------------------------------------------------------------------------------------------------


def card_of(folder):
    return (folder / "model" / "README.md").read_text(encoding="utf-8")


def test_a_finished_run_has_a_card_with_the_interval_of_its_loss(run, tiny_dataset):
    record = load_pretrained(run.folder).record
    assert record["result"]["held_out_loss"] == pytest.approx(run.records[-1]["held_out_loss"])
    batches = held_out_batches(tiny_dataset)
    expected = exam_result(answers(run.pretrained.model, batches), documents_of(tiny_dataset, batches))
    assert {name: record["result"][name] for name in expected} == expected
    assert record["result"]["unigram_loss"] == pytest.approx(ladder(tiny_dataset, batches)[1].loss)
    assert record["parameters"] == sum(p.numel() for p in run.pretrained.model.parameters())
    assert card_of(run.folder) == pretraining_card("run", record)
    low, high = expected["held_out_loss_interval"]
    assert f"{low:.4f} to {high:.4f}" in card_of(run.folder)


def test_an_interrupted_run_has_a_card_and_the_resumed_one_the_card_of_a_whole_run(tiny_dataset, tmp_path, monkeypatch):
    start(tiny_dataset, tmp_path / "whole" / "run")
    real = BatchStream.batch

    def interrupted(stream, step):
        if step == 3:
            signal.raise_signal(signal.SIGINT)
        return real(stream, step)

    monkeypatch.setattr(BatchStream, "batch", interrupted)
    assert start(tiny_dataset, tmp_path / "run").interrupted
    assert "The run has not ended: this is step 4 of 6." in card_of(tmp_path / "run")
    monkeypatch.undo()
    start(tiny_dataset, tmp_path / "run", resume=True)
    minutes = lambda text: re.sub("(minutes of training \\| )[0-9.]+", "\\1", text)  # noqa: E731
    assert minutes(card_of(tmp_path / "run")) == minutes(card_of(tmp_path / "whole" / "run"))
    assert "has not ended" not in card_of(tmp_path / "run")


@pytest.mark.parametrize("lost", ["README.md", "model.safetensors", "config.json", "all", "the last step"])
def test_a_run_killed_before_its_model_was_written_gets_model_and_card_when_resumed(tiny_dataset, tmp_path, lost):
    start(tiny_dataset, tmp_path / "run")
    model = tmp_path / "run" / "model"
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    if lost == "the last step":  # what the checkpoint before it had left
        config = json.loads((model / "config.json").read_text())
        config["record"]["steps_done"] = 4
        (model / "config.json").write_text(json.dumps(config))
        (model / "README.md").write_text("This is step 4 of 6.")
    else:
        for name in before if lost == "all" else [lost]:
            (model / name).unlink()
    start(tiny_dataset, tmp_path / "run", resume=True)
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before
    stamp = {path: path.stat().st_mtime_ns for path in model.iterdir()}
    start(tiny_dataset, tmp_path / "run", resume=True)  # all is there: nothing is written again
    assert {path: path.stat().st_mtime_ns for path in model.iterdir()} == stamp


def test_a_full_disk_leaves_the_older_card(tiny_dataset, tmp_path, monkeypatch):
    start(tiny_dataset, tmp_path / "run")
    card = tmp_path / "run" / "model" / "README.md"
    config = tmp_path / "run" / "model" / "config.json"
    card.write_text("an older card")
    config.write_text(config.read_text().replace('"steps_done": 6', '"steps_done": 4'))

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    real = module.write_atomically
    monkeypatch.setattr(module, "write_atomically", lambda path, data: full(0) if path == card else real(path, data))
    with pytest.raises(OSError, match="No space left"):
        start(tiny_dataset, tmp_path / "run", resume=True)
    assert card.read_text() == "an older card"


# -- torch.compile ----------------------------------------------------------------------------------------------------


def test_a_compiled_run_has_the_losses_of_a_plain_one(tiny_dataset, tmp_path):
    model, losses = replace(MODEL, num_layers=1), []
    for way in (False, True):
        plan = replace(SHORT, steps=3, compile=way)
        run = pretrain(tiny_dataset, model, plan, MASKING, tmp_path / str(way), show_progress=False)
        losses.append([record["loss"] for record in run.records])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert json.loads((tmp_path / "True" / "run.json").read_text())["train"]["compile"] is True


def test_where_nothing_can_be_compiled_a_sentence_says_so(tiny_dataset, tmp_path, monkeypatch):
    from torch._dynamo.exc import TorchDynamoException

    def fails(function):
        def call(*arguments):
            raise TorchDynamoException("No working C++ compiler found\nmore lines")

        return call

    monkeypatch.setattr(torch, "compile", fails)
    with pytest.raises(RunError, match=r"fails here \(No working C\+\+ compiler found\): leave out --compile"):
        pretrain(tiny_dataset, MODEL, replace(SHORT, compile=True), MASKING, tmp_path / "run", show_progress=False)
