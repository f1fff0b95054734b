"""The import rules of the package, its sizes and its docstrings, read from the source with ast.

A folder of the package (text, model, train, tasks, checks) is one part; every other module is a part of its own.
"""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "llm_lab"
LEAVES = {"config", "home"}  # everyone may import them; they import nothing of ours
MAY_IMPORT = {
    "text": LEAVES,
    "model": LEAVES,
    "train": LEAVES,
    "metrics": LEAVES,
    "tasks": {"text", "model", "train", "metrics"} | LEAVES,
    "config": set(),
    "home": set(),
}
ONLY_IMPORTED_BY = {"cli": {"__main__"}, "checks": {"cli"}}
AROUND = {"lab", "tools", "tests", "benchmarks", "exercises"}
DEPTH, LINES = 6, 330


def modules_of(package: Path) -> dict[str, Path]:
    """Return every module below the package's folder, by its dotted name."""
    names = {}
    for path in sorted(package.rglob("*.py")):
        parts = [package.name, *path.relative_to(package).with_suffix("").parts]
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imports_of(name: str, path: Path, modules: dict[str, Path]) -> set[str]:
    """Return our own modules that a module imports anywhere in its text, as dotted names."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            # `from package import module` imports the module; `from module import name` the module itself
            found |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in modules else base for alias in node.names}
    return {module for module in found if module in modules and module != name}


def part_of(module: str) -> str:
    """Return the part of the package to which a module belongs: `text` for `llm_lab.text.masking`."""
    return (module.split(".") + [""])[1]


def graph_of(package: Path) -> dict[str, set[str]]:
    """Return, for each module, our own modules that it imports."""
    modules = modules_of(package)
    return {name: imports_of(name, path, modules) for name, path in modules.items()}


def forbidden_imports(graph: dict[str, set[str]]) -> list[str]:
    """Return a sentence for each import between two parts that the rules forbid."""
    wrong = []
    for importer, targets in graph.items():
        for target in targets:
            a, b = part_of(importer), part_of(target)
            if a == b or b == "":
                continue
            allowed = b in MAY_IMPORT.get(a, {b}) and a in ONLY_IMPORTED_BY.get(b, {a})
            if not allowed:
                wrong.append(f"{importer} imports {target}")
    return sorted(wrong)


def depth_of(graph: dict[str, set[str]]) -> tuple[int, list[str]]:
    """Return the number of imports on the longest chain below the entry points, and the chain.

    The entry points __main__ and cli, which import everything, and the folders' __init__ files are not counted. Nor is
    checks, which only cli imports and whose lessons import what they ask about: its own chains have a test below.
    """
    entry = {f"{PACKAGE}.__main__", f"{PACKAGE}.cli"} | {module for module in graph if part_of(module) == "checks"}
    entry |= {folder for folder in graph if any(module.startswith(f"{folder}.") for module in graph)}

    @cache
    def longest(module: str) -> tuple[str, ...]:
        return max(((module, *longest(target)) for target in graph[module]), key=len, default=(module,))

    chain = max((longest(module) for module in graph if module not in entry), key=len, default=("",))
    return len(chain) - 1, list(chain)


def undocumented(path: Path) -> list[str]:
    """Return the public functions, classes and methods of a file that have no docstring, and the file without one."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    missing = [] if ast.get_docstring(tree) else [path.name]

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name[0] != "_":
                if not ast.get_docstring(node):
                    missing.append(f"{path.name}: {prefix}{node.name}")
                if isinstance(node, ast.ClassDef):
                    visit(node.body, f"{prefix}{node.name}.")

    visit(tree.body, "")
    return missing


MODULES = modules_of(ROOT / PACKAGE)
OURS = [*MODULES.values(), ROOT / "lab.py", *sorted((ROOT / "tools").glob("*.py"))]


def test_the_parts_import_only_what_they_may() -> None:
    assert not forbidden_imports(graph_of(ROOT / PACKAGE))


def test_there_is_no_cycle() -> None:
    tuple(TopologicalSorter(graph_of(ROOT / PACKAGE)).static_order())  # raises CycleError with the cycle


def test_the_chains_are_short() -> None:
    depth, chain = depth_of(graph_of(ROOT / PACKAGE))
    assert depth <= DEPTH, " -> ".join(chain)


