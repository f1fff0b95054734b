"""Training on a GPU: the CPU's losses, formats, Muon, checkpoints, and the command line from text to filled blanks."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from llm_lab import cli
from llm_lab.config import MaskingConfig, ModelConfig, TrainConfig
from llm_lab.tasks.held_out import held_out_batches
from llm_lab.tasks.masked_language_model import score
from llm_lab.tasks.pretrained import load_pretrained
from llm_lab.tasks.pretraining import pretrain
from llm_lab.train.optimizer import Muon, orthogonalize
from llm_lab.train.precision import choose_device, choose_precision

ROOT = Path(__file__).resolve().parents[2]
MODEL = ModelConfig(width=32, num_layers=2, num_heads=2, feed_forward_width=48, max_length=16)
STEPS = 40


def losses(dataset, folder, model=MODEL, resume=False, steps=STEPS, **changes):
    """The losses of a short run."""
    settings = {"steps": steps, "batch_rows": 16, "row_length": 16, "learning_rate": 0.01, "precision": "fp32"}
    config = TrainConfig(**{**settings, "device": "cuda", "evaluate_every": 20, "checkpoint_every": 10, **changes})
    run = pretrain(dataset, model, config, MaskingConfig(), folder, resume=resume, show_progress=False)
    return torch.tensor([record["loss"] for record in run.records])


def test_auto_takes_the_gpu_and_a_format_that_it_multiplies_fast():
    device = choose_device("auto")
    assert device.type == "cuda"
    newer = torch.cuda.get_device_capability()[0] >= 8
    assert choose_precision("auto", device) == ("bf16" if newer else "fp16")


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_run_has_the_cpus_losses(tiny_dataset, tmp_path, optimizer, precision):
    here = losses(tiny_dataset, tmp_path / "cpu", device="cpu", optimizer=optimizer)
    there = losses(tiny_dataset, tmp_path / "gpu", optimizer=optimizer, precision=precision)
    assert there[-5:].mean() < there[:5].mean() - 0.5  # it learns
    gap = (there - here).abs()
    assert gap[0] < (1e-4 if precision == "fp32" else 0.02)
    assert gap.max() < (0.02 if precision == "fp32" else 0.15)


def test_a_compiled_run_has_the_losses_of_a_plain_one(tiny_dataset, tmp_path):
    plain, compiled = (losses(tiny_dataset, tmp_path / str(way), steps=10, compile=way) for way in (False, True))
    assert torch.allclose(plain, compiled, atol=1e-3)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_run_that_was_broken_off_goes_on_with_its_own_numbers(tiny_dataset, tmp_path, dropout):
    """With dropout this needs the GPU's own random state: with another one the losses differ by 0.1 and more."""
    model = ModelConfig(**{**vars(MODEL), "dropout": dropout})
    whole = losses(tiny_dataset, tmp_path / "whole", model)
    newest = sorted((tmp_path / "whole" / "checkpoints").iterdir())[-1]
    newest.unlink()  # as after a kill between two checkpoints
    torch.manual_seed(99)
    again = losses(tiny_dataset, tmp_path / "whole", model, resume=True)
    assert torch.allclose(again, whole, atol=1e-3)


def test_the_model_comes_home_to_the_cpu_and_is_the_one_that_was_measured(tiny_dataset, tmp_path):
    config = TrainConfig(steps=STEPS, batch_rows=16, row_length=16, learning_rate=0.01, precision="fp32", device="cuda")
    run = pretrain(tiny_dataset, MODEL, config, MaskingConfig(), tmp_path / "run", show_progress=False)
    exam = held_out_batches(tiny_dataset)
    assert {p.device.type for p in run.pretrained.model.parameters()} == {"cpu"}
    for model in (run.pretrained.model, load_pretrained(tmp_path / "run").model):
        assert abs(score(model, exam)["held_out_loss"] - run.records[-1]["held_out_loss"]) < 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_muons_directions_are_the_cpus(cuda, dtype):
    torch.manual_seed(0)
    matrices = torch.randn(3, 24, 40)
    found = orthogonalize(matrices.to(cuda), dtype).cpu()
    exact = orthogonalize(matrices.double(), torch.float64).float()
    assert (found - exact).norm() / exact.norm() < (1e-4 if dtype == torch.float32 else 0.05)


def test_a_step_of_muon_is_pytorchs(cuda):
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(24, 40, device=cuda)) for _ in range(2)]
    weights[1].data.copy_(weights[0])
    start = weights[0].detach().clone()
    rule = {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.95}
    ours = Muon([weights[0]], dtype=torch.bfloat16, **rule)
    theirs = torch.optim.Muon([weights[1]], adjust_lr_fn="match_rms_adamw", **rule)
    for _ in range(3):
        gradient = torch.randn(24, 40, device=cuda)
        for weight, optimizer in zip(weights, (ours, theirs), strict=True):
            weight.grad = gradient.clone()
            optimizer.step()
    assert (weights[0] - weights[1]).norm() < 0.05 * (weights[1] - start).norm()  # of the way that both have gone


def test_one_process_of_torchrun_trains_as_without_it(text_file, tmp_path):
    flags = f"--corpus {text_file} --steps 12 --batch-rows 8 --row-length 16 --width 16 --num-layers 1 --num-heads 2"
    flags += " --feed-forward-width 16 --vocabulary-size 300 --precision fp32 --checkpoint-every 6 --evaluate-every 6"
    found = []
    for name, start in (("alone", []), ("torchrun", ["-m", "torch.distributed.run", "--nproc-per-node", "1"])):
        command = [sys.executable, *start, "-m", "llm_lab", "pretrain", *flags.split(), "--out", tmp_path / name]
        done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        found.append(torch.tensor([float(line.split('"loss": ')[1].split(",")[0]) for line in lines]))
    assert torch.allclose(*found, atol=1e-3)


def test_from_a_text_file_to_filled_blanks(text_file, tmp_path, capsys):
    run, small = tmp_path / "run", "--steps 30 --batch-rows 8 --row-length 16 --width 16 --num-layers 1 --num-heads 2"
    flags = f"{small} --feed-forward-width 16 --vocabulary-size 300 --device cuda".split()
    assert cli.main(["pretrain", "--corpus", str(text_file), "--out", str(run), *flags]) == 0
    assert cli.main(["evaluate", "--model", str(run), "--corpus", str(text_file), "--json"]) == 0
    assert cli.main(["fill", "--model", str(run), "The old gardener carries the [MASK] lamp."]) == 0
    lamps = [(f"the {colour} lamp number {i}", colour) for i in range(20) for colour in ("red", "green")]
    rows = [("text", "label"), *lamps]
    table = tmp_path / "mine.csv"
    table.write_text("\n".join(",".join(row) for row in rows), encoding="utf-8")
    short = ["--epochs", "1", "--row-length", "16", "--device", "cuda"]
    assert cli.main(["finetune", "--data", str(table), "--model", str(run), "--out", str(tmp_path / "f"), *short]) == 0
    assert cli.main(["predict", "--model", str(tmp_path / "f"), "--text", "the red lamp"]) == 0
    assert "held out" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_benchmark_runs(tmp_path, capsys):
    from benchmarks.__main__ import main

    assert main(["throughput", "--quick", "--device", "cuda", "--out", str(tmp_path)]) == 0
    assert "real tokens/s" in capsys.readouterr().out
