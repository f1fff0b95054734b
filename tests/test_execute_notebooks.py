"""The tool that executes notebooks: on a small notebook, with a real kernel."""

import base64
import io
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

from tools.execute_notebooks import ROOT, chosen, clean, fewer_colours

SOURCES = {"good": "import os\nprint(os.environ.get('LLM_LAB_FAST'), os.getcwd())", "bad": "print('before')\n1 / 0"}


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    """Write a notebook with a cell that works and, under another name, one with a cell that fails."""
    for name, source in SOURCES.items():
        cells = [nbformat.v4.new_code_cell(source, metadata={"tags": ["kept"], "scrolled": True})]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / f"{name}.ipynb")
    return tmp_path / "good.ipynb"


def run_tool(*arguments: str | Path) -> subprocess.CompletedProcess:
    """Run the tool as its user does."""
    command = [sys.executable, "tools/execute_notebooks.py", *map(str, arguments)]
    environment = {key: value for key, value in os.environ.items() if key != "LLM_LAB_FAST"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


def test_results_go_into_another_folder_and_leave_the_source_alone(notebook: Path) -> None:
    bad, before = notebook.with_name("bad.ipynb"), notebook.read_bytes()
    result = run_tool("--into", notebook.parent / "results", "--fast", bad, notebook)
    assert result.returncode == 1, result.stderr
    assert "[1/2] bad.ipynb ... failed in" in result.stdout and "[2/2] good.ipynb ... done in" in result.stdout
    assert "ZeroDivisionError" in result.stderr
    assert notebook.read_bytes() == before
    done = nbformat.read(notebook.parent / "results" / "good.ipynb", as_version=4).cells[0]
    assert done.execution_count == 1
    assert done.outputs[0].text == f"1 {notebook.parent}\n"  # fast, and in the notebook's own folder
    assert done.metadata == {"tags": ["kept"]}  # no timing, nothing of an editor
    failed = nbformat.read(notebook.parent / "results" / "bad.ipynb", as_version=4).cells[0]
    assert [output.output_type for output in failed.outputs] == ["stream", "error"]


def test_a_notebook_that_fails_is_not_written_over_itself(notebook: Path) -> None:
    bad = notebook.with_name("bad.ipynb")
    before = bad.read_bytes()
    assert run_tool(bad).returncode == 1
    assert bad.read_bytes() == before


def test_volatile_metadata_are_dropped() -> None:
    new = nbformat.v4
    output = new.new_output("display_data", data={"text/plain": "x"}, metadata={"needs_background": "light"})
    cell = new.new_code_cell(
        "x", outputs=[output], metadata={"execution": {"iopub.status.busy": "now"}, "tags": ["bootstrap"]}
    )
    notebook = new.new_notebook(
        cells=[cell], metadata={"widgets": {"a": 1}, "language_info": {"name": "python", "version": "3.11.7"}}
    )
    clean(notebook)
    nbformat.validate(notebook)
    assert (
        set(notebook.metadata) == {"kernelspec", "language_info"} and "version" not in notebook.metadata.language_info
    )
    assert notebook.cells[0].metadata == {"tags": ["bootstrap"]} and notebook.cells[0].outputs[0].metadata == {}


def test_pictures_get_smaller_and_look_the_same() -> None:
    smooth = np.linspace(0, 255, 300 * 200).reshape(200, 300).astype(np.uint8)
    image = Image.fromarray(np.dstack((smooth, 255 - smooth, smooth, np.full_like(smooth, 255))))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=0)
    before = base64.b64encode(buffer.getvalue()).decode()
    after = fewer_colours(before)
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(after))).convert("RGB"), dtype=int)
    assert len(after) < len(before) / 3 and shown.shape == (200, 300, 3)
    assert np.abs(shown - np.asarray(image)[:, :, :3]).max() <= 8  # of 255
    assert fewer_colours(after) == after


def test_an_unknown_lesson_is_one_sentence() -> None:
    with pytest.raises(SystemExit, match="There is no notebook 99"):
        chosen(["99"])
