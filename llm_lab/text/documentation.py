"""The documentation corpus: the English prose in the docstrings of packages that every reader already has.

The packages are found on the disk and read as text: `ast` parses each file, and nothing is imported or run. The list
of libraries is fixed (what an install of the course's requirements brings), so that packages which only a developer
has do not change the corpus. A library that is not installed is skipped and named.
"""

from __future__ import annotations

import ast
import gc
import importlib.metadata
import importlib.util
import multiprocessing
import os
import sys
import sysconfig
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from llm_lab.text.cleaning import clean
from llm_lab.text.documents import Document, count_words

# Library -> the packages to read. The library's name is its distribution's, except for the standard library.
LIBRARIES: dict[str, tuple[str, ...]] = {
    "python": (),
    "torch": ("torch",),
    "numpy": ("numpy",),
    "matplotlib": ("matplotlib", "mpl_toolkits"),
    "sympy": ("sympy",),
    "networkx": ("networkx",),
    "mpmath": ("mpmath",),
    "ipython": ("IPython",),
    "jupyterlab": ("jupyterlab",),
    "jupyterlab_server": ("jupyterlab_server",),
    "jupyter_server": ("jupyter_server",),
    "jupyter_client": ("jupyter_client",),
    "jupyter_core": ("jupyter_core",),
    "jupyter_events": ("jupyter_events",),
    "nbformat": ("nbformat",),
    "nbconvert": ("nbconvert",),
    "nbclient": ("nbclient",),
    "ipykernel": ("ipykernel",),
    "traitlets": ("traitlets",),
    "tornado": ("tornado",),
    "pillow": ("PIL",),
    "fonttools": ("fontTools",),
    "prompt_toolkit": ("prompt_toolkit",),
    "huggingface_hub": ("huggingface_hub",),
    "fsspec": ("fsspec",),
    "pygments": ("pygments",),
    "jedi": ("jedi",),
    "parso": ("parso",),
    "jinja2": ("jinja2",),
    "beautifulsoup4": ("bs4",),
    "babel": ("babel",),
    "bleach": ("bleach",),
    "pyparsing": ("pyparsing",),
    "python-dateutil": ("dateutil",),
    "requests": ("requests",),
    "urllib3": ("urllib3",),
    "httpx": ("httpx",),
    "httpcore": ("httpcore",),
    "anyio": ("anyio",),
    "attrs": ("attr", "attrs"),
    "click": ("click",),
    "cffi": ("cffi",),
    "contourpy": ("contourpy",),
    "filelock": ("filelock",),
    "jsonschema": ("jsonschema",),
    "referencing": ("referencing",),
    "mistune": ("mistune",),
    "packaging": ("packaging",),
    "platformdirs": ("platformdirs",),
    "prometheus_client": ("prometheus_client",),
    "psutil": ("psutil",),
    "pyzmq": ("zmq",),
    "soupsieve": ("soupsieve",),
    "stack_data": ("stack_data",),
    "tqdm": ("tqdm",),
    "websocket-client": ("websocket",),
    "safetensors": ("safetensors",),
    "tokenizers": ("tokenizers",),
}

SKIPPED_FOLDERS = {
    "test", "tests", "testing", "idlelib", "lib2to3", "site-packages", "dist-packages", "__pycache__", "pydoc_data",
    "vendor", "_vendor", "_vendored", "vendored", "third_party", "thirdparty", "extern", "externals", "ensurepip",
    "turtledemo", "_pydevd_bundle", "benchmarks", "node_modules", "lib-dynload",
}  # fmt: skip
DOCUMENTING_CALLS = {"add_newdoc", "add_docstr", "add_docstr_all"}  # how numpy and torch document compiled functions
FILES_A_JOB = 40

File = tuple[str, str, str]  # path, library, module
Found = tuple[str, str, str, str, list[list[str]]]  # library, module, name, kind, paragraphs of sentences


def installed_versions(libraries: Iterable[str]) -> dict[str, str]:
    """Return the version of each of these libraries that is installed, in the order of `LIBRARIES`."""
    wanted = set(libraries)
    versions = {}
    for library in LIBRARIES:
        if library == "python":
            version: str | None = ".".join(str(number) for number in sys.version_info[:3])
        else:
            version = _version(library)
        if library in wanted and version is not None:
            versions[library] = version
    return versions


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def source_files(library: str) -> list[File]:
    """Return the Python files of a library, sorted by module name; tests and vendored copies are left out."""
    if library == "python":
        folder = Path(sysconfig.get_paths()["stdlib"])
        files = list(_modules_below(folder, library, ""))
        topics = folder / "pydoc_data" / "topics.py"
        return sorted(files, key=lambda file: file[2]) + [(str(topics), library, "pydoc_data.topics")]
    files = []
    for package in LIBRARIES[library]:
        spec = importlib.util.find_spec(package)  # finds a top-level package without importing it
        for location in (spec.submodule_search_locations or []) if spec else []:
            files += _modules_below(Path(location), library, package)
    return sorted(files, key=lambda file: file[2])


def _modules_below(folder: Path, library: str, package: str) -> Iterator[File]:
    for path in folder.rglob("*.py"):
        parts = path.relative_to(folder).with_suffix("").parts
        if not SKIPPED_FOLDERS.intersection(parts) and not parts[-1].startswith("test_"):
            names = [package, *parts] if parts[-1] != "__init__" else [package, *parts[:-1]]
            yield str(path), library, ".".join(name for name in names if name)


def read_file(file: File) -> list[Found]:
    """Return the cleaned docstrings of one Python file in source order; those without prose are left out."""
    _, library, module = file
    found = ((library, module, name, kind, clean(text)) for name, kind, text in raw_docstrings(file))
    return [document for document in found if document[-1]]


