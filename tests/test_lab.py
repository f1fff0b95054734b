"""The set-up command: what it installs, when it installs again, and what it says when it can't."""

import ast
import os
import subprocess
import sys
import tomllib
from collections import namedtuple
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import lab

ROOT = Path(lab.ROOT)
COLAB = {  # August 2026; Colab has no need of JupyterLab
    "torch": "2.11.0", "numpy": "2.1.0", "matplotlib": "3.10.0", "tokenizers": "0.22.0", "safetensors": "0.5.3",
    "ipykernel": "6.17.1",
}  # fmt: skip


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point lab at a small copy of the course whose .venv, when it is made, starts no real pip."""
    for name in ("requirements.txt", "constraints.txt", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(lab, "ROOT", str(tmp_path))
    monkeypatch.setattr(lab, "VENV", str(tmp_path / ".venv"))
    return tmp_path


@pytest.fixture
def installs(course: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Replace the making of .venv and pip by fakes; return the list of pip's arguments, one a run."""
    runs: list[list[str]] = []

    def fake_make_venv() -> None:
        (course / ".venv" / "lib" / "python3.11" / "site-packages").mkdir(parents=True, exist_ok=True)
        python = Path(lab.venv_python())
        python.parent.mkdir(parents=True, exist_ok=True)
        python.touch()

    monkeypatch.setattr(lab, "make_venv", fake_make_venv)
    monkeypatch.setattr(lab, "pip_install", runs.append)
    return runs


# ---------------------------------------------------------------------------------------------- installing


def test_a_second_start_installs_nothing(installs: list[list[str]]) -> None:
    lab.install()
    lab.install()
    assert len(installs) == 1
    assert installs[0] == ["-r", "requirements.txt", "-c", "constraints.txt"]


def test_the_tests_need_more_and_bring_the_course_along(installs: list[list[str]]) -> None:
    lab.install("dev")
    assert any(name.startswith("pytest") for name in installs[0])
    lab.install()
    lab.install("dev")
    assert len(installs) == 1


def test_the_course_alone_is_not_enough_for_the_tests(installs: list[list[str]]) -> None:
    lab.install()
    lab.install("dev")
    assert len(installs) == 2


@pytest.mark.parametrize("name", ["requirements.txt", "constraints.txt", "pyproject.toml"])
def test_a_changed_file_installs_again(course: Path, installs: list[list[str]], name: str) -> None:
    lab.install()
    with open(course / name, "a", encoding="utf-8") as file:
        file.write("# changed\n")
    lab.install()
    assert len(installs) == 2


