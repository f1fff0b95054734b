"""Checkpoints: a round trip, every kind of damage, a full disk, and no code from strangers."""

import errno
import os
import pickle

import pytest
import torch

from llm_lab import home
from llm_lab.train.checkpoint import (
    CheckpointError,
    all_checkpoints,
    checkpoint_path,
    load_checkpoint,
    prune_checkpoints,
    save_checkpoint,
)


@pytest.fixture
def state():
    layer = torch.nn.Linear(7, 5)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.randn(3, 7)).sum().backward()
    optimizer.step()
    numbers = {"bf16": torch.randn(3).bfloat16(), "nan": torch.tensor(float("nan")), "none": None, "list": [1, 2.5]}
    model = {"model": layer.state_dict(), "optimizers": [optimizer.state_dict()]}
    return {"step": 12, "seconds": 0.1, **model, "random": torch.get_rng_state(), "scaler": {}, "others": numbers}


def equal(a, b):
    """Equal all the way down, tensors bit for bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(
            a.contiguous().view(-1).view(torch.uint8), b.view(-1).view(torch.uint8)
        )
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def test_what_was_saved_comes_back(state, tmp_path):
    path = tmp_path / "deep" / "step.pt"
    save_checkpoint(path, state)
    assert equal(dict(load_checkpoint(path)), state)
    save_checkpoint(path, {"step": 13})
    assert load_checkpoint(str(path)) == {"step": 13}


def test_a_cut_or_changed_file_is_found_wherever_it_was_hurt(state, tmp_path):
    path = tmp_path / "step.pt"
    save_checkpoint(path, state)
    whole = path.read_bytes()
    places = [0, 1, len(whole) // 3, len(whole) // 2, len(whole) - 40, len(whole) - 1]
    hurt = [whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :] for place in places]
    hurt += [whole[:place] for place in places] + [whole + b"x", b"", b"short"]
    for data in hurt:
        path.write_bytes(data)
        with pytest.raises(
            CheckpointError, match="is damaged .*delete it, and --resume takes the one before"
        ) as caught:
            load_checkpoint(path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    path.write_bytes(whole)
    assert load_checkpoint(path)["step"] == 12


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no checkpoint at .*nothing.pt"):
        load_checkpoint(tmp_path / "nothing.pt")
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path)


class Stranger:
    """A pickle that runs code when it is read."""

    def __reduce__(self):
        return (os.mkdir, ("stranger-was-here",))


def test_a_checkpoint_can_not_run_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_checkpoint(tmp_path / "step.pt", {"model": Stranger()})
    with pytest.raises(pickle.UnpicklingError):
        load_checkpoint(tmp_path / "step.pt")
    assert not (tmp_path / "stranger-was-here").exists()


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_full_disk_keeps_the_old_checkpoint(state, tmp_path, monkeypatch, moment):
    path = tmp_path / "step.pt"
    save_checkpoint(path, state)
    whole = path.read_bytes()

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(home.os, moment, full)
    with pytest.raises(OSError) as caught:
        save_checkpoint(path, {"step": 13})
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == whole and [p.name for p in tmp_path.iterdir()] == ["step.pt"]


def test_names_sort_by_step_and_only_the_newest_stay(tmp_path):
    steps = [9, 10, 200, 99_999_999, 0]
    for step in steps:
        checkpoint_path(tmp_path, step).write_bytes(b"")
    (tmp_path / ".step-00000007.pt.abc.partial").write_bytes(b"half")
    (tmp_path / "notes.txt").write_bytes(b"mine")
    assert [p.name for p in all_checkpoints(tmp_path)] == [f"step-{step:08d}.pt" for step in sorted(steps)]
    prune_checkpoints(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"step-00000200.pt", "step-99999999.pt", "notes.txt"}
    assert all_checkpoints(tmp_path / "nowhere") == []
