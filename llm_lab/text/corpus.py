"""A corpus: named documents with a training and a held-out part, a SHA-256, and the versions of what was read.

`build_corpus(name)` reads one of these:

    docs                 the documentation of the installed packages (see documentation.py)
    docs:python,numpy    the same, of these libraries only
    PATH                 a UTF-8 file, a folder of *.txt and *.md files, or a folder written by `save_corpus`
    hub:OWNER/NAME       a data set of the Hugging Face hub

The documentation and hub corpora are kept in the cache folder; the key is the name, the versions and the version of
the cleaner, and the SHA finds a damaged cache, which is then built again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from llm_lab import home
from llm_lab.text import cleaning, documentation, files
from llm_lab.text.documents import (
    CorpusError,
    CorpusNotFoundError,
    Document,
    count_words,
    leak_shares,
    mark_parts,
)

__all__ = ["Corpus", "CorpusError", "CorpusNotFoundError", "Document", "build_corpus", "load_corpus", "save_corpus"]

DOCUMENTS_FILE = "documents.jsonl"  # one document a line
META_FILE = "corpus.json"  # name, versions, sha


@dataclass(frozen=True)
class Corpus:
    """Documents in a fixed order. Two corpora with the same `sha` are equal, byte for byte."""

    name: str
    documents: tuple[Document, ...]
    versions: dict[str, str]  # library -> version
    sha: str  # SHA-256 of the documents, as documents.jsonl holds them

    def split(self, part: str) -> tuple[Document, ...]:
        """Return the documents of a part: "train" or "held_out"; a hash of the module's name decided which."""
        if part not in ("train", "held_out"):
            raise ValueError(f"A corpus has the parts 'train' and 'held_out', not {part!r}.")
        return tuple(document for document in self.documents if document.part == part)

    @property
    def num_words(self) -> int:
        """The number of words of all documents."""
        return sum(count_words(document.text) for document in self.documents)

    def leak_shares(self) -> tuple[float, float]:
        """Return which share of the held-out documents repeats training text, before and after dropping those."""
        return leak_shares(self.documents)


def build_corpus(name: str, *, progress: Callable[[str], object] = print) -> Corpus:
    """Return a corpus, from the cache where it has been built before.

    `progress` receives lines of plain text. Raises `CorpusError` or `CorpusNotFoundError` with one sentence that says
    what to change.
    """
    if name == "docs" or name.startswith("docs:"):
        libraries = _libraries(name)
        versions = documentation.installed_versions(libraries)
        for missing in [library for library in libraries if library not in versions]:
            progress(f"  {missing} is not installed and was skipped")
        if not versions:
            raise CorpusError(f"None of the libraries in {name!r} is installed: install one, or use docs.")
        canonical = name if name == "docs" else "docs:" + ",".join(versions)
        return _cached(canonical, versions, lambda: documentation.read_documentation(versions, progress), progress)
    if name.startswith("hub:"):
        return _cached(name, {}, lambda: files.read_hub(name.removeprefix("hub:"), progress), progress)
    path = Path(name).expanduser()
    if (path / META_FILE).is_file():
        return load_corpus(path)
    if not name.strip() or not path.exists():
        raise CorpusNotFoundError(
            f"There is no corpus, file or folder {name!r}: give docs, docs:python,numpy, hub:OWNER/NAME, "
            "or the path of a UTF-8 text file or folder."
        )
    return make_corpus(name, files.read_path(path, progress), {})


def _libraries(name: str) -> list[str]:
    """Return the libraries that a name like docs:python,numpy asks for, in the order of `documentation.LIBRARIES`."""
    if name == "docs":
        return list(documentation.LIBRARIES)
    asked = {part.strip().lower() for part in name.removeprefix("docs:").split(",")}
    unknown = sorted(asked - set(documentation.LIBRARIES))
    if unknown:
        raise CorpusError(
            f"{name!r} names {unknown[0]!r}, which is no library of the documentation corpus: "
            f"choose from {', '.join(documentation.LIBRARIES)}."
        )
    return [library for library in documentation.LIBRARIES if library in asked]


def _cached(
    name: str, versions: dict[str, str], read: Callable[[], list[Document]], progress: Callable[[str], object]
) -> Corpus:
    """Return the corpus from the cache if it is there and undamaged; else read it and try to keep it."""
    key = hashlib.sha256(json.dumps([name, versions, cleaning.VERSION]).encode()).hexdigest()[:16]
    folder = home.cache_folder() / f"corpus-{key}"
    if (folder / META_FILE).is_file():
        try:
            return load_corpus(folder)
        except CorpusError:
            progress(f"The cached corpus {name} is damaged and is built again.")
    started = time.monotonic()
    progress(f"Building the corpus {name} (once; it is kept for the next time)")
    corpus = make_corpus(name, read(), versions)
    progress(
        f"  {len(corpus.documents):,} documents, {corpus.num_words:,} words, {time.monotonic() - started:.0f} seconds"
    )
    try:
        save_corpus(corpus, folder)
    except CorpusError as error:
        progress(f"  It could not be kept: {error}")
    return corpus


def make_corpus(name: str, documents: list[Document], versions: dict[str, str]) -> Corpus:
    """Split documents into their parts and compute their SHA."""
    marked = mark_parts(documents)
    for part, words in (("train", "training"), ("held_out", "held-out")):
        if not any(document.part == part for document in marked):
            raise CorpusError(
                f"{name!r} leaves no {words} text (the held-out text must not repeat the training text): "
                "add more text that differs."
            )
    return Corpus(name, marked, dict(versions), hashlib.sha256(_to_bytes(marked)).hexdigest())


def _to_bytes(documents: tuple[Document, ...]) -> bytes:
    return "".join(json.dumps(asdict(document), ensure_ascii=False) + "\n" for document in documents).encode()


def save_corpus(corpus: Corpus, folder: str | Path) -> None:
    """Write documents.jsonl and corpus.json into a folder, which `load_corpus` and `build_corpus` read again.

    Each file is written under a temporary name first, so that a full disk (a `CorpusError`) harms nothing older.
    """
    folder = Path(folder)
    meta = {"name": corpus.name, "sha": corpus.sha, "num_documents": len(corpus.documents), "versions": corpus.versions}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        home.write_atomically(folder / DOCUMENTS_FILE, _to_bytes(corpus.documents))
        home.write_atomically(folder / META_FILE, (json.dumps(meta, indent=2) + "\n").encode())
    except OSError as error:
        if error.errno == errno.ENOSPC:
            message = f"The disk is full, so {str(folder)!r} was not written: free some space or choose another folder."
        else:
            message = f"{str(folder)!r} can't be written ({error.strerror}): choose a folder that you may write to."
        raise CorpusError(message) from error


def load_corpus(folder: str | Path) -> Corpus:
    """Return the corpus that `save_corpus` wrote; a `CorpusError` says if a file of it is damaged."""
    folder = Path(folder)
    if not (folder / META_FILE).is_file():
        raise CorpusNotFoundError(f"{str(folder)!r} holds no saved corpus ({META_FILE} is missing): check the path.")
    try:
        meta = json.loads((folder / META_FILE).read_bytes())
        data = (folder / DOCUMENTS_FILE).read_bytes()
        if hashlib.sha256(data).hexdigest() != meta["sha"]:
            raise ValueError("the SHA-256 differs")
        documents = tuple(Document(**json.loads(line)) for line in data.splitlines())
        return Corpus(meta["name"], documents, meta["versions"], meta["sha"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(
            f"The corpus in {str(folder)!r} is damaged ({error}): delete the folder and build it again."
        ) from error
