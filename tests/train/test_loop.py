"""The loop against a loop written out with PyTorch alone; interrupted runs against uninterrupted ones, bit for bit."""

import errno
import json
import os
import random
import signal
import sys
import time

import pytest
import torch
from torch import nn

from llm_lab import home
from llm_lab.train import loop as module
from llm_lab.train.checkpoint import CheckpointError, all_checkpoints, load_checkpoint
from llm_lab.train.loop import Trainer, TrainingDiverged, read_metrics
from llm_lab.train.schedule import learning_rate_factor
from tests import samples
from tests.train.runs import ToyStream, toy_config, toy_loss, toy_model, toy_trainer, train_slowly

EXACT = ("step", "loss", "learning_rate", "gradient_norm", "tokens")  # all but the time


def exact(records):
    return [{name: record[name] for name in EXACT} for record in records]


def parameters(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def by_hand(config, model):
    """The same run as a plain loop: mean loss of the batch, its gradient, clipping, AdamW. Returns its records."""
    decayed = [p for p in model.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98))
    records = []
    for step in range(config.steps):
        batch = ToyStream(config.batch_rows).batch(step)
        loss = toy_loss(model, batch) / batch.weights.sum()
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        norm = torch.sqrt(sum((g**2).sum() for g in gradients))
        for p, g in zip(model.parameters(), gradients, strict=True):
            p.grad = g * min(1.0, config.clip / (norm.item() + 1e-6))
        rate = config.learning_rate * learning_rate_factor(step, config.steps, config.warmup, config.decay)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        records.append((loss.item(), rate, norm.item()))
    return records


@pytest.mark.parametrize("accumulate", [1, 2, 3, 12])
@pytest.mark.parametrize("clip", [0.5, 1e9])
def test_a_run_is_the_plain_loop_however_it_accumulates(tmp_path, accumulate, clip):
    """A mean of the parts' means would weigh rows that share their part with few others too much."""
    choices = {"accumulate": accumulate, "clip": clip, "optimizer": "adamw", "weight_decay": 0.5, "warmup": 0.2}
    trainer = toy_trainer(tmp_path, **choices)
    records = trainer.run()
    model = toy_model()
    expected = by_hand(toy_config(**choices), model)
    assert any(norm > 0.5 for _, _, norm in expected)  # the clip acts
    measured = [(r["loss"], r["learning_rate"], r["gradient_norm"]) for r in records]
    assert torch.allclose(torch.tensor(measured).double(), torch.tensor(expected).double(), rtol=1e-9, atol=0)
    by_loop = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert torch.allclose(parameters(trainer), by_loop, rtol=0, atol=1e-9)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path, monkeypatch, accumulate):
    found = {}
    real = nn.utils.clip_grad_norm_
    for parts in (1, accumulate):

        def keep(parameters, clip, parts=parts):
            parameters = list(parameters)
            found.setdefault(parts, torch.cat([p.grad.flatten().clone() for p in parameters]))
            return real(parameters, clip)

        monkeypatch.setattr(module.nn.utils, "clip_grad_norm_", keep)
        toy_trainer(tmp_path / str(parts), accumulate=parts, steps=1).run()
    assert found[1].norm() > 0.01
    assert torch.allclose(found[accumulate], found[1], rtol=0, atol=1e-12)


def test_each_step_stands_in_the_metrics_once(tmp_path):
    trainer = toy_trainer(tmp_path)
    trainer.evaluate = lambda model: {"held_out_loss": 1.5, "training": float(model.training)}
    records = trainer.run()
    assert [record["step"] for record in records] == list(range(1, 13))
    assert read_metrics(tmp_path / "metrics.jsonl") == records
    assert trainer.stream.asked == list(range(12))
    assert [r["step"] for r in records if "held_out_loss" in r] == [5, 10, 12]
    assert all(r.get("training", 0.0) == 0.0 for r in records)  # dropout is off while it is measured
    assert [r["tokens"] for r in records] == [72] * 12
    seconds = [r["seconds"] for r in records]
    assert seconds == sorted(seconds)


