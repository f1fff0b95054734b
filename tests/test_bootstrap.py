"""The first code cell of every notebook, run where it has to work: on Colab (stubbed), in a clone, and nowhere."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tools.bootstrap_cell import ROOT, bootstrap_source, repository_address
from tools.stamp_links import BADGE_TAG, all_notebooks, badge_source, stamp

AFTER = "\nimport llm_lab\nprint('imported from', llm_lab.__file__)\n"


def run_cell(folder: Path, address: str, *, colab: bool, before: str = "") -> subprocess.CompletedProcess:
    """Run the cell, then an import of the package, in a Python that knows nothing but the standard library."""
    stub = folder.parent / "stubs" / "google" / "colab.py"
    stub.parent.mkdir(parents=True, exist_ok=True)
    stub.touch()
    code = before + ("import google.colab\n" if colab else "") + bootstrap_source(address) + AFTER
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LLM_LAB", "PYTHON"))}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "PYTHONPATH": str(folder.parent / "stubs")}
    return subprocess.run(
        [sys.executable, "-S", "-P", "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def remote(tmp_path: Path) -> str:
    """Make a small git repository that looks like the course, and return its address."""
    folder = tmp_path / "remote"
    (folder / "llm_lab").mkdir(parents=True)
    (folder / "llm_lab" / "__init__.py").write_text('"""The course, in small."""\n')
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    return folder.as_uri()


@pytest.fixture
def content(tmp_path: Path) -> Path:
    """Return an empty working folder, as Colab's /content."""
    folder = tmp_path / "content"
    folder.mkdir()
    return folder


def test_colab_fetches_the_course_once(remote: str, content: Path) -> None:
    for _ in range(2):  # the second time as after a restart of the kernel: the folder is there already
        result = run_cell(content, remote, colab=True)
        assert result.returncode == 0, result.stderr
        assert str(content / "llm-lab" / "llm_lab") in result.stdout


def test_colab_without_an_address_says_how_to_give_it(content: Path) -> None:
    result = run_cell(content, "", colab=True)
    assert result.returncode != 0
    assert "line ADDRESS" in result.stderr and "Traceback" not in result.stderr
    assert not (content / "llm-lab").exists()


def test_colab_takes_the_address_from_the_environment(remote: str, content: Path) -> None:
    given = f"import os; os.environ['LLM_LAB_REPOSITORY'] = {remote!r}\n"
    result = run_cell(content, "", colab=True, before=given)
    assert result.returncode == 0, result.stderr


def test_colab_with_a_wrong_address_says_so(content: Path) -> None:
    result = run_cell(content, (content / "nothing-here").as_uri(), colab=True)
    assert result.returncode != 0
    assert "could not be fetched" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("folder", ["notebooks", "exercises/solutions", "."])
def test_a_clone_is_used_as_it_is(remote: str, tmp_path: Path, folder: str) -> None:
    working = tmp_path / "remote" / folder
    working.mkdir(parents=True, exist_ok=True)
    result = run_cell(working, "file:///must/not/be/used", colab=False)
    assert result.returncode == 0, result.stderr
    assert str(tmp_path / "remote" / "llm_lab") in result.stdout
    assert not list(working.glob("llm-lab")) and not result.stderr


def test_elsewhere_it_says_how_to_open_the_notebook(content: Path) -> None:
    result = run_cell(content, "file:///must/not/be/used", colab=False)
    assert result.returncode != 0
    assert "python lab.py" in result.stderr and "Traceback" not in result.stderr


def test_the_cell_is_short() -> None:
    lines = bootstrap_source("https://github.com/someone/llm-lab").splitlines()
    assert len(lines) <= 20
    assert max(map(len, lines)) <= 120


def test_every_notebook_is_stamped() -> None:
    address = repository_address()
    for path in all_notebooks():
        notebook = nbformat.read(path, as_version=4)
        changed = stamp(notebook, address, path.relative_to(ROOT).as_posix())
        assert not changed, f"{path.name} is not as stamped: python tools/stamp_links.py"


def test_stamping_inserts_replaces_and_removes() -> None:
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("# Title"), nbformat.v4.new_code_cell("x = 1", execution_count=1)]
    )
    github = "https://github.com/someone/llm-lab"
    assert stamp(notebook, github, "notebooks/00_start_here.ipynb")
    assert not stamp(notebook, github, "notebooks/00_start_here.ipynb")
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds == ["markdown", "markdown", "code", "code"]
    assert "github/someone/llm-lab/blob/main/notebooks/00_start_here.ipynb" in notebook.cells[0].source
    assert f'or "{github}"' in notebook.cells[2].source and notebook.cells[3].source == "x = 1"
    assert stamp(notebook, "", "notebooks/00_start_here.ipynb")
    assert BADGE_TAG not in str(notebook.cells) and 'or ""' in notebook.cells[1].source
    nbformat.validate(notebook)


def test_only_github_gets_a_badge() -> None:
    assert badge_source("", "notebooks/a.ipynb") is None
    assert badge_source("https://gitlab.com/someone/llm-lab", "notebooks/a.ipynb") is None
    badge = badge_source("https://github.com/someone/llm-lab.git", "notebooks/a.ipynb")
    assert badge is not None and "/someone/llm-lab/blob/main/notebooks/a.ipynb" in badge


def test_the_address_is_read_without_a_last_slash(tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text('[project.urls]\nRepository = "https://github.com/someone/llm-lab/"\n')
    assert repository_address(file) == "https://github.com/someone/llm-lab"
