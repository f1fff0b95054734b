"""Several processes: alone every function is the identity; two on one machine train what one would."""

import os
import signal
import socket
import time

import pytest
import torch

from llm_lab.config import MaskingConfig, ModelConfig, TrainConfig
from llm_lab.tasks.pretrained import load_pretrained
from llm_lab.tasks.pretraining import pretrain
from llm_lab.train import distributed
from llm_lab.train.checkpoint import all_checkpoints
from llm_lab.train.loop import read_metrics
from tests import samples
from tests.train.runs import pretrain_share

MODEL = ModelConfig(width=16, num_layers=2, num_heads=2, feed_forward_width=24, max_length=16)
MASKING = MaskingConfig(rate=0.3, selection="bernoulli")  # rows and ranks differ in their number of targets


def config(**changes):
    defaults = {"steps": 8, "batch_rows": 8, "row_length": 16, "learning_rate": 0.01, "precision": "fp32"}
    return TrainConfig(**{**defaults, "device": "cpu", "evaluate_every": 4, "checkpoint_every": 4, **changes})


def start_two(arguments):
    """Two processes with the variables that `torchrun` sets, without a GPU."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "CUDA_VISIBLE_DEVICES": ""}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank), **shared} for rank in (0, 1)]
    return [samples.start(pretrain_share, *arguments, **variables) for variables in ranks]


def losses(records):
    return torch.tensor([[r["loss"], r["gradient_norm"], r["learning_rate"]] for r in records], dtype=torch.float64)


def test_alone_everything_is_the_identity(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert distributed.join() == (0, 1)
    assert distributed.is_first()
    assert distributed.total(2.5, torch.device("cpu")) == 2.5
    layer = torch.nn.Linear(2, 2)
    layer(torch.ones(1, 2)).sum().backward()
    before = layer.weight.grad.clone()
    distributed.sum_gradients(layer.parameters())
    distributed.wait_for_all()
    distributed.leave()
    assert torch.equal(layer.weight.grad, before)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_accumulation_and_two_processes_give_the_losses_of_one(tiny_dataset, tmp_path, optimizer):
    """The loss is a sum over all targets divided by their number, across parts and processes."""
    one = pretrain(tiny_dataset, MODEL, config(optimizer=optimizer), MASKING, tmp_path / "one", show_progress=False)
    parts = config(optimizer=optimizer, accumulate=4)
    four = pretrain(tiny_dataset, MODEL, parts, MASKING, tmp_path / "four", show_progress=False)
    arguments = (tiny_dataset, MODEL, config(optimizer=optimizer, accumulate=2), MASKING, tmp_path / "two")
    processes = start_two(arguments)
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    two = read_metrics(tmp_path / "two" / "metrics.jsonl")
    assert [r["step"] for r in two] == list(range(1, 9))  # written by one process alone
    for records in (four.records, two):
        assert torch.allclose(losses(records), losses(one.records), rtol=1e-5, atol=0)
        assert [r["tokens"] for r in records] == [128] * 8
        for mine, reference in zip(records, one.records, strict=True):
            assert ("held_out_loss" in mine) == ("held_out_loss" in reference)
            assert mine.get("held_out_loss", 0.0) == pytest.approx(reference.get("held_out_loss", 0.0), rel=1e-5)
    saved = load_pretrained(tmp_path / "two").model
    for a, b in zip(saved.parameters(), one.pretrained.model.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-4)


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_that_reaches_one_process_stops_both_at_the_same_step(tiny_dataset, tmp_path):
    """The other one would otherwise wait for ever for a sum that never comes."""
    processes = start_two((tiny_dataset, MODEL, config(steps=100_000), MASKING, tmp_path))
    end = time.monotonic() + 60
    while not read_metrics(tmp_path / "metrics.jsonl") and time.monotonic() < end:
        time.sleep(0.01)
    os.kill(processes[1].pid, signal.SIGINT)
    for process in processes:
        process.join(20)
        process.kill()
    assert [process.exitcode for process in processes] == [130, 130]
    last = read_metrics(tmp_path / "metrics.jsonl")[-1]["step"]
    assert all_checkpoints(tmp_path / "checkpoints")[-1].name == f"step-{last:08d}.pt"
