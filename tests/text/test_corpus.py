"""Corpora: built, saved, loaded and cached; a damaged cache is found; every bad name gets its sentence."""

import errno
import hashlib
import json
import os
import sys

import pytest

from llm_lab import home
from llm_lab.text import cleaning, corpus, documentation
from llm_lab.text.corpus import CorpusError, CorpusNotFoundError, build_corpus, load_corpus, save_corpus

PART = "docs:tornado,traitlets"


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("LLM_LAB_HOME", str(tmp_path / "home"))


@pytest.fixture
def lines():
    return []


@pytest.fixture
def small(tmp_path):
    """A corpus from a file of the reader."""
    file = tmp_path / "mine.txt"
    file.write_text("\n\n".join(f"Paragraph number {i} says é." for i in range(50)), encoding="utf-8")
    return build_corpus(str(file), progress=lambda line: None)


def test_a_named_part_is_built_once_and_then_read_from_the_cache(lines, monkeypatch):
    first = build_corpus(PART, progress=lines.append)
    assert first.num_words == sum(len(d.text.split()) for d in first.documents) > 10_000
    assert list(first.versions) == ["traitlets", "tornado"]  # the order of LIBRARIES, however they were asked for
    assert lines and lines[0].startswith("Building")
    monkeypatch.setattr(documentation, "read_documentation", None)  # may not be called again
    assert build_corpus("docs: Traitlets,tornado", progress=lines.append) == first


def test_the_sha_is_that_of_the_documents_and_the_same_in_two_builds(lines, tmp_path, monkeypatch):
    first = build_corpus("docs:platformdirs", progress=lines.append)
    monkeypatch.setenv("LLM_LAB_HOME", str(tmp_path / "elsewhere"))
    second = build_corpus("docs:platformdirs", progress=lines.append)
    assert first == second
    save_corpus(first, tmp_path / "saved")
    assert hashlib.sha256((tmp_path / "saved" / "documents.jsonl").read_bytes()).hexdigest() == first.sha


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone", "meta"])
def test_a_damaged_cache_is_found_and_built_again(lines, damage):
    first = build_corpus("docs:platformdirs", progress=lines.append)
    (folder,) = home.cache_folder().iterdir()
    documents, meta = folder / "documents.jsonl", folder / "corpus.json"
    data = bytearray(documents.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
        documents.write_bytes(data)
    elif damage == "cut":
        documents.write_bytes(data[:-100])
    elif damage == "empty":
        documents.write_bytes(b"")
    elif damage == "gone":
        documents.unlink()
    else:
        meta.write_bytes(meta.read_bytes()[:-20])
    lines.clear()
    assert build_corpus("docs:platformdirs", progress=lines.append) == first
    assert any("damaged" in line for line in lines)
    lines.clear()
    assert build_corpus("docs:platformdirs", progress=lines.append) == first
    assert not lines


@pytest.mark.parametrize("change", ["version of a package", "version of the cleaner"])
def test_another_version_is_another_cache(lines, monkeypatch, change):
    build_corpus("docs:referencing,platformdirs", progress=lines.append)
    if change == "version of a package":
        monkeypatch.setattr(documentation, "_version", lambda library: "0.0.1")
    else:
        monkeypatch.setattr(cleaning, "VERSION", cleaning.VERSION + 1)
    lines.clear()
    build_corpus("docs:referencing,platformdirs", progress=lines.append)
    assert any("Building" in line for line in lines)
    assert len(list(home.cache_folder().iterdir())) == 2


def test_the_parts_are_disjoint_by_module_and_cover_what_was_not_dropped(lines):
    built = build_corpus(PART, progress=lines.append)
    train, held_out = built.split("train"), built.split("held_out")
    assert train and held_out
    assert {d.module for d in train}.isdisjoint(d.module for d in held_out)
    dropped = [d for d in built.documents if d.part == "dropped"]
    assert len(train) + len(held_out) + len(dropped) == len(built.documents)
    assert built.leak_shares()[1] <= 0.01
    with pytest.raises(ValueError, match="'train' and 'held_out', not 'test'"):
        built.split("test")


def test_a_saved_folder_is_a_corpus_again(small, tmp_path):
    save_corpus(small, tmp_path / "saved")
    assert load_corpus(tmp_path / "saved") == small
    assert build_corpus(str(tmp_path / "saved")) == small
    assert "é" in (tmp_path / "saved" / "documents.jsonl").read_text(encoding="utf-8")
    meta = json.loads((tmp_path / "saved" / "corpus.json").read_text(encoding="utf-8"))
    assert meta["sha"] == small.sha and meta["num_documents"] == 50


def test_a_damaged_saved_folder_is_named(small, tmp_path):
    folder = tmp_path / "saved"
    save_corpus(small, folder)
    data = (folder / "documents.jsonl").read_bytes()
    (folder / "documents.jsonl").write_bytes(data.replace(b"number 7", b"number 8"))
    with pytest.raises(CorpusError, match="damaged"):
        build_corpus(str(folder))
    with pytest.raises(CorpusNotFoundError, match="holds no saved corpus"):
        load_corpus(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing/here", "no corpus, file or folder 'nothing/here'"),
        ("", "no corpus, file or folder ''"),
        ("wikipedia", "give docs, docs:python,numpy, hub:OWNER/NAME"),
    ],
)
def test_an_unknown_name_is_a_missing_file(name, words):
    with pytest.raises(CorpusNotFoundError, match=words) as caught:
        build_corpus(name)
    assert isinstance(caught.value, FileNotFoundError) and isinstance(caught.value, ValueError)


