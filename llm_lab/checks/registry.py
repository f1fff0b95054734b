"""All exercises: each module lessons/lesson_NN_*.py holds a tuple EXERCISES, one of them an INTRODUCTION."""

from __future__ import annotations

import difflib
import importlib
from functools import cache
from pathlib import Path
from types import ModuleType

from llm_lab.checks.exercise import Exercise

MODULES = sorted((Path(__file__).parent / "lessons").glob("lesson_[0-9][0-9]_*.py"))


def lessons() -> list[str]:
    """The numbers of the lessons that have exercises, two digits each."""
    return sorted({path.stem[7:9] for path in MODULES})


@cache
def of_lesson(lesson: str) -> tuple[Exercise, ...]:
    """The exercises of one lesson, the shortest first: they climb."""
    found = [exercise for module in _modules(lesson) for exercise in module.EXERCISES]
    return tuple(sorted(found, key=lambda exercise: exercise.minutes))


def introduction(lesson: str) -> str:
    """What stands at the top of a lesson's notebook of exercises, in Markdown."""
    return next(module.INTRODUCTION for module in _modules(lesson) if hasattr(module, "INTRODUCTION"))


def _modules(lesson: str) -> list[ModuleType]:
    names = [path.stem for path in MODULES if path.stem[7:9] == lesson]
    return [importlib.import_module(f"llm_lab.checks.lessons.{name}") for name in names]


def exercises(lesson: str | None = None) -> list[Exercise]:
    """All exercises, or those of one lesson ("04")."""
    chosen = lessons() if lesson is None else [lesson]
    return [exercise for number in chosen for exercise in of_lesson(number)]


def find(id: str) -> Exercise:
    """The exercise of that id. Raises ValueError with the nearest ids when there is none."""
    lesson = str(id)[:2]
    known = exercises(lesson if lesson in lessons() else None)
    for exercise in known:
        if exercise.id == id:
            return exercise
    near = difflib.get_close_matches(str(id), [exercise.id for exercise in known], 3, 0.3)
    other = f"near are {', '.join(near)}" if near else "exercises() lists all"
    raise ValueError(f"there is no exercise {id!r}; {other}.")
