"""Hygiene of the notebooks: what nbval, which runs them, does not see.

Each rule is a function that returns the faults it finds in one notebook, as sentences; at the end of this file
each rule is tried on a notebook that breaks it.
"""

import base64
import copy
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode

from tools.bootstrap_cell import TAG, bootstrap_source, repository_address
from tools.stamp_links import BADGE_TAG, all_notebooks, has_tag

ROOT = Path(__file__).resolve().parent.parent
CELLS, CELL_LINES, NOTEBOOK_BYTES, IMAGE_BYTES = 60, 20, 300_000, 60_000
CARD = ("You will be able to", "You need first", "Minutes")
MACHINE_PATHS = re.compile(r"(/home/|/root/|/work/|/Users/|/content/|/tmp/|/opt/|[A-Z]:\\Users)[\w.-]*")
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)|(?:src|href)=[\"']([^\"']+)")
Rule = Callable[[NotebookNode, Path], Iterator[str]]


def cells_of(notebook: NotebookNode, kind: str) -> list[tuple[int, NotebookNode]]:
    """Return the cells of a kind with their places, counted from 0."""
    return [(i, cell) for i, cell in enumerate(notebook.cells) if cell.cell_type == kind]


def outputs_of(notebook: NotebookNode) -> list[tuple[int, NotebookNode]]:
    """Return every output with the place of its cell."""
    return [(i, output) for i, cell in cells_of(notebook, "code") for output in cell.outputs]


def prose_of(markdown: str) -> str:
    """Return markdown without what is no prose: code, formulas, HTML comments, the marks of images."""
    for pattern in (r"```.*?```", r"~~~.*?~~~", r"`[^`]*`", r"\$\$.*?\$\$", r"\$[^$\n]*\$", r"<!--.*?-->"):
        markdown = re.sub(pattern, " ", markdown, flags=re.DOTALL)
    return markdown.replace("![", "[")


# ---------------------------------------------------------------------------------------------- the rules


def executed_once_in_order(notebook: NotebookNode, path: Path) -> Iterator[str]:
    """Every code cell has run, from a fresh kernel, from top to bottom."""
    counts = [cell.execution_count for _, cell in cells_of(notebook, "code")]
    if counts != list(range(1, len(counts) + 1)):
        yield f"execution counts are {counts}: execute it with tools/execute_notebooks.py"


def no_errors(notebook: NotebookNode, path: Path) -> Iterator[str]:
    """No cell ended in an error, unless its tag says that it is meant to."""
    for i, cell in cells_of(notebook, "code"):
        if not has_tag(cell, "raises-exception") and any(output.output_type == "error" for output in cell.outputs):
            yield f"cell {i} ended in an error"


def small(notebook: NotebookNode, path: Path) -> Iterator[str]:
    """Notebook, pictures, and cells keep to their sizes."""
    if path.exists() and path.stat().st_size > NOTEBOOK_BYTES:
        yield f"{path.stat().st_size:,} bytes, more than {NOTEBOOK_BYTES:,}"
    if len(notebook.cells) > CELLS:
        yield f"{len(notebook.cells)} cells, more than {CELLS}"
    for i, cell in cells_of(notebook, "code"):
        if len(cell.source.splitlines()) > CELL_LINES:
            yield f"cell {i} has {len(cell.source.splitlines())} lines, more than {CELL_LINES}"
    for i, output in outputs_of(notebook):
        for kind, data in output.get("data", {}).items():
            size = len(data if kind == "image/svg+xml" else base64.b64decode(data)) if kind.startswith("image/") else 0
            if size > IMAGE_BYTES:
                yield f"the picture of cell {i} has {size:,} bytes, more than {IMAGE_BYTES:,}"


def no_widgets(notebook: NotebookNode, path: Path) -> Iterator[str]:
    """No widget state: it bloats the file and shows nothing without a kernel."""
    if "widgets" in notebook.metadata:
        yield "the metadata hold widget state"
    for i, output in outputs_of(notebook):
        if any("widget" in kind for kind in output.get("data", {})):
            yield f"the output of cell {i} is a widget"


def no_paths_of_a_machine(notebook: NotebookNode, path: Path) -> Iterator[str]:
    """No output shows where somebody's files lie."""
    for i, output in outputs_of(notebook):
        shown = [output.get("text", ""), *map(str, output.get("traceback", []))]
        shown += [str(data) for kind, data in output.get("data", {}).items() if not kind.startswith("image/")]
        for found in MACHINE_PATHS.finditer("\n".join(shown)):
            yield f"the output of cell {i} shows the path {found.group()}"