def test_training_goes_on_in_training_mode_after_an_evaluation(tmp_path):
    modes = []

    def loss(model, batch):
        modes.append(model.training)
        return toy_loss(model, batch)

    trainer = toy_trainer(tmp_path, evaluate_every=1)
    trainer.loss_sum, trainer.evaluate = loss, lambda model: {}
    trainer.run()
    assert modes == [True] * 12


def test_the_model_for_use_is_written_with_each_checkpoint(tmp_path):
    saved = []
    trainer = toy_trainer(tmp_path)
    trainer.on_checkpoint = lambda model: saved.append((trainer.step, model is trainer.model))
    trainer.run()
    assert saved == [(4, True), (8, True), (12, True)]
    assert [p.name for p in all_checkpoints(tmp_path / "checkpoints")] == ["step-00000008.pt", "step-00000012.pt"]


def test_a_batch_without_a_target_costs_nothing(tmp_path):
    class Empty(ToyStream):
        def batch(self, step):
            batch = super().batch(step)
            batch.weights = batch.weights * (step != 2)
            return batch

    trainer = toy_trainer(tmp_path, optimizer="adamw", steps=4)
    trainer.stream = Empty()
    records = trainer.run()
    assert (records[2]["loss"], records[2]["gradient_norm"]) == (0.0, 0.0)
    assert parameters(trainer).isfinite().all()


# -- resuming ---------------------------------------------------------------------------------------------------------


