"""Reading docstrings with `ast`, compared with importing the module and with files written here."""

import ast
import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llm_lab.text import documentation
from llm_lab.text.cleaning import clean
from llm_lab.text.documentation import LIBRARIES, installed_versions, read_documentation, read_file, source_files


def silent(_line: str) -> None:
    pass


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def fake_library(tmp_path, monkeypatch):
    """A package on the path that fails when it is imported, known as the library `fake`."""
    write(tmp_path / "fakelib/__init__.py", '"""The first module of the package is this."""\nraise SystemExit(3)\n')
    write(tmp_path / "fakelib/zeta.py", '"""The last module of the package is this."""\n')
    write(
        tmp_path / "fakelib/alpha.py",
        'class Thing:\n    """This is a thing of the package."""\n'
        '    def use(self):\n        """Use the thing for a while.\n\n'
        '        This is a thing of the package.\n        """\n'
        "        def inner():\n            '''Do the work on the inside.'''\n",
    )
    write(tmp_path / "fakelib/tests/test_alpha.py", '"""This is a test and not in the corpus."""\n')
    write(tmp_path / "fakelib/_vendor/other.py", '"""This is a copy and not in the corpus."""\n')
    write(tmp_path / "fakelib/broken.py", '"""This file is not for this Python."""\ndef (:\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(LIBRARIES, "fake", ("fakelib",))
    return tmp_path


def test_a_package_is_read_in_order_without_tests_copies_and_repeats(fake_library):
    documents = read_documentation(["fake"], silent)
    assert [(d.module, d.name, d.kind, d.text) for d in documents] == [
        ("fakelib", "fakelib", "module", "The first module of the package is this."),
        ("fakelib.alpha", "fakelib.alpha.Thing", "class", "This is a thing of the package."),
        ("fakelib.alpha", "fakelib.alpha.Thing.use", "function", "Use the thing for a while."),
        ("fakelib.alpha", "fakelib.alpha.Thing.use.inner", "function", "Do the work on the inside."),
        ("fakelib.zeta", "fakelib.zeta", "module", "The last module of the package is this."),
    ]
    assert {d.library for d in documents} == {"fake"}
    assert "fakelib" not in sys.modules


def public_objects(module):
    """Yield what the module defines: itself, its functions, its classes and their methods."""
    yield module.__name__, module
    for name, value in vars(module).items():
        if inspect.isfunction(value) and value.__module__ == module.__name__ and value.__name__ == name:
            yield f"{module.__name__}.{name}", value
        if inspect.isclass(value) and value.__module__ == module.__name__ and value.__name__ == name:
            yield f"{module.__name__}.{name}", value
            for inner, method in vars(value).items():
                if inspect.isfunction(method) and method.__name__ == inner:
                    yield f"{module.__name__}.{name}.{inner}", method


@pytest.mark.parametrize("name", ["textwrap", "shlex", "fractions", "string"])
def test_ast_finds_the_docstrings_that_importing_finds(name):
    module = importlib.import_module(name)
    expected = {key: clean(value.__doc__) for key, value in public_objects(module) if value.__doc__}
    found = {f[2]: f[4] for f in read_file((module.__file__, "python", name))}
    for key, paragraphs in expected.items():
        assert found.get(key, []) == paragraphs, key
    assert len([key for key in expected if key in found]) >= 2


def test_calls_that_document_compiled_functions_are_read(tmp_path):
    path = write(
        tmp_path / "docs.py",
        'add_docstr(torch.abs, r"""Computes the absolute value of each element.""" + "x")\n'
        'add_newdoc("numpy", "array", """Create an array from a list of values.""")\n'
        'add_newdoc("numpy", "flatiter", ("copy", """Get a copy of the iterator as an array."""))\n'
        'print("This is only a message for the reader.", """And this is another one.""")\n',
    )
    found = read_file((str(path), "numpy", "docs"))
    assert [(f[2], f[4]) for f in found] == [
        ("docs.torch.abs", [["Computes the absolute value of each element."]]),
        ("docs.array", [["Create an array from a list of values."]]),
        ("docs.flatiter.copy", [["Get a copy of the iterator as an array."]]),
    ]


def test_the_topics_of_help_are_documents():
    topics = source_files("python")[-1]
    found = read_file(topics)
    assert {f[3] for f in found} == {"topic"}
    names = {f[2] for f in found}
    assert {"assert", "for", "lambda"} <= names
    tree = ast.parse(Path(topics[0]).read_text(encoding="utf-8"))
    assert names <= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}


