"""The reader's own text: what is read, how it is split, and the sentence that each bad input gets."""

import builtins
import random

import pytest

from llm_lab.text.documents import CorpusError, CorpusNotFoundError, mark_parts
from llm_lab.text.files import BLOCK_WORDS, read_hub, read_path


def silent(_line: str) -> None:
    pass


def long_text(num_words: int, seed: int = 0) -> str:
    """Paragraphs of about 50 random words."""
    draw = random.Random(seed)
    words = [f"word{draw.randint(0, 5_000)}" for _ in range(num_words)]
    return "\n\n".join(" ".join(words[i : i + 50]) for i in range(0, num_words, 50))


def parts(documents) -> set[str]:
    return {document.part for document in mark_parts(documents)}


def test_paragraphs_become_documents_on_one_line_each(tmp_path):
    file = tmp_path / "book.txt"
    file.write_bytes("\ufeffThe first\r\nparagraph.\r\n \r\n\r\nThe   second é.\n\nThe first paragraph.\n".encode())
    documents = read_path(file, silent)
    assert [d.text for d in documents] == ["The first paragraph.", "The second é."]
    assert {(d.library, d.name, d.kind) for d in documents} == {("files", "book.txt", "file")}


def test_a_single_file_is_split_into_neighbouring_blocks(tmp_path):
    file = tmp_path / "book.txt"
    file.write_text(long_text(10 * BLOCK_WORDS), encoding="utf-8")
    documents = read_path(file, silent)
    modules = [d.module for d in documents]
    assert list(dict.fromkeys(modules)) == [f"book.txt block {i}" for i in range(1, 11)]
    assert modules == sorted(modules, key=lambda name: int(name.split()[-1]))
    assert parts(documents) == {"train", "held_out"}


@pytest.mark.parametrize("num_words", [100, 999, 1_050, 2_000, 5_000, 30_000])
def test_both_parts_have_text_whatever_the_size(tmp_path, num_words):
    file = tmp_path / "book.md"
    file.write_text(long_text(num_words), encoding="utf-8")
    assert {"train", "held_out"} <= parts(read_path(file, silent))


def test_a_folder_is_read_in_order_without_hidden_and_other_files(tmp_path):
    for name, text in {
        "b.txt": "Text of b.",
        "a/c.md": "Text of c.",
        "a/B.TXT": "Text of B.",
        "a/d.py": "Text of d.",
        ".git/e.txt": "Text of e.",
        "z.txt": "  \n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    lines: list[str] = []
    assert [d.text for d in read_path(tmp_path, lines.append)] == ["Text of B.", "Text of c.", "Text of b."]
    assert lines == ["  z.txt is empty and was skipped"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "contains no text"),
        (b" \n\t\n", "contains no text"),
        ("Hello, this is text.\n\nMore.".encode("utf-16"), "UTF-16"),
        ("Hello, this is text.\n\nMore.".encode("utf-16-le"), "UTF-16"),
        ("Hello, this is text.\n\nMore.".encode("utf-16-be"), "UTF-16"),
        (bytes(range(256)) * 4, "binary"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\4\0", "binary"),
        ("Caf\u00e9 au lait.\n\nMore.".encode("latin-1"), "byte 3 is 0xe9"),
        (b"A single paragraph of text.", "too small to split"),
        (b"The same.\n\nThe same.\n", "too small to split"),
    ],
)
def test_a_bad_file_gets_one_sentence_that_says_what_to_change(tmp_path, data, words):
    file = tmp_path / "input.txt"
    file.write_bytes(data)
    with pytest.raises(CorpusError, match=words) as caught:
        read_path(file, silent)
    message = str(caught.value)
    assert "input.txt" in message and "\n" not in message and ": " in message and message.endswith(".")


def test_the_conversion_that_the_sentence_about_utf16_suggests_works(tmp_path):
    file = tmp_path / "input.txt"
    file.write_text("First paragraph.\n\nSecond paragraph.", encoding="utf-16")
    file.write_text(file.read_text(encoding="utf-16"), encoding="utf-8")
    assert len(read_path(file, silent)) == 2


def test_missing_paths_and_empty_folders(tmp_path):
    with pytest.raises(CorpusNotFoundError, match="no file or folder"):
        read_path(tmp_path / "nowhere", silent)
    with pytest.raises(FileNotFoundError):
        read_path(tmp_path / "nowhere", silent)
    with pytest.raises(CorpusError, match="no .txt or .md file"):
        read_path(tmp_path, silent)


def test_a_file_that_can_not_be_opened(tmp_path, monkeypatch):
    file = tmp_path / "input.txt"
    file.write_text("text")

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(file), "read_bytes", refuse)
    with pytest.raises(CorpusError, match="Permission denied"):
        read_path(file, silent)


def test_the_hub_needs_its_library(monkeypatch):
    real = builtins.__import__

    def without_datasets(name, *arguments, **keywords):
        if name == "datasets":
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without_datasets)
    with pytest.raises(CorpusError, match=r"pip install '.*hub"):
        read_hub("owner/name", silent)


@pytest.fixture
def parquet_folder(tmp_path, monkeypatch):
    """A data set as the hub stores it: parquet files with a column `text`."""
    pytest.importorskip("datasets")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pytest.importorskip("pyarrow").table
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    rows = [f"Row {i} of the data set.\n\nAnd {long_text(40, seed=i)}" for i in range(100)] + ["", None]
    (tmp_path / "set").mkdir()
    parquet.write_table(table({"text": rows}), tmp_path / "set" / "train.parquet")
    (tmp_path / "other").mkdir()
    parquet.write_table(table({"words": ["one"]}), tmp_path / "other" / "train.parquet")
    return tmp_path


def test_a_hub_data_set_is_read_up_to_the_limit(parquet_folder):
    name = str(parquet_folder / "set")
    documents = read_hub(name, silent)
    assert [d.text for d in documents[::2]] == [f"Row {i} of the data set." for i in range(100)]
    assert {d.library for d in documents} == {"hub"}
    assert parts(documents) == {"train", "held_out"}
    some = read_hub(name, silent, max_words=1_500)
    assert some == documents[: len(some)]
    assert 1_500 <= sum(len(d.text.split()) for d in some) < 1_600


def test_a_hub_data_set_without_text_or_that_does_not_exist(parquet_folder):
    with pytest.raises(CorpusError, match=r"no column 'text' \(it has words\)"):
        read_hub(str(parquet_folder / "other"), silent)
    with pytest.raises(CorpusError, match="can't be read .*check the name") as caught:
        read_hub(str(parquet_folder / "missing"), silent)
    assert "\n" not in str(caught.value)