class Broken(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("stop", [0, 2, 4, 7, 11])
def test_a_run_that_was_broken_off_equals_the_whole_one(tmp_path, optimizer, stop):
    """Loss, rate, gradient norm and weights bit for bit; dropout draws the same, since the generator is restored."""
    whole = toy_trainer(tmp_path / "whole", dropout=0.3, optimizer=optimizer)
    whole.run()

    class Breaking(ToyStream):
        def batch(self, step):
            if step == stop:
                raise Broken
            return super().batch(step)

    first = toy_trainer(tmp_path / "broken", dropout=0.3, optimizer=optimizer)
    first.stream = Breaking()
    with pytest.raises(Broken):
        first.run()
    torch.manual_seed(1234)  # a new process has another state
    again = toy_trainer(tmp_path / "broken", dropout=0.3, optimizer=optimizer)
    torch.rand(5)
    assert again.resume() is (stop >= 4)
    assert again.step == stop // 4 * 4
    records = again.run()
    assert exact(records) == exact(whole.records)
    assert exact(read_metrics(tmp_path / "broken" / "metrics.jsonl")) == exact(whole.records)
    assert torch.equal(parameters(again), parameters(whole))
    assert again.stream.asked == list(range(stop // 4 * 4, 12))  # no step read twice, none left out
    seconds = [r["seconds"] for r in records]
    assert seconds == sorted(seconds)  # time goes on, too


def test_dropout_really_draws(tmp_path):
    """Without it the test above would prove nothing about the generator."""
    first = toy_trainer(tmp_path / "a", dropout=0.3).run()
    other = toy_trainer(tmp_path / "b", dropout=0.3, seed=1).run()
    assert first[0]["loss"] != other[0]["loss"]
    again = toy_trainer(tmp_path / "c", dropout=0.3).run()
    assert exact(again) == exact(first)


def test_a_finished_run_resumes_to_nothing(tmp_path):
    whole = toy_trainer(tmp_path)
    whole.run()
    again = toy_trainer(tmp_path)
    assert again.resume()
    assert exact(again.run()) == exact(whole.records) and again.stream.asked == []


def test_a_half_written_line_is_left_out(tmp_path):
    trainer = toy_trainer(tmp_path)
    trainer.run()
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + b'{"step": 13, "lo')
    assert read_metrics(path) == trainer.records
    assert read_metrics(tmp_path / "nothing.jsonl") == []


def test_a_damaged_checkpoint_is_named_and_the_one_before_serves(tmp_path):
    whole = toy_trainer(tmp_path / "whole")
    whole.run()
    toy_trainer(tmp_path / "hurt").run()
    older, newest = all_checkpoints(tmp_path / "hurt" / "checkpoints")
    data = newest.read_bytes()
    newest.write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="step-00000012.pt is damaged"):
        toy_trainer(tmp_path / "hurt").resume()
    newest.unlink()  # as the sentence says
    again = toy_trainer(tmp_path / "hurt")
    again.resume()
    assert again.step == 8
    assert exact(again.run()) == exact(whole.records)


def test_a_model_of_another_size_or_optimizer_is_refused(tmp_path):
    toy_trainer(tmp_path).run()
    other = Trainer(nn.Linear(6, 1).double(), ToyStream(), toy_loss, toy_config(), tmp_path, show_progress=False)
    with pytest.raises(CheckpointError, match="holds a model of another size"):
        other.resume()
    with pytest.raises(CheckpointError):
        toy_trainer(tmp_path, optimizer="adamw").resume()


def test_a_full_disk_keeps_what_was_saved(tmp_path, monkeypatch):
    trainer = toy_trainer(tmp_path)
    real, calls = os.fsync, []

    def full_the_second_time(handle):
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(home.os, "fsync", full_the_second_time)
    with pytest.raises(OSError):
        trainer.run()
    (kept,) = all_checkpoints(tmp_path / "checkpoints")
    assert load_checkpoint(kept)["step"] == 4
    assert not list((tmp_path / "checkpoints").glob(".*"))
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 8
    monkeypatch.undo()
    again = toy_trainer(tmp_path)
    again.resume()
    assert exact(again.run()) == exact(toy_trainer(tmp_path / "whole").run())


# -- what stops a run -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_numbers_that_are_none_stop_the_run_with_a_sentence(tmp_path, what):
    def loss(model, batch):
        value = toy_loss(model, batch)
        if trainer.step < 6:
            return value
        # 0 times a square root at 0: a finite value whose gradient is not a number
        return value * float("nan") if what == "loss" else value + 0 * next(model.parameters()).mul(0).sum().sqrt()

    trainer = toy_trainer(tmp_path)
    trainer.loss_sum = loss
    with pytest.raises(
        TrainingDiverged, match=f"the {what} of step 7 is not a number: look at .*metrics.jsonl"
    ) as caught:
        trainer.run()
    assert "0.02" in str(caught.value) and "\n" not in str(caught.value)
    assert [r["step"] for r in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]
    (kept,) = all_checkpoints(tmp_path / "checkpoints")
    assert all(value.isfinite().all() for value in load_checkpoint(kept)["model"].values())


def test_ctrl_c_ends_the_step_saves_and_resumes(tmp_path):
    """The signal comes in the middle of step 6: the step is finished and saved, and the handler of before is back."""
    whole = toy_trainer(tmp_path / "whole")
    whole.run()

    class Interrupting(ToyStream):
        def batch(self, step):
            if step == 5:
                signal.raise_signal(signal.SIGINT)
            return super().batch(step)

    before = signal.getsignal(signal.SIGINT)
    trainer = toy_trainer(tmp_path / "run")
    trainer.stream = Interrupting()
    records = trainer.run()
    assert signal.getsignal(signal.SIGINT) is before
    assert trainer.interrupted and len(records) == trainer.step == 6
    assert all_checkpoints(tmp_path / "run" / "checkpoints")[-1].name == "step-00000006.pt"
    again = toy_trainer(tmp_path / "run")
    again.resume()
    assert exact(again.run()) == exact(whole.records) and not again.interrupted


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    class Impatient(ToyStream):
        def batch(self, step):
            if step == 5:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)
            return super().batch(step)

    before = signal.getsignal(signal.SIGINT)
    trainer = toy_trainer(tmp_path)
    trainer.stream = Impatient()
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_in_the_last_step_is_a_finished_run(tmp_path):
    class Late(ToyStream):
        def batch(self, step):
            if step == 11:
                signal.raise_signal(signal.SIGINT)
            return super().batch(step)

    trainer = toy_trainer(tmp_path)
    trainer.stream = Late()
    assert len(trainer.run()) == 12 and not trainer.interrupted


