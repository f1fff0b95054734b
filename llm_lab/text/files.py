"""The reader's own text: plain UTF-8 files, folders of them, and data sets of the Hugging Face hub -> documents.

A paragraph is a document. A module, the unit of the split, is a block of neighbouring paragraphs of about 1,000 words,
so that even a single file has a training and a held-out part.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from llm_lab.text.documents import CorpusError, CorpusNotFoundError, Document, count_words

BLOCK_WORDS = 1_000
HUB_WORDS = 5_000_000  # where the reading of a hub data set stops
SUFFIXES = {".txt", ".md"}


def read_path(path: Path, progress: Callable[[str], object] = print) -> list[Document]:
    """Return the paragraphs of a UTF-8 file, or of all *.txt and *.md files of a folder, without exact repeats.

    Raises `CorpusError` with a sentence for a file that is empty, binary, not UTF-8 or too small to split, and
    `CorpusNotFoundError` for a path that does not exist.
    """
    if not path.exists():
        raise CorpusNotFoundError(f"There is no file or folder {str(path)!r}: check the path.")
    files = _text_files(path) if path.is_dir() else [path]
    texts = {_name_of(file, path): decode(file) for file in files}
    empty = [name for name, text in texts.items() if not text.strip()]
    if len(empty) == len(texts):
        raise CorpusError(f"{str(path)!r} contains no text: give a file with at least two paragraphs of text.")
    for name in empty:
        progress(f"  {name} is empty and was skipped")
    seen: set[str] = set()
    documents = [d for name, text in texts.items() for d in in_blocks(split_paragraphs(text), name, seen)]
    return _splittable(documents, path)


def _text_files(folder: Path) -> list[Path]:
    files = [
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in SUFFIXES
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]
    if not files:
        raise CorpusError(f"The folder {str(folder)!r} has no .txt or .md file: put your text there as UTF-8 files.")
    return sorted(files, key=lambda file: file.relative_to(folder).as_posix())


def _name_of(file: Path, path: Path) -> str:
    return file.relative_to(path).as_posix() if path.is_dir() else file.name


def decode(file: Path) -> str:
    """Return the text of a UTF-8 file; a `CorpusError` says what the file is instead, and how to convert it."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise CorpusError(f"{str(file)!r} can't be read ({error.strerror}): check its permissions.") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or _looks_like_utf16(data):
        raise CorpusError(
            f"{str(file)!r} is UTF-16, not UTF-8: save it again as UTF-8, for instance with "
            "Path(NAME).write_text(Path(NAME).read_text(encoding='utf-16'), encoding='utf-8')."
        )
    if b"\0" in data:
        raise CorpusError(f"{str(file)!r} is a binary file, not text: give plain text in UTF-8 (.txt or .md).")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{str(file)!r} is not UTF-8 (byte {error.start:,} is 0x{data[error.start]:02x}): "
            "open it in its own encoding and save it as UTF-8."
        ) from error


def _looks_like_utf16(data: bytes) -> bool:
    """Say whether every second byte of the first kilobyte is mostly zero, as in UTF-16 without a mark at its start."""
    head = data[:1024]
    halves = head[0::2], head[1::2]
    zeros = [half.count(0) / max(1, len(half)) for half in halves]
    return max(zeros) > 0.7 and min(zeros) < 0.1


def split_paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of a text, each on one line; blank lines separate them."""
    for paragraph in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n").replace("\r", "\n")):
        line = " ".join(paragraph.split())
        if line:
            yield line


def in_blocks(paragraphs: Iterable[str], name: str, seen: set[str], library: str = "files") -> Iterator[Document]:
    """Yield a document for each paragraph that is not in `seen`; a new block starts after about 1,000 words."""
    block, words = 1, 0
    for paragraph in paragraphs:
        if paragraph in seen:
            continue
        seen.add(paragraph)
        if words >= BLOCK_WORDS:
            block, words = block + 1, 0
        words += count_words(paragraph)
        yield Document(paragraph, library, f"{name} block {block}", name, "file")


def _splittable(documents: list[Document], path: Path | str) -> list[Document]:
    """Return the documents in at least two modules: a single block is split by paragraph."""
    if len({document.module for document in documents}) >= 2:
        return documents
    if len(documents) < 2:
        raise CorpusError(
            f"{str(path)!r} is a single paragraph, too small to split into training and held-out text: "
            "give at least two paragraphs, with a blank line between them."
        )
    return [Document(d.text, d.library, f"{d.name} paragraph {i}", d.name, d.kind) for i, d in enumerate(documents, 1)]


def read_hub(name: str, progress: Callable[[str], object] = print, max_words: int = HUB_WORDS) -> list[Document]:
    """Return up to `max_words` words of a hub data set: the column `text` of its split `train`, streamed.

    `name` is OWNER/NAME, OWNER/NAME@CONFIGURATION, or a local folder of parquet files. No code of the data set is run.
    """
    try:
        import datasets
    except ImportError as error:
        raise CorpusError("hub:NAME needs the `datasets` library: pip install 'llm-lab[hub]'.") from error
    repository, _, configuration = name.partition("@")
    try:
        rows = datasets.load_dataset(repository, configuration or None, split="train", streaming=True)
        documents = list(in_blocks(_texts_of(rows, name, progress, max_words), name, set(), library="hub"))
    except CorpusError:
        raise
    except Exception as error:  # the library raises many kinds: no network, no such data set, no such split
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise CorpusError(
            f"hub:{name} can't be read ({reason}): check the name (hub:OWNER/NAME or hub:OWNER/NAME@CONFIGURATION) "
            "and the network."
        ) from error
    if not documents:
        raise CorpusError(f"hub:{name} has no text in its column 'text': choose another data set.")
    return _splittable(documents, f"hub:{name}")


def _texts_of(
    rows: Iterable[dict[str, object]], name: str, progress: Callable[[str], object], max_words: int
) -> Iterator[str]:
    """Yield the paragraphs of the column `text` until the limit of words is reached."""
    words = 0
    for number, row in enumerate(rows, 1):
        if "text" not in row:
            raise CorpusError(f"hub:{name} has no column 'text' (it has {', '.join(sorted(row))}): choose another.")
        for paragraph in split_paragraphs(str(row["text"] or "")):
            words += count_words(paragraph)
            yield paragraph
        if number % 20_000 == 0:
            progress(f"  read {number:,} rows, {words:,} of at most {max_words:,} words")
        if words >= max_words:
            return
