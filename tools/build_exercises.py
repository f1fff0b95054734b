"""Build the notebooks of exercises from llm_lab.checks, and execute them unsolved.

    python tools/build_exercises.py           all lessons that have exercises
    python tools/build_exercises.py 04        only this one

The cards and stubs have one source, the lesson's modules in llm_lab/checks; a test holds the notebooks equal to it.
"""

import os
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import lab
from llm_lab.checks.choice import Choice
from llm_lab.checks.exercise import Exercise
from llm_lab.checks.number import Number
from llm_lab.checks.registry import exercises, introduction, lessons
from tools.bootstrap_cell import TAG, bootstrap_source, repository_address
from tools.execute_notebooks import execute
from tools.stamp_links import stamp

STUB = "exercise"  # the tag of a cell that the reader fills; the id is the next tag
HOW = """\
Fill in a stub, run it, and run the check below it. A check says that it is right, or which mistake it sees. Stuck? Take
the # away from the line with `hint`, and run the cell again: three hints, one at a time. After them, `show_me` in place
of `hint` explains the answer."""
NAMES = "import numpy as np\nimport torch\n\nfrom llm_lab.checks import check, evidence, hint, progress, show_me"


def path_of(lesson: str) -> Path:
    """Where the notebook of a lesson's exercises lies: it has the number and the name of its lesson."""
    name = next((ROOT / "notebooks").glob(f"{lesson}_*.ipynb")).name
    return ROOT / "exercises" / name


def card(number: int, exercise: Exercise) -> str:
    """The card of an exercise, in Markdown."""
    facts = f"*{exercise.kind}, difficulty {exercise.difficulty} of 5, {exercise.minutes} minutes*, `{exercise.id}`"
    parts = [f"## {number}. {exercise.title}", facts, exercise.task, f"Why it matters: {exercise.why}"]
    if isinstance(exercise, Number):
        parts[2] = f"{exercise.task.strip()} A number within {exercise.tolerance:g} of the truth is right."
    if isinstance(exercise, Choice):
        parts.insert(3, "\n".join(f"- **{letter}** {text}" for letter, text in exercise.choices.items()))
    return "\n\n".join(part.strip() for part in parts)


def cells_of(number: int, exercise: Exercise) -> list[NotebookNode]:
    """The card, what to look at, the stub, and the check."""
    new, name = nbformat.v4, exercise.name.replace("_", "-")
    cells = [new.new_markdown_cell(card(number, exercise), id=f"{name}-card"[:64])]
    if exercise.setup:
        cells.append(new.new_code_cell(exercise.setup.strip("\n"), id=f"{name}-setup"))
    if exercise.evidence:
        cells.append(new.new_code_cell(f'evidence("{exercise.id}")', id=f"{name}-evidence"))
    tags = {"tags": [STUB, exercise.id]}
    cells.append(new.new_code_cell(exercise.stub_cell, id=f"{name}-stub", metadata=tags))
    lines = f'check("{exercise.id}", {exercise.variable})\n# hint("{exercise.id}")'
    cells.append(new.new_code_cell(lines, id=f"{name}-check"))
    return cells


def notebook_of(lesson: str) -> NotebookNode:
    """The notebook, not yet executed."""
    new = nbformat.v4
    cells = [
        new.new_markdown_cell(f"{introduction(lesson).strip()}\n\n{HOW}", id="introduction"),
        new.new_code_cell(bootstrap_source(repository_address()), id=TAG, metadata={"tags": [TAG]}),
        new.new_code_cell(NAMES, id="names"),
    ]
    for number, exercise in enumerate(exercises(lesson), 1):
        cells += cells_of(number, exercise)
    cells.append(new.new_markdown_cell("## Where you are", id="progress-title"))
    cells.append(new.new_code_cell("progress()", id="progress", metadata={"tags": ["nbval-ignore-output"]}))
    notebook = new.new_notebook(cells=cells)
    stamp(notebook, repository_address(), path_of(lesson).relative_to(ROOT).as_posix())
    return notebook


def main() -> int:
    """Build and execute the notebooks of the lessons that are named, or of all; return 1 when one of them failed."""
    os.environ["LLM_LAB_HOME"] = lab.fresh_home("execute")
    failures = 0
    for lesson in sys.argv[1:] or lessons():
        path = path_of(lesson)
        nbformat.write(notebook_of(lesson), path)
        problem = execute(path, path)
        print(f"{path.name}: {problem or 'built and executed'}")
        failures += problem is not None
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