def card_at_the_top(notebook: NotebookNode, path: Path) -> Iterator[str]:
    """The first cell, or the first after the badge, is the title; it or the next one holds the card."""
    first = [cell.source for cell in notebook.cells if not has_tag(cell, BADGE_TAG)][:2]
    if not first or not first[0].startswith("# "):
        yield "the first cell does not start with a heading of level 1"
        return
    rows = [line for line in "\n".join(first).splitlines() if re.match(r"\s*(\||[-*] )", line)]
    for entry in CARD:
        if not any(entry in row for row in rows):
            yield f"the card has no row {entry!r} in a table or list"


def figures_in_words(notebook: NotebookNode, path: Path) -> Iterator[str]:
    """After each picture, the next cell says in words what it shows."""
    for i, output in outputs_of(notebook):
        if "image/png" in output.get("data", {}):
            following = notebook.cells[i + 1] if i + 1 < len(notebook.cells) else None
            if following is None or following.cell_type != "markdown" or "In words:" not in following.source:
                yield f"the picture of cell {i} is not followed by a text with 'In words:'"


def calm_prose(notebook: NotebookNode, path: Path) -> Iterator[str]:
    """No exclamation marks, English or Chinese, outside code and formulas."""
    for i, cell in cells_of(notebook, "markdown"):
        if re.search("[!\uff01]", prose_of(cell.source)):
            yield f"cell {i} has an exclamation mark"


def links_resolve(notebook: NotebookNode, path: Path) -> Iterator[str]:
    """Every relative link leads to a file."""
    for i, cell in cells_of(notebook, "markdown"):
        for target in broken_links(cell.source, path.parent):
            yield f"cell {i} links to {target}, which does not exist"


def one_bootstrap_cell(notebook: NotebookNode, path: Path) -> Iterator[str]:
    """The first code cell is the common one."""
    code = [cell for _, cell in cells_of(notebook, "code")]
    if [has_tag(cell, TAG) for cell in code] != [True] + [False] * (len(code) - 1):
        yield f"the first code cell, and no other, must carry the tag {TAG}: python tools/stamp_links.py"
    elif code[0].source != bootstrap_source(repository_address()):
        yield "the first code cell is not the common one: python tools/stamp_links.py"


def broken_links(markdown: str, folder: Path) -> list[str]:
    """Return the relative targets in a markdown text that are no files, seen from the folder."""
    text = re.sub(r"```.*?```|`[^`\n]*`", " ", markdown, flags=re.DOTALL)
    targets = [first or second for first, second in LINK.findall(text)]
    local = [target for target in targets if not re.match(r"[a-z]+:|#|//", target)]
    return [target for target in local if not os.path.exists(os.path.normpath(folder / target.partition("#")[0]))]