def test_ctrl_c_while_a_checkpoint_is_written_loses_no_step(tmp_path):
    """It comes when the loop has decided about saving this step: the next one is trained and saved."""
    trainer = toy_trainer(tmp_path)
    trainer.on_checkpoint = lambda model: signal.raise_signal(signal.SIGINT) if trainer.step == 4 else None
    records = trainer.run()
    assert trainer.interrupted
    assert load_checkpoint(all_checkpoints(tmp_path / "checkpoints")[-1])["step"] == len(records) == 5


def test_a_run_in_a_thread_leaves_signals_alone(tmp_path):
    import threading

    trainer = toy_trainer(tmp_path)
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=trainer.run)
    thread.start()
    thread.join()
    assert len(trainer.records) == 12 and signal.getsignal(signal.SIGINT) is before


# -- processes that are killed ----------------------------------------------------------------------------------------

STEPS, EVERY = 40, 3


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The records of the run that the killed ones must equal, trained in a process of its own."""
    folder = tmp_path_factory.mktemp("whole")
    process = samples.start(train_slowly, folder, STEPS, EVERY)
    process.join(60)
    assert process.exitcode == 0
    return folder


def wait_for_lines(path, count, process, seconds=60):
    """Return when the file has so many lines."""
    end = time.monotonic() + seconds
    while process.is_alive() and time.monotonic() < end:
        if path.is_file() and path.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.001)


def assert_equal_runs(folder, whole):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert exact(lines) == exact(read_metrics(whole / "metrics.jsonl"))  # each step once, bit for bit
    ours, theirs = (load_checkpoint(all_checkpoints(f / "checkpoints")[-1]) for f in (folder, whole))
    assert all(torch.equal(ours["model"][name], theirs["model"][name]) for name in theirs["model"])
    assert not list((folder / "checkpoints").glob(".*.partial"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_run_that_is_killed_again_and_again_equals_the_whole_one(tmp_path, uninterrupted):
    draw = random.Random(time.time_ns())
    folder, kills = tmp_path / "killed", 0
    for goal in range(0, 32, 4):  # eight kills, each a little further on
        process = samples.start(train_slowly, folder, STEPS, EVERY)
        wait_for_lines(folder / "metrics.jsonl", goal + draw.randrange(6), process)
        time.sleep(draw.random() * 0.02)
        process.kill()
        process.join(20)
        kills += process.exitcode == -signal.SIGKILL
    assert kills >= 6
    process = samples.start(train_slowly, folder, STEPS, EVERY)
    process.join(60)
    assert process.exitcode == 0
    assert_equal_runs(folder, uninterrupted)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
def test_a_process_that_gets_ctrl_c_saves_its_last_step(tmp_path, uninterrupted):
    folder = tmp_path / "interrupted"
    process = samples.start(train_slowly, folder, STEPS, 1000)
    wait_for_lines(folder / "metrics.jsonl", 10, process)
    os.kill(process.pid, signal.SIGINT)
    process.join(20)
    assert process.exitcode == 130
    steps = len(read_metrics(folder / "metrics.jsonl"))
    assert 10 <= steps < STEPS
    assert [p.name for p in all_checkpoints(folder / "checkpoints")] == [f"step-{steps:08d}.pt"]
    process = samples.start(train_slowly, folder, STEPS, 1000)
    process.join(60)
    assert_equal_runs(folder, uninterrupted)
