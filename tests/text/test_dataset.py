"""Datasets: rows are the tokenized documents, parts stay apart, the cache is found again and a damaged one replaced."""

import errno
from dataclasses import replace

import numpy as np
import pytest

from llm_lab import home
from llm_lab.config import EVALUATION_MASKING, MaskingConfig
from llm_lab.text import dataset as module
from llm_lab.text.batches import BatchStream
from llm_lab.text.dataset import prepare, train_corpus_tokenizer
from llm_lab.text.tokenizer import train_tokenizer


@pytest.fixture
def own_home(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("LLM_LAB_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "data" / "cache"


def tokens_of(corpus, tokenizer, part):
    return [i for document in corpus.split(part) for i in tokenizer.encode(document.text)]


def test_rows_are_the_documents_of_their_part(tiny_dataset, tiny_corpus):
    for part in ("train", "held_out"):
        rows = getattr(tiny_dataset, part)
        stream = tokens_of(tiny_corpus, tiny_dataset.tokenizer, part)
        assert rows.ravel().tolist() == stream[: len(stream) // 16 * 16]
        assert rows.dtype == np.uint16


def test_a_large_vocabulary_is_not_cut_to_16_bits(tiny_corpus, own_home, tiny_tokenizer, monkeypatch):
    monkeypatch.setattr(tiny_tokenizer, "vocabulary_size", 2**16 + 1)
    assert prepare(tiny_corpus, 0, 16, tiny_tokenizer).train.dtype == np.int64
    monkeypatch.undo()


def test_the_tokenizer_never_sees_held_out_text(tiny_corpus, own_home):
    altered = [replace(d, text="zebra " * 20) if d.part == "held_out" else d for d in tiny_corpus.documents]
    other = replace(tiny_corpus, documents=tuple(altered), sha="other")
    assert train_corpus_tokenizer(other, 300).to_json() == train_corpus_tokenizer(tiny_corpus, 300).to_json()
    texts = [document.text for document in tiny_corpus.split("train")]
    assert train_corpus_tokenizer(tiny_corpus, 200).to_json() == train_tokenizer(texts, 200).to_json()


def test_unigram_is_counting_plus_one(tiny_dataset):
    counts = dict.fromkeys(range(tiny_dataset.tokenizer.vocabulary_size), 1)
    for row in tiny_dataset.train.tolist():
        for token in row:
            counts[token] += 1
    for special in tiny_dataset.tokenizer.special_ids:
        counts[special] = 0
    total = sum(counts.values())
    assert tiny_dataset.unigram.tolist() == pytest.approx([count / total for count in counts.values()], abs=1e-15)
    assert tiny_dataset.unigram.sum() == pytest.approx(1)


def test_tokens_per_byte_counts_words_not_frames(tiny_dataset, tiny_corpus):
    held_out = [document.text for document in tiny_corpus.split("held_out")]
    tokens = sum(len(tiny_dataset.tokenizer.tokens(text)) - 2 for text in held_out)
    assert tiny_dataset.tokens_per_byte == pytest.approx(tokens / sum(len(text.encode("utf-8")) for text in held_out))
    text = replace(tiny_corpus.split("held_out")[0], text="é é é é", part="held_out")
    short = replace(tiny_dataset, corpus=replace(tiny_corpus, documents=(text,)))
    assert short.tokens_per_byte == pytest.approx(4 / 11)  # é has two bytes


def test_about_tells_corpus_and_tokenizer_apart(tiny_dataset, tiny_corpus, own_home):
    about = tiny_dataset.about
    assert about == {
        "name": tiny_corpus.name,
        "words": sum(len(document.text.split()) for document in tiny_corpus.documents),
        "versions": tiny_corpus.versions,
        "sha": tiny_corpus.sha,
        "tokenizer": tiny_dataset.tokenizer.sha,
    }
    smaller = prepare(tiny_corpus, 200, 16).about
    assert {key for key in about if about[key] != smaller[key]} == {"tokenizer"}
    assert replace(tiny_dataset, corpus=shorter(tiny_corpus)).about["sha"] == "shorter"
    assert tiny_dataset.evaluation_masking == EVALUATION_MASKING


def test_the_stream_reads_the_training_rows(tiny_dataset):
    masking = MaskingConfig(0.3)
    expected = BatchStream(tiny_dataset.train, tiny_dataset.tokenizer, masking, 6, 3, 1, 2)
    found = tiny_dataset.stream(masking, 6, seed=3, rank=1, world_size=2)
    for step in (0, 5):
        assert found.batch(step).inputs.tolist() == expected.batch(step).inputs.tolist()
        assert found.batch(step).targets.tolist() == expected.batch(step).targets.tolist()
    assert len(found.batch(0).inputs) == 3


def same(a, b):
    return np.array_equal(a.train, b.train) and np.array_equal(a.held_out, b.held_out)


def test_the_second_start_reads_the_cache(tiny_corpus, own_home, monkeypatch):
    first = prepare(tiny_corpus, 300, 16)
    monkeypatch.setattr(module, "train_tokenizer", None)  # may not be called again
    monkeypatch.setattr(module, "pack", None)
    second = prepare(tiny_corpus, 300, 16)
    assert same(first, second) and second.train.dtype == first.train.dtype
    assert second.tokenizer.to_json() == first.tokenizer.to_json()


def test_each_choice_has_a_cache_of_its_own(tiny_corpus, own_home):
    first = prepare(tiny_corpus, 300, 16)
    for other in (prepare(tiny_corpus, 300, 8), prepare(tiny_corpus, 200, 16), prepare(shorter(tiny_corpus), 300, 16)):
        assert not same(other, first)
    assert same(prepare(tiny_corpus, 300, 16), first)


def test_two_texts_with_one_tokenizer_have_two_caches(tiny_corpus, own_home, tiny_tokenizer):
    whole = prepare(tiny_corpus, 0, 16, tiny_tokenizer)
    assert not same(prepare(shorter(tiny_corpus), 0, 16, tiny_tokenizer), whole)


def shorter(corpus):
    return replace(corpus, documents=corpus.documents[:-5], sha="shorter")


@pytest.mark.parametrize("damage", ["empty", "cut", "flip", "text"])
def test_a_damaged_cache_is_made_again(tiny_corpus, own_home, damage):
    first = prepare(tiny_corpus, 300, 16)
    for path in own_home.iterdir():
        data = path.read_bytes()
        middle = len(data) // 2
        damaged = {
            "empty": b"",
            "cut": data[:middle],
            "flip": data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :],
            "text": b"this is no file of ours",
        }[damage]
        path.write_bytes(damaged)
    again = prepare(tiny_corpus, 300, 16)
    assert same(again, first) and again.tokenizer.to_json() == first.tokenizer.to_json()
    assert same(prepare(tiny_corpus, 300, 16), first)


@pytest.mark.parametrize("kind", ["rows", "tokenizer"])
def test_a_flipped_bit_anywhere_is_found(tiny_corpus, own_home, kind):
    """A bit of NumPy's header turned 556 rows into 552, and one of the JSON a word into another, both unnoticed."""
    first = prepare(tiny_corpus, 300, 16)
    (path,) = own_home.glob(f"{kind}-*")
    data = path.read_bytes()
    for place in (0, 40, 126, 600, len(data) // 3, len(data) - 100, len(data) - 1):
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        again = prepare(tiny_corpus, 300, 16)
        assert same(again, first) and again.tokenizer.to_json() == first.tokenizer.to_json(), place
        assert path.read_bytes() == data  # put right for the next start


def test_a_full_disk_costs_the_cache_not_the_run(tiny_corpus, own_home, monkeypatch, capsys):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    whole = prepare(tiny_corpus, 300, 16)
    for path in own_home.iterdir():
        path.unlink()
    monkeypatch.setattr(home.os, "fsync", full)
    assert same(prepare(tiny_corpus, 300, 16), whole)
    printed = capsys.readouterr()
    assert "Not kept in the cache (No space left on device)" in printed.err
    assert printed.out == ""  # where results go, such as JSON
    assert list(own_home.iterdir()) == []


def test_a_given_tokenizer_is_used(tiny_corpus, own_home):
    tokenizer = train_tokenizer(["the old lamp near the river"] * 3, 100)
    made = prepare(tiny_corpus, 8192, 16, tokenizer)
    assert made.tokenizer is tokenizer
    assert made.train.ravel().tolist() == tokens_of(tiny_corpus, tokenizer, "train")[: made.train.size]


@pytest.mark.parametrize(("row_length", "ok"), [(1100, True), (1300, False), (100_000, False)])
def test_a_row_longer_than_a_part_is_refused(tiny_corpus, own_home, tiny_tokenizer, row_length, ok):
    available = len(tokens_of(tiny_corpus, tiny_tokenizer, "held_out"))
    assert 1100 < available < 1300
    if ok:
        assert len(prepare(tiny_corpus, 0, row_length, tiny_tokenizer).held_out) == 1
        return
    with pytest.raises(ValueError, match=f"fewer than one row of {row_length}: give more text or a smaller row length"):
        prepare(tiny_corpus, 0, row_length, tiny_tokenizer)
