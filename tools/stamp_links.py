"""Stamp the Colab badge and the first code cell into every notebook: python tools/stamp_links.py

The address comes from `[project.urls]` in pyproject.toml. Without one there is no badge, and the cell says
how to give it.
"""

import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.bootstrap_cell import TAG, bootstrap_source, repository_address

BADGE_TAG = "colab-badge"
FOLDERS = ("notebooks", "exercises", "exercises/solutions")


def all_notebooks(root: Path = ROOT) -> list[Path]:
    """Return every notebook of the course, in reading order."""
    return [path for folder in FOLDERS for path in sorted((root / folder).glob("*.ipynb"))]


def badge_source(address: str, path: str) -> str | None:
    """Return the badge that opens the notebook in Colab, or None: Colab opens GitHub's repositories only."""
    start = "https://github.com/"
    if not address.startswith(start):
        return None
    link = (
        f"https://colab.research.google.com/github/{address.removeprefix(start).removesuffix('.git')}/blob/main/{path}"
    )
    return f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({link})"


def has_tag(cell: NotebookNode, tag: str) -> bool:
    """Tell whether the cell carries the tag."""
    return tag in cell.metadata.get("tags", [])


def stamp(notebook: NotebookNode, address: str, path: str) -> bool:
    """Put badge and first code cell into the notebook, in place; return whether anything changed."""
    before = [(cell.cell_type, cell.source) for cell in notebook.cells]
    notebook.cells = [cell for cell in notebook.cells if not has_tag(cell, BADGE_TAG)]
    badge = badge_source(address, path)
    if badge:
        cell = nbformat.v4.new_markdown_cell(badge, id=BADGE_TAG, metadata={"tags": [BADGE_TAG]})
        notebook.cells.insert(0, cell)
    stamp_first_code_cell(notebook, bootstrap_source(address))
    return before != [(cell.cell_type, cell.source) for cell in notebook.cells]


def stamp_first_code_cell(notebook: NotebookNode, source: str) -> None:
    """Replace the text of the bootstrap cell; where there is none yet, insert it before all other code."""
    for cell in notebook.cells:
        if has_tag(cell, TAG):
            cell.source = source
            return
    code = (index for index, cell in enumerate(notebook.cells) if cell.cell_type == "code")
    cell = nbformat.v4.new_code_cell(source, id=TAG, metadata={"tags": [TAG]})
    notebook.cells.insert(next(code, len(notebook.cells)), cell)


def main() -> None:
    """Stamp all notebooks and name those that changed: a new cell wants the notebook to be executed again."""
    address = repository_address()
    for path in all_notebooks():
        notebook = nbformat.read(path, as_version=4)
        name = path.relative_to(ROOT).as_posix()
        if stamp(notebook, address, name):
            nbformat.write(notebook, path)
            print(f"{name}: stamped; execute it again")


if __name__ == "__main__":
    main()
