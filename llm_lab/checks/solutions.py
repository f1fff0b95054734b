"""Where right answers are found, and how wrong ones are made of them.

A right answer is a function or class of the package ("llm_lab.text.masking.corrupt") or of the lesson's file in
exercises/solutions ("mixture"). No answer is written twice: a wrong one is a `Swap` of a right one, or a source of its
own.
"""

from __future__ import annotations
import __future__

import ast
import importlib
import importlib.util
import inspect
import linecache
import sys
import textwrap
from functools import cache
from types import ModuleType
from typing import Any

from llm_lab import home

FOLDER = home.REPOSITORY / "exercises" / "solutions"


@cache
def module_of(lesson: str) -> ModuleType:
    """The solutions of a lesson: exercises/solutions/NN_name.py as a module. Raises FileNotFoundError."""
    path = next(iter(sorted(FOLDER.glob(f"{lesson}_*.py"))), None)
    if path is None:
        raise FileNotFoundError(f"{FOLDER} has no file {lesson}_*.py: fetch the course again.")
    name = f"llm_lab_solutions_{lesson}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # the file is there
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and inspect look there
    spec.loader.exec_module(module)
    return module


def find(lesson: str, name: str) -> Any:
    """A right answer by its name: dotted for the package's own, else from the lesson's file."""
    place, _, last = name.rpartition(".")
    return getattr(importlib.import_module(place) if place else module_of(lesson), last)


def source_of(lesson: str, name: str) -> str:
    """The source of a right answer."""
    return textwrap.dedent(inspect.getsource(find(lesson, name)))


def build(source: str, lesson: str, base: str, label: str) -> Any:
    """The function or class that a source defines last, with the names that the right answer `base` sees."""
    place = base.rpartition(".")[0]
    namespace = dict(vars(importlib.import_module(place) if place else module_of(lesson)))
    filename = f"<{label}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    flags = __future__.annotations.compiler_flag
    exec(compile(source, filename, "exec", flags, dont_inherit=True), namespace)
    return namespace[defined_in(source)]


def defined_in(source: str) -> str:
    """The name of the function or class that a source defines last."""
    named = [n.name for n in ast.parse(source).body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    if not named:
        raise ValueError(f"this source defines no function and no class: {source[:60]!r}")
    return named[-1]


def swapped(source: str, pairs: tuple[tuple[str, str], ...]) -> str:
    """The source with each old text replaced. Raises ValueError unless it stands there exactly once."""
    for old, new in pairs:
        if source.count(old) != 1:
            raise ValueError(f"{old!r} stands {source.count(old)} times in the right answer: give a unique text.")
        source = source.replace(old, new)
    return source
