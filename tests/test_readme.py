"""Every command in the README works: this file runs it, or checks it, and fails on one that it does not know.

A command is a line of a ```bash block, or a line that starts with `$ ` in a ```console block. Commands of the
package run in the order of the README, in an empty folder, with SMALLER appended: the last value of an option wins.
"""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import lab

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
TEXT = "sample.txt"  # made by the fixture; the documentation corpus would take a minute
SMALLER = {
    "corpus": [],
    "pretrain": ["--size", "tiny", "--num-layers", "1", "--steps", "3"],
    "finetune": ["--epochs", "1"],
}
FIRST_WORDS = {"corpus": [TEXT]}  # a positional argument that is replaced, by command
PYTHONS = {"python", "python3", ".venv/bin/python", r".venv\Scripts\python"}


def commands_of(markdown: str) -> list[str]:
    """Return the commands of a markdown text, with continued lines joined and comments left out."""
    found = []
    for language, body in re.findall(r"^```(\w+)[^\n]*\n(.*?)^```", markdown, flags=re.DOTALL | re.MULTILINE):
        lines = body.replace("\\\n", " ").splitlines()
        if language == "console":
            found += [line[2:] for line in lines if line.startswith("$ ")]
        elif language in ("bash", "sh", "shell", "powershell"):
            found += [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    return [" ".join(command.split()) for command in found]


def split(command: str) -> tuple[dict[str, str], list[str]]:
    """Return the variables set in front of a command, and its words."""
    words = shlex.split(command, comments=True)
    variables = {}
    while words and re.fullmatch(r"\w+=.*", words[0]):
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    return variables, words


def problem_of(command: str) -> str | None:
    """Return what is wrong with a command that this test does not run, or None; package commands are not wrong."""
    _, words = split(command)
    program, arguments = words[0], words[1:]
    if package_command(words):
        return None
    if program in PYTHONS and arguments[:1] == ["lab.py"]:
        known = len(arguments) == 1 or arguments[1] in lab.COMMANDS or arguments[1].startswith("-")
        return None if known else "lab.py has no such command"
    if program in PYTHONS and arguments[:2] == ["-m", "pip"]:
        program, arguments = "pip", arguments[2:]
    if program == "pip" and arguments[:1] == ["install"]:
        return problem_of_pip(arguments[1:])
    if program in PYTHONS and arguments[:2] == ["-m", "venv"]:
        return None
    if program in PYTHONS and arguments[:1] and arguments[0].endswith(".py"):
        return None if (ROOT / arguments[0]).exists() else "there is no such file"
    if program == "source" or (program, *arguments[:1]) == ("jupyter", "lab") or program in ("git", "cd"):
        return None
    return "tests/test_readme.py does not know how to check it"


def problem_of_pip(arguments: list[str]) -> str | None:
    """Return what is wrong with the arguments of `pip install`: files and extras must exist, pins must be ours."""
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for option, value in zip(arguments, arguments[1:], strict=False):
        if option in ("-r", "-c") and not (ROOT / value).exists():
            return f"there is no file {value}"
    for word in arguments:
        if "==" in word and word not in pins:
            return f"{word} is not the version in constraints.txt"
        for extra in re.findall(r"^\.\[(\w+)\]$", word):
            if extra not in project["optional-dependencies"]:
                return f"there is no extra {extra}"
    return None


def package_command(words: list[str]) -> list[str] | None:
    """Return the words after `-m llm_lab` when this is a command of the package, else None."""
    for index in range(len(words) - 1):
        if words[index : index + 2] == ["-m", "llm_lab"] and (words[0] in PYTHONS or words[0] == "torchrun"):
            return words[index + 2 :]
    return None


def smaller(words: list[str]) -> list[str]:
    """Return what this Python gets to run for a command of the package, made small."""
    arguments = package_command(words) or []
    command, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if command in FIRST_WORDS and rest:
        rest = FIRST_WORDS[command] + rest[1:]
    launcher = []
    if words[0] == "torchrun":
        launcher = ["-m", "torch.distributed.run", *words[1 : words.index("-m")]]
    # The known languages need no time to be built; any other text becomes the small one.
    other_text = "--corpus" in rest and not rest[rest.index("--corpus") + 1].startswith("grammar")
    text = ["--corpus", TEXT] if other_text else []
    return [*launcher, "-m", "llm_lab", command, *rest, *SMALLER.get(command, []), *text]


COMMANDS = commands_of(README.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a new reader, with a small text and a labelled file in it."""
    folder = tmp_path_factory.mktemp("reader")
    nouns, verbs = ("array", "tensor", "module", "function", "value"), ("returns", "holds", "reads", "changes")
    lines = [f"The {a} {v} the {b} of the {c}." for a in nouns for v in verbs for b in nouns for c in nouns]
    (folder / TEXT).write_text("\n\n".join(lines), encoding="utf-8")
    labelled = [f"{line},{'holder' if ' holds ' in line else 'other'}" for line in lines[::7]]
    (folder / "messages.csv").write_text("\n".join(["text,label", *labelled]), encoding="utf-8")
    return folder


def test_the_two_commands_are_there() -> None:
    assert "python lab.py" in COMMANDS
    assert "python lab.py test" in COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_command_is_known(command: str) -> None:
    assert problem_of(command) is None


def test_commands_of_the_package_run(reader: Path) -> None:
    """One after the other: a later command may use what an earlier one made."""
    environment = {**os.environ, "LLM_LAB_HOME": str(reader), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for command in COMMANDS:
        variables, words = split(command)
        if package_command(words) is None:
            continue
        ours = [sys.executable, *smaller(words)]
        result = subprocess.run(
            ours, cwd=reader, env={**environment, **variables}, capture_output=True, text=True, timeout=300
        )
        assert result.returncode == 0, (
            f"{command}\n{shlex.join(ours)}\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}"
        )


# ------------------------------------------------------------------------------------------ the check can fail


def test_commands_are_found_in_their_blocks() -> None:
    text = (
        "```bash\n# a comment\npython lab.py  run\npip install \\\n  a\n```\n```console\n$ python lab.py\noutput\n```\n"
    )
    text += "```python\nx = 1\n```\n"
    assert commands_of(text) == ["python lab.py run", "pip install a", "python lab.py"]


@pytest.mark.parametrize(
    "command",
    ["python lab.py tset", "make all", "python tools/nothing.py",
     "pip install -r nothing.txt", "python -m pip install torch==1.0", 'pip install -e ".[nothing]"'],
)  # fmt: skip
def test_a_wrong_command_is_found(command: str) -> None:
    assert problem_of(command) is not None


@pytest.mark.parametrize(
    "command",
    ["python lab.py test", "PIP_EXTRA_INDEX_URL=https://a.org/cpu python lab.py", "python lab.py --no-browser",
     "pip install -r requirements.txt -c constraints.txt", 'python -m pip install -e ".[hub]"', "jupyter lab",
     "git clone ADDRESS", "cd llm-lab", "python lab.py run 00"],
)  # fmt: skip
def test_a_right_command_passes(command: str) -> None:
    assert problem_of(command) is None


def test_package_commands_are_made_small() -> None:
    words = split("python -m llm_lab pretrain --corpus docs --steps 2000 --out runs/first")[1]
    assert smaller(words)[2:5] == ["pretrain", "--corpus", "docs"]
    assert smaller(words)[-8:] == ["--size", "tiny", "--num-layers", "1", "--steps", "3", "--corpus", TEXT]
    grammar = split("python -m llm_lab evaluate --corpus grammar-easy --model runs/first")[1]
    assert smaller(grammar)[2:] == grammar[3:]
    assert smaller(split("python -m llm_lab corpus docs --out x")[1])[2:] == ["corpus", TEXT, "--out", "x"]
    torchrun = split("torchrun --nproc-per-node 2 -m llm_lab pretrain --out x")[1]
    assert smaller(torchrun)[:6] == ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "llm_lab"]
