"""The notebooks of exercises: equal to their one source, and they run when solved. (nbval runs them unsolved.)"""

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from llm_lab.checks import answers, exercises, registry
from llm_lab.checks.code import Write
from tests.checks.kept_parts import keep_parts
from tests.test_notebooks import ROOT, broken_links, prose_of
from tools.build_exercises import STUB, notebook_of, path_of


def parts(notebook):
    return [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in notebook.cells]


@pytest.mark.parametrize("lesson", registry.lessons())
def test_cards_and_stubs_are_those_of_the_exercises(lesson):
    committed = nbformat.read(path_of(lesson), as_version=4)
    assert parts(committed) == parts(notebook_of(lesson)), f"run: python tools/build_exercises.py {lesson}"


@pytest.mark.parametrize("lesson", registry.lessons())
def test_a_solved_notebook_runs_and_passes(lesson, tmp_path, monkeypatch, capsys):
    """As in Jupyter: the same cells in an interactive shell, each stub filled with the right answer."""
    monkeypatch.setenv("LLM_LAB_HOME", str(tmp_path))
    monkeypatch.setenv("LLM_LAB_FAST", "1")
    keep_parts()  # of earlier lessons
    monkeypatch.chdir(ROOT / "exercises")
    by_id = {one.id: one for one in exercises(lesson)}
    shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
    for cell in nbformat.read(path_of(lesson), as_version=4).cells:
        tags = cell.metadata.get("tags", [])
        source = by_id[tags[tags.index(STUB) + 1]].solution_cell if STUB in tags else cell.source
        if cell.cell_type == "code":
            shell.run_cell(source, silent=False).raise_error()
    printed = capsys.readouterr().out
    for one in by_id.values():
        assert f"{one.id}: right" in printed or f"{one.id}: it runs" in printed, printed
        if isinstance(one, Write):  # what passed comes back, and passes again
            assert one.judge(answers.load(one.id)).passed, one.id
    assert f"{len(by_id)} of {len(by_id)}" in printed


def test_the_page_for_readers():
    page = ROOT / "exercises" / "README.md"
    text = page.read_text(encoding="utf-8")
    assert not broken_links(text, page.parent) and "!" not in prose_of(text)
    assert len(text.splitlines()) <= 60
