"""The reader's own code: kept when it passes, brought back in another session."""

import linecache
import subprocess
import sys

import pytest
import torch

from llm_lab import home
from llm_lab.checks import answers, check
from llm_lab.checks.solutions import find

CELL = """
import torch
SPECIAL = -100

def hide(ids, targets, mask_id):
    return ids.masked_fill(targets, mask_id)

def labels(ids, targets, mask_id):
    return hide(ids, targets, mask_id), ids.masked_fill(~targets, SPECIAL)
"""


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("LLM_LAB_HOME", str(tmp_path))


def cell(source, name):
    """Run a source as a cell of a notebook, and return what a name stands for."""
    filename = f"<cell {hash(source)}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    namespace = {"__name__": "__main__"}
    exec(compile(source, filename, "exec"), namespace)
    return namespace[name]


def test_what_passed_is_kept_and_stands_alone(capsys):
    assert check("04.labels", cell(CELL, "labels")).passed
    assert "answers.load('04.labels') brings it back" in capsys.readouterr().out
    ids, targets = torch.tensor([[5, 9]]), torch.tensor([[True, False]])
    assert [x.tolist() for x in answers.load("04.labels")(ids, targets, 4)] == [[[4, 9]], [[5, -100]]]
    text = answers.path_of("04.labels").read_text()
    assert "import torch" not in text and text.startswith('"""The answer to exercise 04.labels')  # only what it uses
    code = "from llm_lab.checks import answers; print(answers.load('04.labels').__name__)"
    again = subprocess.run([sys.executable, "-c", code], cwd=home.REPOSITORY, capture_output=True, text=True)
    assert again.stdout == "labels\n", again.stderr


def test_a_newer_answer_replaces_an_older_one():
    answers.keep("04.labels", cell("def a(x):\n    return 1\n", "a"))
    answers.keep("04.labels", cell("def b(x):\n    return 2\n", "b"))
    assert answers.load("04.labels")(0) == 2


def test_what_fails_is_not_kept():
    assert not check("04.labels", lambda ids, targets, mask_id: (ids, ids)).passed
    with pytest.raises(FileNotFoundError, match="no answer of yours is kept yet"):
        answers.load("04.labels")


def test_what_can_not_be_kept_is_said(capsys):
    right = find("04", "labels")
    assert check(
        "04.labels", eval("lambda ids, targets, mask_id: right(ids, targets, mask_id)", {"right": right})
    ).passed
    assert "Its source can't be found" in capsys.readouterr().out
    lost = cell("class Own:\n    pass\n\nown = Own()\ndef a(x):\n    return own\n", "a")
    assert "it uses own, which could not be kept" in answers.keep("04.labels", lost)
    broken = cell("import os\ndef a(x, y=os.no_such_name if False else 1):\n    return y\n", "a")
    assert answers.keep("04.labels", broken) == "" and answers.load("04.labels")(0) == 1


@pytest.mark.parametrize("text", ["answer = 1 / 0\n", "answer = (\n", "answer: int\n", ""])
def test_a_damaged_file_is_said(text):
    home.write_atomically(answers.path_of("04.labels"), text.encode())
    with pytest.raises(ValueError, match="04_labels.py does not run by itself"):
        answers.load("04.labels")


def test_a_slip_in_the_id_gets_its_own_sentence():
    with pytest.raises(ValueError, match="there is no exercise '04.label'; near are 04.labels"):
        answers.load("04.label")