def test_a_file_that_is_not_python_gives_nothing(tmp_path):
    path = tmp_path / "broken.py"
    path.write_bytes(b'"""\xff\xfe\x00 nothing"""')
    assert read_file((str(path), "fake", "broken")) == []
    assert read_file((str(tmp_path / "missing.py"), "fake", "missing")) == []


def test_source_files_of_the_standard_library_are_sorted_and_without_tests():
    modules = [module for _, _, module in source_files("python")]
    assert modules[:-1] == sorted(modules[:-1])
    assert {"json.decoder", "argparse", "asyncio"} <= set(modules)
    assert not [m for m in modules if {"test", "tests", "idlelib", "lib2to3"} & set(m.split("."))]


def test_versions_come_without_an_import_and_without_missing_libraries(monkeypatch):
    monkeypatch.setitem(LIBRARIES, "no-such-library-anywhere", ("nothing",))
    versions = installed_versions(["numpy", "python", "no-such-library-anywhere"])
    assert list(versions) == ["python", "numpy"]
    import numpy

    assert versions["numpy"] == numpy.__version__


def test_only_what_the_requirements_bring_is_read():
    developer = {"transformers", "datasets", "pandas", "hypothesis", "pytest", "ruff", "mypy", "scipy"}
    assert developer.isdisjoint(LIBRARIES)


def test_no_sentence_occurs_twice_and_the_result_is_the_same_again():
    first = read_documentation(["click", "traitlets"], silent)
    lines = [line for d in first for line in d.text.split("\n")]
    assert len(lines) == len(set(lines))
    assert first == read_documentation(["click", "traitlets"], silent)
    assert sum(len(d.text.split()) for d in first) > 10_000


def test_processes_and_no_processes_read_the_same(monkeypatch):
    alone = monkeypatch.context
    with alone() as patch:
        patch.setattr(documentation, "_workers_are_safe", lambda: False)
        serial = read_documentation(["jinja2", "httpcore", "filelock"], silent)

    class NoPool:
        def __init__(self, *_args, **_kwargs):
            raise OSError("no semaphores on this machine")

    with alone() as patch:
        patch.setattr(documentation, "ProcessPoolExecutor", NoPool)
        patch.setattr(documentation.os, "cpu_count", lambda: 2)
        fallback = read_documentation(["jinja2", "httpcore", "filelock"], silent)
    with alone() as patch:
        patch.setattr(documentation, "FILES_A_JOB", 30)
        patch.setattr(documentation.os, "cpu_count", lambda: 2)
        patch.setattr(documentation, "_workers_are_safe", lambda: True)
        parallel = read_documentation(["jinja2", "httpcore", "filelock"], silent)
    assert serial == fallback == parallel


def test_progress_says_how_much_is_left(monkeypatch):
    clock = iter(range(0, 10_000, 3))
    monkeypatch.setattr(documentation.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(documentation, "_workers_are_safe", lambda: False)
    monkeypatch.setattr(documentation, "FILES_A_JOB", 10)
    lines: list[str] = []
    read_documentation(["tornado"], lines.append)
    assert lines and all("files" in line and "words" in line and "s left" in line for line in lines)


def test_a_plain_script_without_a_guard_can_build(tmp_path):
    """A worker process would run such a script again; it must not get that far."""
    script = write(
        tmp_path / "script.py",
        "from llm_lab.text.documentation import read_documentation\n"
        "print('started')\n"
        "print(len(read_documentation(['fsspec', 'jsonschema'], lambda line: None)))\n",
    )
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("started") == 1


def test_torch_is_not_imported():
    root = Path(__file__).resolve().parents[2]
    code = (
        "import sys, llm_lab.text.corpus, llm_lab.text.documentation as d; d.source_files('torch');"
        "assert not {'torch', 'numpy', 'datasets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, timeout=60)
