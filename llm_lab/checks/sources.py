"""Finds the source of code, in notebooks too, and writes it down so that it stands alone.

Beside a function it writes the imports, constants and other functions that the function uses.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import linecache
import sys
import textwrap
from dataclasses import dataclass, field
from types import FunctionType, ModuleType
from typing import Any

import torch

MISSING = object()
NOT_IMPORTABLE = ("__main__", "llm_lab_solutions", "llm_lab_answer")  # modules that another session won't have


@dataclass
class Standalone:
    """Collects the parts of a file that stands alone, each before those that use it."""

    imports: set[str] = field(default_factory=set)
    parts: dict[str, str] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)

    def text(self) -> str:
        """All parts, imports first."""
        return "\n\n\n".join(["\n".join(sorted(self.imports)), *self.parts.values()]).strip("\n")

    def add(self, value: Any, name: str) -> str | None:
        """Write down what a name stands for, and all that it uses. Returns the name, or None when it can't be kept."""
        if name in self.parts:
            return name
        line = _import_line(value, name) or _constant_line(value, name)
        if line:
            (self.imports.add(line) if "import " in line else self.parts.update({name: line}))
            return name
        source = source_of(value)
        if source is None:
            return None
        self.parts[name] = ""  # so that a function that calls itself, or two that call each other, come to an end
        for used, meant in _names_used(source, value).items():
            if used != name and self.add(meant, used) is None:
                self.lost.add(used)
        own = getattr(value, "__name__", name)
        own = f"{name} = {source}" if own == "<lambda>" else source if own == name else f"{source}\n\n\n{name} = {own}"
        del self.parts[name]  # to the end: after what it uses
        self.parts[name] = own
        return name


def _import_line(value: Any, name: str) -> str | None:
    """The line that imports a module, or something that a module holds under its own name."""
    if isinstance(value, ModuleType):
        return f"import {value.__name__}" + (f" as {name}" if name != value.__name__ else "")
    module, own = getattr(value, "__module__", None), getattr(value, "__name__", None)
    if not isinstance(module, str) or not isinstance(own, str) or module.startswith(NOT_IMPORTABLE):
        return None
    try:
        there = getattr(importlib.import_module(module), own, MISSING)
    except (ImportError, ValueError):
        return None
    is_file = getattr(sys.modules.get(module), "__file__", None) or module in sys.builtin_module_names
    line = f"from {module} import {own}" + (f" as {name}" if name != own else "")
    return line if there is value and is_file else None


def _constant_line(value: Any, name: str) -> str | None:
    """The line that defines a number, a text, a container of them, or a small tensor."""
    if isinstance(value, torch.Tensor) and value.numel() <= 1000:
        return f"import torch\n{name} = torch.tensor({value.tolist()!r}, dtype={value.dtype})"
    try:
        return f"{name} = {value!r}" if ast.literal_eval(repr(value)) == value else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _names_used(source: str, value: Any) -> dict[str, Any]:
    """The names of the reader's notebook, and of functions around it, that a source uses, with what they stand for."""
    function = value if isinstance(value, FunctionType) else next(iter(_functions_of(value)), None)
    if function is None:
        return {}
    known = dict(function.__globals__)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        known[name] = cell.cell_contents
    used = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    return {name: known[name] for name in sorted(used) if name in known and name != "__class__"}


def _functions_of(value: Any) -> list[FunctionType]:
    return [part for part in vars(value).values() if isinstance(part, FunctionType)] if isinstance(value, type) else []


def source_of(value: Any) -> str | None:
    """The source of a function, a lambda or a class, notebooks included; None when it can't be found."""
    if isinstance(value, type):
        return _class_source(value)
    if not isinstance(value, FunctionType):
        return None
    try:
        source = textwrap.dedent(inspect.getsource(value))
        tree = ast.parse(source)
    except (OSError, TypeError, SyntaxError):
        return None
    if value.__name__ != "<lambda>":
        return source.rstrip() if isinstance(tree.body[0], ast.FunctionDef) else None
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Lambda)]
    return ast.get_source_segment(source, found[0]) if len(found) == 1 else None


def _class_source(value: type) -> str | None:
    """Python can't find a class of a notebook; the file of one of its methods leads there."""
    for function in _functions_of(value):
        source = "".join(linecache.getlines(function.__code__.co_filename))
        try:
            nodes = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.ClassDef) and n.name == value.__name__]
        except SyntaxError:
            return None
        around = [n for n in nodes if n.lineno <= function.__code__.co_firstlineno <= (n.end_lineno or n.lineno)]
        if around:
            return textwrap.dedent(ast.get_source_segment(source, around[-1], padded=True) or "")
    return None
