"""Device and format: chosen by what the machine can do, here pretended."""

import pytest
import torch

from llm_lab.train import precision
from llm_lab.train.precision import autocast, choose_device, choose_precision, matrix_speed

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda"), torch.device("mps")


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_takes_the_fastest_device_there_is(monkeypatch, cuda, mps, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device("auto").type == chosen
    assert choose_device("cpu").type == "cpu"
    for name, present in (("cuda", cuda), ("mps", mps)):
        if present:
            assert choose_device(name).type == name
        else:
            with pytest.raises(ValueError, match=f"no {name} device that PyTorch can use: choose --device auto or cpu"):
                choose_device(name)


@pytest.mark.parametrize(
    ("capability", "chosen"), [((9, 0), "bf16"), ((8, 0), "bf16"), ((7, 5), "fp16"), ((7, 0), "fp16"), ((6, 1), "fp32")]
)
def test_a_gpu_is_asked_for_its_capability_not_for_bf16(monkeypatch, capability, chosen):
    """PyTorch says that a T4 (7.5) supports bf16, which it emulates, slowly."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert choose_precision("auto", CUDA) == chosen


@pytest.mark.parametrize(("faster", "chosen"), [(True, "bf16"), (False, "fp32")])
def test_a_cpu_takes_bf16_only_where_it_is_faster(monkeypatch, faster, chosen):
    monkeypatch.setattr(precision, "cpu_prefers_bf16", lambda: faster)
    assert choose_precision("auto", CPU) == chosen
    assert choose_precision("auto", MPS) == "fp32"


def test_a_format_that_was_named_is_taken_where_it_exists():
    for name in ("fp32", "bf16"):
        assert choose_precision(name, CPU) == name
    assert choose_precision("fp16", CUDA) == "fp16"
    with pytest.raises(ValueError, match="fp16 needs a GPU: choose --precision auto, fp32 or bf16 on a CPU"):
        choose_precision("fp16", CPU)


@pytest.mark.parametrize(("bf16", "prefers"), [(500.0, True), (125.0, True), (115.0, False), (10.0, False)])
def test_bf16_must_be_a_fifth_faster_in_the_best_of_many_measurements(monkeypatch, bf16, prefers):
    """One slow measurement of either kind, on a busy machine, changes nothing."""
    speeds = {"fp32": [100.0, 20.0], "bf16": [bf16, bf16 / 5]}

    def pretended(name, *arguments, **options):
        speeds[name].reverse()
        return speeds[name][0]

    monkeypatch.setattr(precision, "matrix_speed", pretended)
    assert precision.cpu_prefers_bf16.__wrapped__() is prefers


def test_the_question_is_asked_once():
    assert precision.cpu_prefers_bf16() is precision.cpu_prefers_bf16()
    assert precision.cpu_prefers_bf16.cache_info().hits >= 1


def test_speed_is_operations_over_the_best_time(monkeypatch):
    """Products that take 4, 1, 2 and 3 seconds by a pretended clock: 2 n^3 operations in 1 second."""
    clock = iter([0, 4, 4, 5, 5, 7, 7, 10])
    monkeypatch.setattr(precision.time, "perf_counter", lambda: next(clock))
    assert matrix_speed("fp32", "cpu", 10) == pytest.approx(2 * 10**3 / 1e9)


@pytest.mark.parametrize(("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_changes_products_and_leaves_weights(name, dtype):
    layer = torch.nn.Linear(4, 4)
    with autocast(CPU, name):
        assert layer(torch.ones(1, 4)).dtype == dtype
    assert layer.weight.dtype == torch.float32
    assert layer(torch.ones(1, 4)).dtype == torch.float32  # it ends with the block