def test_another_python_installs_again(installs: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    lab.install()
    monkeypatch.setattr(lab.platform, "python_version", lambda: "3.12.99")
    lab.install()
    assert len(installs) == 2


def test_a_lost_python_installs_again(installs: list[list[str]]) -> None:
    lab.install()
    os.remove(lab.venv_python())
    lab.install()
    assert len(installs) == 2


def test_an_interrupted_installation_is_not_taken_for_complete(
    installs: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(arguments: list[str]) -> None:
        installs.append(arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lab, "pip_install", interrupted)
        with pytest.raises(KeyboardInterrupt):
            lab.install()
    assert not lab.is_installed()
    lab.install()
    assert len(installs) == 2 and lab.is_installed()


def test_half_installed_packages_are_forgotten(course: Path) -> None:
    packages = course / ".venv" / "lib" / "python3.11" / "site-packages"
    for name in ("whole-1.0.dist-info", "half-1.0.dist-info", "~ld"):
        (packages / name).mkdir(parents=True)
        (packages / name / "METADATA").touch()
    (packages / "whole-1.0.dist-info" / "INSTALLER").write_text("pip\n")
    lab.forget_half_installed()
    assert [path.name for path in packages.iterdir()] == ["whole-1.0.dist-info"]


def test_an_installation_starts_by_forgetting_them(course: Path, installs: list[list[str]]) -> None:
    half = course / ".venv" / "lib" / "python3.11" / "site-packages" / "half-1.0.dist-info"
    half.mkdir(parents=True)
    lab.install()
    assert not half.exists()


def test_the_package_is_importable_from_every_folder(course: Path, installs: list[list[str]]) -> None:
    lab.install()
    assert (course / ".venv/lib/python3.11/site-packages/llm_lab.pth").read_text() == f"{course}\n"


# ---------------------------------------------------------------------------------------------- the environment


def test_a_half_made_environment_is_made_anew(course: Path) -> None:
    python = Path(lab.venv_python())
    python.parent.mkdir(parents=True)
    python.touch()
    leftover = course / ".venv" / "leftover"
    leftover.touch()
    assert not lab.venv_works()
    lab.make_venv()
    assert lab.venv_works() and not leftover.exists()
    (installer,) = (course / ".venv").glob("lib/python3*/site-packages/pip-*/INSTALLER")
    installer.unlink()  # as when pip itself was half-installed
    assert not lab.venv_works()


def test_a_working_environment_is_kept(course: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "venv_works", lambda: True)
    monkeypatch.setattr(lab, "check_disk", lambda: pytest.fail("nothing is to be made"))
    lab.make_venv()
    assert not (course / ".venv").exists()


def test_an_environment_of_another_python_does_not_work(course: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "venv_python", lambda: sys.executable)
    assert lab.venv_works()
    monkeypatch.setattr(lab.sys, "version_info", (3, 99, 0))
    assert not lab.venv_works()


# ---------------------------------------------------------------------------------------------- what it says


@pytest.mark.parametrize("version, word", [((3, 6), "old"), ((3, 10, 13), "old"), ((3, 14), "new"), ((4, 0), "new")])
def test_a_wrong_python_is_named(version: tuple[int, ...], word: str) -> None:
    with pytest.raises(lab.LabError, match=rf"This is Python {version[0]}\.{version[1]}, which is too {word}"):
        lab.check_python(version)


@pytest.mark.parametrize("version", [(3, 11), (3, 12, 1), (3, 13, 9)])
def test_a_right_python_passes(version: tuple[int, ...]) -> None:
    lab.check_python(version)


def test_an_old_python_can_read_the_file() -> None:
    source = (ROOT / "lab.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 6))
    assert "from __future__ import annotations" not in source  # Python 3.6 does not know it


def test_only_the_standard_library_is_imported() -> None:
    tree = ast.parse((ROOT / "lab.py").read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert names <= sys.stdlib_module_names
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]


def test_a_missing_venv_module_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    with pytest.raises(lab.LabError, match=r"apt install python3\.\d+-venv"):
        lab.check_venv_module()


def test_a_full_disk_is_named_before_anything_is_made(course: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(lab.shutil, "disk_usage", lambda folder: Usage(9e9, 8e9, 1e9))
    with pytest.raises(lab.LabError, match=r"1\.0 GB are free .* needs about 2\.0 GB"):
        lab.install()
    assert not (course / ".venv").exists()


@pytest.mark.parametrize(
    "output, sentence",
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        ("tar: write error: No space left on device", "disk is full"),
        ("OSError: [WinError 112] There is not enough space on the disk", "disk is full"),
        ("OSError: [Errno 122] Disk quota exceeded", "disk is full"),
        ("WARNING: Retrying after connection broken by 'NewConnectionError(...)'", "registry can't be reached"),
        ("ERROR: Temporary failure in name resolution", "registry can't be reached"),
        ("ERROR: No matching distribution found for torch>=2.9", "no version for this computer"),
        ("ERROR: something else", "pip failed; the lines above say why"),
    ],
)
def test_a_failure_is_one_sentence(output: str, sentence: str) -> None:
    told = lab.explain_failure(output, "pip failed")
    assert sentence in told and told.endswith(".") and "\n" not in told


def test_pip_is_shown_and_its_failure_explained(
    course: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A real pip, whose only registry is a port where nobody listens."""
    monkeypatch.setattr(lab, "venv_python", lambda: sys.executable)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(lab.LabError, match="registry can't be reached"):
        lab.pip_install(["a-package-that-nobody-has"])
    assert "a-package-that-nobody-has" in capfd.readouterr().err


def run_lab(*arguments: str) -> subprocess.CompletedProcess:
    """Run the real command line in a process of its own."""
    return subprocess.run([sys.executable, "lab.py", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_an_unknown_command_is_one_sentence_and_status_2() -> None:
    result = run_lab("tset")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1 and "no command 'tset'" in result.stderr and "setup" in result.stderr


def test_an_option_too_many_is_one_sentence_and_status_2() -> None:
    result = run_lab("setup", "--now")
    assert result.returncode == 2 and result.stderr.count("\n") == 1


def test_help_names_every_command() -> None:
    result = run_lab("--help")
    assert result.returncode == 0
    assert all(f"lab.py {command}" in result.stdout for command in lab.COMMANDS if command != "start")


def test_errors_of_the_system_are_one_sentence(
    course: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_space(extra: str = "") -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lab, "install", no_space)
    assert lab.main(["setup"]) == 1
    assert "The disk is full" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------- starting and testing


def fake_call(calls: list, statuses: dict[str, int]):
    """Return a stand-in for lab.call that notes its arguments and fails where a status says so."""

    def call(arguments: list[str], **environment: str) -> int:
        calls.append((arguments, environment))
        return next((status for word, status in statuses.items() if word in arguments), 0)

    return call


def test_start_opens_the_first_lesson(installs: list, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list = []
    monkeypatch.setattr(lab, "call", fake_call(calls, {}))
    assert lab.main(["--no-browser"]) == 0
    assert calls == [(["-m", "jupyterlab", "--no-browser", lab.FIRST_LESSON], {})]


def test_ctrl_c_waits_for_the_program_and_then_stops() -> None:
    child = "import os, signal, time; os.kill(os.getppid(), signal.SIGINT); time.sleep(0.5); print('finished')"
    # A shell lets what it starts in the background ignore Ctrl-C, and children inherit that: listen, as in a terminal.
    listen = "import signal, sys, lab; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{listen}; lab.venv_python = lambda: sys.executable; lab.call(['-c', {child!r}]); print('went on')"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.stdout == "finished\n"
    assert "KeyboardInterrupt" in result.stderr


def test_every_step_runs_and_one_failure_fails_the_whole(
    course: Path, installs: list, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (course / "notebooks").mkdir()
    (course / "notebooks" / "00_start_here.ipynb").touch()
    calls: list = []
    monkeypatch.setattr(lab, "call", fake_call(calls, {"mypy": 1}))
    assert lab.main(["test"]) == 1
    assert len(calls) == 5
    summary = [line.split()[1:-2] for line in capsys.readouterr().out.splitlines()[-5:]]
    assert summary == [
        ["ruff", "passed"], ["types", "failed"], ["spelling", "passed"], ["unit", "tests", "passed"],
        ["notebooks", "passed"],
    ]  # fmt: skip
    monkeypatch.setattr(lab, "call", fake_call(calls, {}))
    assert lab.main(["test"]) == 0


def test_notebooks_are_tested_fast_and_without_anyones_runs(
    course: Path, installs: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    (course / "notebooks").mkdir()
    (course / "notebooks" / "00_start_here.ipynb").touch()
    for left in ("runs/old/metrics.jsonl", "data/cache/corpus.json"):
        (course / ".test" / "home" / left).parent.mkdir(parents=True)
        (course / ".test" / "home" / left).touch()
    calls: list = []
    monkeypatch.setattr(lab, "call", fake_call(calls, {}))
    lab.main(["test"])
    arguments, environment = calls[-1]
    assert "--nbval" in arguments and "notebooks" in arguments
    assert environment["LLM_LAB_FAST"] == "1"
    home = Path(environment["LLM_LAB_HOME"])
    assert not (home / "runs").exists() and (home / "data/cache/corpus.json").exists()


# ---------------------------------------------------------------------------------------------- the versions


def requirements() -> dict[str, Requirement]:
    """Return what a reader needs, by name."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return {parsed.name: parsed for parsed in map(Requirement, filter(lambda line: not line.startswith("#"), lines))}


def pins() -> dict[str, str]:
    """Return the tested versions, by name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_the_ranges_hold_colabs_versions() -> None:
    for name, version in COLAB.items():
        assert requirements()[name].specifier.contains(version), name


def test_the_pins_lie_in_the_ranges() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [Requirement(line) for group in project["optional-dependencies"].values() for line in group]
    for requirement in [*requirements().values(), *extras]:
        assert requirement.specifier.contains(pins()[requirement.name]), requirement


def test_the_range_of_python_is_written_once_in_two_ways() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    oldest, above = lab.OLDEST, (lab.NEWEST[0], lab.NEWEST[1] + 1)
    assert project["requires-python"] == ">={}.{},<{}.{}".format(*oldest, *above)


def test_ci_runs_the_test_command() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "python3 lab.py test" in script.read_text(encoding="utf-8").splitlines()