def raw_docstrings(file: File) -> list[tuple[str, str, str]]:
    """Return (qualified name, kind, docstring as it is written) of one Python file; none if it can't be parsed."""
    path, _, module = file
    try:
        source = Path(path).read_bytes()
        if b'"""' not in source and b"'''" not in source and module != "pydoc_data.topics":
            return []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's files
            tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError, RecursionError):
        return []
    return list(_topics(tree) if module == "pydoc_data.topics" else _docstrings(tree, module))


def _docstrings(node: ast.AST, name: str) -> Iterator[tuple[str, str, str]]:
    """Yield (qualified name, kind, docstring) of a module, its classes and functions, however nested."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        kind = {ast.Module: "module", ast.ClassDef: "class"}.get(type(node), "function")
        text = ast.get_docstring(node, clean=False)
        if text:
            yield name, kind, text
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _docstrings(child, f"{name}.{child.name}")
        elif isinstance(child, ast.Expr) and isinstance(child.value, ast.Call):
            yield from _documenting_call(child.value, name)
        elif isinstance(child, ast.If | ast.Try | ast.With | ast.For | ast.ExceptHandler):
            yield from _docstrings(child, name)


def _documenting_call(call: ast.Call, module: str) -> Iterator[tuple[str, str, str]]:
    """Yield the docstrings in calls such as add_docstr(torch.abs, "Returns ...")."""
    function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if function.lstrip("_") in DOCUMENTING_CALLS and len(call.args) >= 2:
        target, text = ast.unparse(call.args[-2]).strip("'\""), call.args[-1]
        # ('name', "text") documents one method: numpy writes a pair, or a list of pairs
        for pair in text.elts if isinstance(text, ast.List) else [text]:
            name = target
            if isinstance(pair, ast.Tuple) and len(pair.elts) == 2:
                name, pair = f"{target}.{ast.unparse(pair.elts[0])}".replace("'", ""), pair.elts[1]
            strings = [n.value for n in ast.walk(pair) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
            if strings:
                yield f"{module}.{name}", "function", max(strings, key=len)


def _topics(tree: ast.Module) -> Iterator[tuple[str, str, str]]:
    """Yield the language reference that `help("assert")` prints, one topic each."""
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Dict):
            for key, value in zip(statement.value.keys, statement.value.values, strict=True):
                if key is not None:
                    yield ast.literal_eval(key), "topic", ast.literal_eval(value)


def read_files(files: list[File]) -> list[list[Found]]:
    """Return what each of these files contains (one job of a worker process)."""
    collecting = gc.isenabled()
    gc.disable()  # syntax trees hold no cycles: a quarter of the time went into looking for them
    try:
        return [read_file(file) for file in files]
    finally:
        if collecting:
            gc.enable()


def read_documentation(libraries: Iterable[str], progress: Callable[[str], object] = print) -> list[Document]:
    """Return the documents of these installed libraries, in a fixed order, without a sentence that occurs twice.

    Uses up to 4 processes, or this one where no other can be started. `progress` receives one line every few seconds.
    """
    files = [file for library in libraries for file in source_files(library)]
    jobs = [files[i : i + FILES_A_JOB] for i in range(0, len(files), FILES_A_JOB)]
    seen: set[str] = set()
    documents: list[Document] = []
    report = _Report(progress, len(files))
    for job, results in zip(jobs, _run(jobs), strict=True):
        for found in (found for result in results for found in result):
            document = _without_repeats(found, seen)
            if document:
                documents.append(document)
                report.words += count_words(document.text)
        report.after(len(job))
    return documents


def _without_repeats(found: Found, seen: set[str]) -> Document | None:
    """Return the document without the sentences in `seen`, to which its own are added; None if nothing is left."""
    library, module, name, kind, paragraphs = found
    lines = []
    for paragraph in paragraphs:
        new = [sentence for sentence in dict.fromkeys(paragraph) if sentence not in seen]
        seen.update(new)
        if new:
            lines.append(" ".join(new))
    return Document("\n".join(lines), library, module, name, kind) if lines else None


def _run(jobs: list[list[File]]) -> Iterator[list[list[Found]]]:
    """Yield the result of each job in order, computed by worker processes, or here if they can't be used."""
    done = 0
    workers = min(4, os.cpu_count() or 1, len(jobs))
    if workers > 1 and _workers_are_safe():
        try:
            with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
                for result in pool.map(read_files, jobs):
                    yield result
                    done += 1
        except (OSError, BrokenProcessPool):
            pass
    for job in jobs[done:]:
        yield read_files(job)


def _workers_are_safe() -> bool:
    """Say whether a worker process may start: in a plain script it would run the whole script once more."""
    main = sys.modules["__main__"]
    is_plain_script = getattr(main, "__spec__", None) is None and hasattr(main, "__file__")
    return not is_plain_script and not multiprocessing.current_process().daemon


class _Report:
    """Tells `progress` how far the reading is, at most every two seconds."""

    def __init__(self, progress: Callable[[str], object], num_files: int) -> None:
        self.progress, self.num_files = progress, num_files
        self.files = self.words = 0
        self.started = self.last = time.monotonic()

    def after(self, num_files: int) -> None:
        self.files += num_files
        now = time.monotonic()
        if now - self.last >= 2 and self.files < self.num_files:
            self.last = now
            left = (now - self.started) * (self.num_files - self.files) / self.files
            self.progress(f"  read {self.files:,} of {self.num_files:,} files, {self.words:,} words, {left:.0f} s left")