@pytest.mark.parametrize("name", ["docs:numpi", "docs:", "docs:numpy,pandas"])
def test_an_unknown_library_is_named_with_the_known_ones(name):
    with pytest.raises(CorpusError, match="no library of the documentation corpus: choose from python, torch"):
        build_corpus(name)


def test_libraries_that_are_not_installed_are_skipped_and_named(lines, monkeypatch):
    monkeypatch.setitem(documentation.LIBRARIES, "no-such-library", ("nothing",))
    built = build_corpus("docs:platformdirs,no-such-library", progress=lines.append)
    assert list(built.versions) == ["platformdirs"]
    assert "  no-such-library is not installed and was skipped" in lines
    with pytest.raises(CorpusError, match="is installed: install one"):
        build_corpus("docs:no-such-library", progress=lines.append)


def test_text_that_only_repeats_itself_has_no_held_out_part(tmp_path):
    file = tmp_path / "song.txt"
    line = "Ten green bottles are hanging on the wall of the house in the road"
    file.write_text(f"{line}\n\n{line} again\n\n{line} today", encoding="utf-8")
    with pytest.raises(CorpusError, match="leaves no held-out text .*: add more text"):
        build_corpus(str(file))


def no_space(*_arguments):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_one_sentence_and_nothing_older_is_lost(small, tmp_path, lines, monkeypatch):
    folder = tmp_path / "saved"
    save_corpus(small, folder)
    other = build_corpus("docs:platformdirs", progress=lines.append)
    with monkeypatch.context() as patch:
        patch.setattr(home.os, "fsync", no_space)
        with pytest.raises(CorpusError, match="disk is full.*free some space"):
            save_corpus(other, folder)
        lines.clear()
        build_corpus("docs:referencing,platformdirs", progress=lines.append)  # is built, only not kept
        assert any("could not be kept" in line for line in lines)
    assert load_corpus(folder) == small
    assert sorted(os.listdir(folder)) == ["corpus.json", "documents.jsonl"]


def test_a_folder_that_can_not_be_written_is_one_sentence(small, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CorpusError, match="can't be written .*choose a folder") as caught:
        save_corpus(small, tmp_path / "file" / "below")
    assert "\n" not in str(caught.value)


def test_a_hub_corpus_is_kept(monkeypatch, lines, small):
    calls = []

    def read_hub(name, progress):
        calls.append(name)
        return list(small.documents)

    monkeypatch.setattr(corpus.files, "read_hub", read_hub)
    first = build_corpus("hub:owner/name", progress=lines.append)
    assert build_corpus("hub:owner/name", progress=lines.append) == first
    assert calls == ["owner/name"]


def test_a_load_costs_a_handful_of_calls_a_document(small, tmp_path):
    """The work is counted: a clock depends on the neighbours. 19 calls take 40,000 documents half a second."""

    def calls_to_load(repeats):
        many = tuple(corpus.Document(f"{d.text} {i}" * 6, *("m",) * 4) for i in range(repeats) for d in small.documents)
        sha = hashlib.sha256(corpus._to_bytes(many)).hexdigest()
        save_corpus(corpus.Corpus("many", many, {}, sha), tmp_path / "many")
        events = []
        sys.setprofile(lambda frame, event, argument: events.append(event) if event.endswith("call") else None)
        try:
            assert load_corpus(tmp_path / "many").documents == many
        finally:
            sys.setprofile(None)
        return len(events) / len(many)

    few, many = calls_to_load(10), calls_to_load(40)
    assert many <= few < 30
