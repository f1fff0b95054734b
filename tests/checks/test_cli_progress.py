"""The command `progress`: the same words as in a notebook."""

from llm_lab import cli
from llm_lab.checks import check, progress


def test_the_command_prints_what_the_notebook_prints(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("LLM_LAB_HOME", str(tmp_path))
    check("04.share_of_masks", 0.216)
    capsys.readouterr()
    progress()
    in_notebook = capsys.readouterr().out
    assert cli.main(["progress"]) == 0
    assert capsys.readouterr().out == in_notebook and "lesson 04   #.......     1 of 8" in in_notebook