def test_the_chains_among_the_checks_are_short() -> None:
    checks = {name: targets for name, targets in graph_of(ROOT / PACKAGE).items() if part_of(name) == "checks"}
    own = {name: {target.replace("checks", "own") for target in checks[name] & set(checks)} for name in checks}
    own = {name.replace("checks", "own"): targets for name, targets in own.items()}
    depth, chain = depth_of(own)
    assert 1 <= depth <= DEPTH, " -> ".join(chain)


def test_the_package_imports_nothing_of_the_repository_around_it() -> None:
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not {name.split(".")[0] for name in names} & AROUND, path


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_is_one_readable_concept(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LINES
    assert not undocumented(path)


def test_every_module_has_its_test_file() -> None:
    """A module text/masking.py is tested in tests/text/test_masking.py or in tests/test_masking.py.

    One file, tests/checks/test_exercises.py, tries the exercises of all lessons.
    """
    tests = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    tests |= {f"test_{path.stem}.py" for path in (ROOT / PACKAGE / "checks" / "lessons").glob("lesson_[0-9][0-9]_*.py")}
    missing = [name for name, path in MODULES.items() if needs_tests(path) and f"test_{path.stem}.py" not in tests]
    assert not missing


def needs_tests(path: Path) -> bool:
    """Tell whether a module defines anything: an empty __init__ and the two lines of __main__ need no test file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in tree.body)


# ---------------------------------------------------------------------------------------- the rules can be broken


def package_with(folder: Path, files: dict[str, str]) -> dict[str, set[str]]:
    """Write a small package and return its graph."""
    for name, text in files.items():
        path = folder / PACKAGE / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return graph_of(folder / PACKAGE)


@pytest.mark.parametrize(
    "line",
    ["from llm_lab.model.encoder import x", "from llm_lab.model import encoder", "import llm_lab.model.encoder"],
)
def test_a_forbidden_import_is_found(tmp_path: Path, line: str) -> None:
    hidden = f"def late():\n    {line}\n"
    graph = package_with(tmp_path, {"model/encoder": "", "text/corpus": hidden, "tasks/fill": line})
    assert forbidden_imports(graph) == ["llm_lab.text.corpus imports llm_lab.model.encoder"]


def test_a_forbidden_relative_import_is_found(tmp_path: Path) -> None:
    graph = package_with(
        tmp_path,
        {"train/loop": "from ..text.corpus import x", "text/corpus": "from . import files", "text/files": ""},
    )
    assert forbidden_imports(graph) == ["llm_lab.train.loop imports llm_lab.text.corpus"]
    assert graph["llm_lab.text.corpus"] == {"llm_lab.text.files"}


def test_only_the_entry_points_import_cli_and_checks(tmp_path: Path) -> None:
    both = "from llm_lab import cli\nfrom llm_lab import checks\n"
    graph = package_with(
        tmp_path,
        {"cli": "import llm_lab.checks", "plots": both, "checks/__init__": "", "__main__": "import llm_lab.cli"},
    )
    assert forbidden_imports(graph) == ["llm_lab.plots imports llm_lab.checks", "llm_lab.plots imports llm_lab.cli"]


def test_a_leaf_imports_nothing_of_ours(tmp_path: Path) -> None:
    graph = package_with(tmp_path, {"home": "", "config": "from llm_lab import home", "text/a": "from ..home import x"})
    assert forbidden_imports(graph) == ["llm_lab.config imports llm_lab.home"]


def test_a_cycle_is_found(tmp_path: Path) -> None:
    graph = package_with(tmp_path, {"text/a": "from llm_lab.text.b import x", "text/b": "from llm_lab.text.a import y"})
    with pytest.raises(CycleError):
        tuple(TopologicalSorter(graph).static_order())


def test_a_deep_chain_is_found(tmp_path: Path) -> None:
    files = {f"text/m{i}": f"from llm_lab.text.m{i + 1} import x" for i in range(DEPTH + 1)}
    depth, chain = depth_of(package_with(tmp_path, {**files, f"text/m{DEPTH + 1}": ""}))
    assert depth == DEPTH + 1 and len(chain) == DEPTH + 2


def test_the_init_file_that_opens_a_folder_is_not_counted(tmp_path: Path) -> None:
    files = {"text/__init__": "from llm_lab.text.a import x", "text/a": "from llm_lab.text.b import x", "text/b": ""}
    assert depth_of(package_with(tmp_path, files)) == (1, ["llm_lab.text.a", "llm_lab.text.b"])


def test_a_missing_docstring_is_found(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text('"""A file."""\nclass A:\n    """A class."""\n    def b(self): ...\n    def _c(self): ...\n')
    assert undocumented(file) == ["a.py: A.b"]