RULES: list[Rule] = [
    executed_once_in_order, no_errors, small, no_widgets, no_paths_of_a_machine, card_at_the_top, figures_in_words,
    calm_prose, links_resolve, one_bootstrap_cell,
]  # fmt: skip
LESSON_RULES: list[Rule] = [card_at_the_top, figures_in_words]  # an exercise sheet has cards of its own
NOTEBOOKS = all_notebooks(ROOT)
PAGES = [path for pattern in ("*.md", "notebooks/*.md", "data/**/*.md") for path in sorted(ROOT.glob(pattern))]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.relative_to(ROOT).as_posix())
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_notebook(path: Path, rule: Rule) -> None:
    if rule in LESSON_RULES and path.parent != ROOT / "notebooks":
        return
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert not list(rule(notebook, path))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_page(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not broken_links(text, path.parent)
    assert not re.search("[!\uff01]", prose_of(text)), "an exclamation mark"


def test_every_lesson_has_its_place_in_the_order() -> None:
    lessons = [path.name for path in NOTEBOOKS if path.parent == ROOT / "notebooks"]
    wrong = [name for name in lessons if not re.fullmatch(r"(\d\d|appendix)_[a-z0-9_]+\.ipynb", name)]
    assert not wrong


# ------------------------------------------------------------------------------------- each rule can be broken


@pytest.fixture
def good() -> NotebookNode:
    """Return a notebook that keeps every rule."""
    new = nbformat.v4
    card = "# Masking\n\n| You will be able to | mask |\n|---|---|\n| You need first | 03 |\n| Minutes | 40 |"
    png = base64.b64encode(b"a small picture").decode()
    plot = new.new_output("display_data", data={"image/png": png, "text/plain": "<Figure>"})
    return new.new_notebook(
        cells=[
            new.new_markdown_cell(card),
            new.new_code_cell(bootstrap_source(repository_address()), execution_count=1, metadata={"tags": [TAG]}),
            new.new_code_cell("plot()", execution_count=2, outputs=[plot]),
            new.new_markdown_cell("In words: 15% of 40 is 6. `a != b`, $n!$, [plan](../lab.py), [web](https://a.org)"),
        ]
    )


def set_at(*keys: Any) -> Callable[[NotebookNode], None]:
    """Return a change that puts the last argument at the place the others name."""
    *place, last, value = keys

    def change(notebook: NotebookNode) -> None:
        target: Any = notebook
        for key in place:
            target = target[key]
        target[last] = value

    return change


def output_text(text: str) -> Callable[[NotebookNode], None]:
    """Return a change that lets the second code cell print a text."""
    return lambda notebook: notebook.cells[2].outputs.append(nbformat.v4.new_output("stream", text=text))


BREAKERS: list[tuple[Rule, Callable[[NotebookNode], None]]] = [
    (executed_once_in_order, set_at("cells", 2, "execution_count", None)),
    (executed_once_in_order, set_at("cells", 2, "execution_count", 7)),
    (no_errors, lambda nb: nb.cells[2].outputs.append(nbformat.v4.new_output("error", ename="E", evalue="e"))),
    (small, set_at("cells", 2, "source", "x = 1\n" * 21)),
    (small, lambda nb: nb.cells.extend(nbformat.v4.new_markdown_cell("more") for _ in range(60))),
    (small, set_at("cells", 2, "outputs", 0, "data", "image/png", base64.b64encode(bytes(60_001)).decode())),
    (no_widgets, set_at("metadata", "widgets", {})),
    (no_widgets, set_at("cells", 2, "outputs", 0, "data", "application/vnd.jupyter.widget-view+json", {})),
    (no_paths_of_a_machine, output_text("saved to /home/ada/llm-lab/runs/first")),
    (no_paths_of_a_machine, set_at("cells", 2, "outputs", 0, "data", "text/plain", "PosixPath('/root/x')")),
    (card_at_the_top, set_at("cells", 0, "source", "Masking\n\n| You will be able to | You need first | Minutes |")),
    (card_at_the_top, set_at("cells", 0, "source", "# Masking\n\nYou will be able to; You need first; Minutes")),
    (card_at_the_top, set_at("cells", 0, "source", "# Masking\n\n- You will be able to\n- You need first")),
    (figures_in_words, set_at("cells", 3, "source", "What a picture.")),
    (figures_in_words, lambda nb: nb.cells.pop()),
    (calm_prose, set_at("cells", 3, "source", "In words: it learns!")),
    (calm_prose, set_at("cells", 3, "source", "In words: \u597d\uff01")),
    (links_resolve, set_at("cells", 3, "source", "In words: see [there](nowhere.ipynb#part)")),
    (links_resolve, set_at("cells", 3, "source", 'In words: <img alt="a" src="nowhere.png">')),
    (one_bootstrap_cell, set_at("cells", 1, "source", "import llm_lab")),
    (one_bootstrap_cell, set_at("cells", 1, "metadata", "tags", [])),
    (one_bootstrap_cell, lambda nb: nb.cells.insert(1, nbformat.v4.new_code_cell("early = 1"))),
]  # fmt: skip


def test_a_good_notebook_keeps_every_rule(good: NotebookNode) -> None:
    nbformat.validate(good)
    assert not [fault for rule in RULES for fault in rule(good, ROOT / "notebooks" / "new.ipynb")]
    good.cells.insert(0, nbformat.v4.new_markdown_cell("badge", metadata={"tags": [BADGE_TAG]}))
    assert not list(card_at_the_top(good, ROOT / "notebooks" / "new.ipynb"))


@pytest.mark.parametrize("number", range(len(BREAKERS)), ids=lambda n: f"{n}-{BREAKERS[n][0].__name__}")
def test_a_broken_notebook_is_found(good: NotebookNode, number: int) -> None:
    rule, change = BREAKERS[number]
    broken = copy.deepcopy(good)
    change(broken)
    assert list(rule(broken, ROOT / "notebooks" / "new.ipynb"))


def test_a_large_file_is_found(good: NotebookNode, tmp_path: Path) -> None:
    path = tmp_path / "large.ipynb"
    path.write_bytes(bytes(NOTEBOOK_BYTES + 1))
    assert len(list(small(good, path))) == 1


def test_every_rule_is_tried() -> None:
    assert {rule for rule, _ in BREAKERS} == set(RULES)
