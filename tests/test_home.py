"""Folders follow the environment; a file that is written is whole or as it was."""

import errno
import os
from pathlib import Path

import pytest

from llm_lab import home


def test_folders_follow_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("LLM_LAB_HOME", str(tmp_path))
    assert home.root() == tmp_path
    assert home.cache_folder() == tmp_path / "data" / "cache"
    assert home.runs_folder() == tmp_path / "runs"
    monkeypatch.setenv("LLM_LAB_HOME", "~/elsewhere")
    assert home.root() == Path.home() / "elsewhere"


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_home_the_repository_holds_everything(monkeypatch, value):
    monkeypatch.delenv("LLM_LAB_HOME") if value is None else monkeypatch.setenv("LLM_LAB_HOME", value)
    assert home.root() == Path(__file__).resolve().parent.parent == home.REPOSITORY


@pytest.mark.parametrize(("value", "fast"), [("1", True), ("0", False), ("", False), (None, False)])
def test_fast_is_1_alone(monkeypatch, value, fast):
    monkeypatch.delenv("LLM_LAB_FAST", raising=False) if value is None else monkeypatch.setenv("LLM_LAB_FAST", value)
    assert home.is_fast() is fast


def test_a_file_is_written_with_its_folders_and_replaced(tmp_path):
    path = tmp_path / "a" / "b" / "file.bin"
    for data in (b"first", bytes(range(256)) * 1000, b""):
        home.write_atomically(path, data)
        assert path.read_bytes() == data
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_others_may_read_what_was_written(tmp_path):
    home.write_atomically(tmp_path / "file", b"data")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("moment", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, moment):
    path = tmp_path / "file"
    home.write_atomically(path, b"old")

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    if moment == "write":
        monkeypatch.setattr(home.os, "fdopen", lambda handle, mode: FullFile(handle))
    else:
        monkeypatch.setattr(home.os, moment, full)
    with pytest.raises(OSError) as caught:
        home.write_atomically(path, b"new" * 1000)
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


class FullFile:
    """A file on a disk that takes two bytes."""

    def __init__(self, handle):
        self.handle = handle

    def __enter__(self):
        return self

    def __exit__(self, *error):
        os.close(self.handle)

    def write(self, data):
        os.write(self.handle, data[:2])
        raise OSError(errno.ENOSPC, "No space left on device")


def test_the_bytes_are_on_the_disk_before_the_name_changes(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(home.os, name, lambda *a, real=real, name=name: (calls.append(name), real(*a))[1])
    home.write_atomically(tmp_path / "file", b"data")
    assert calls == ["fsync", "replace"]


def test_a_kill_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    home.write_atomically(path, b"old")

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(home.os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        home.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
