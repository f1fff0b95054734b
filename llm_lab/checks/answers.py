"""The reader's own code: its source is kept when it passes, and `load("04.exact_counts")` brings it back."""

from __future__ import annotations

import ast
import importlib.util
import linecache
from pathlib import Path
from typing import Any

from llm_lab import home
from llm_lab.checks import record
from llm_lab.checks.registry import find
from llm_lab.checks.sources import Standalone


def path_of(id: str) -> Path:
    """Where the answer to an exercise is kept: answers/04_exact_counts.py."""
    return record.folder() / f"{id.replace('.', '_', 1)}.py"


def load(id: str) -> Any:
    """The reader's own answer, as it passed. Raises FileNotFoundError when none has passed yet, ValueError when its
    file does not run.
    """
    find(id)  # a slip in the id gets its own sentence
    path = path_of(id)
    if not path.is_file():
        raise FileNotFoundError(f"{id}: no answer of yours is kept yet; it is kept when check({id!r}, ...) passes.")
    text = path.read_text(encoding="utf-8")
    spec = importlib.util.spec_from_loader(f"llm_lab_answer_{path.stem}", None)
    assert spec is not None  # a name is enough
    module = importlib.util.module_from_spec(spec)
    linecache.checkcache(str(path))  # a new answer may have replaced one that was loaded before
    try:
        exec(compile(text, str(path), "exec"), vars(module))
        return vars(module)[_last_name(text)]
    except Exception as error:
        raise ValueError(f"{path.name} does not run by itself ({type(error).__name__}: {error}).") from error


def _last_name(text: str) -> str:
    """The name that the last line of a kept file defines: `answer = ...`."""
    last = ast.parse(text).body[-1]
    if isinstance(last, ast.Assign) and isinstance(last.targets[0], ast.Name):
        return last.targets[0].id
    raise ValueError("its last line is not `answer = ...`")


def keep(id: str, answer: Any) -> str:
    """Keep the source of an answer. Returns a sentence when that can't be done, or only in part; else nothing."""
    writer = Standalone()
    name = writer.add(answer, getattr(answer, "__name__", "answer").replace("<lambda>", "function"))
    if name is None:
        return "Its source can't be found, so it is not kept: define it in a cell of a notebook, or in a file."
    text = f'''"""The answer to exercise {id}, kept by its check."""\n\n{writer.text()}\n\nanswer = {name}\n'''
    home.write_atomically(path_of(id), text.encode())
    if writer.lost:
        names = ", ".join(sorted(writer.lost))
        return f"It is kept, but it uses {names}, which could not be kept with it: let the function stand alone."
    try:
        load(id)
    except ValueError as error:
        return f"It is kept, but {error}"
    return ""
