"""Execute notebooks from a fresh kernel and keep their outputs.

    python tools/execute_notebooks.py                         every lesson, in place (what a maintainer commits)
    python tools/execute_notebooks.py notebooks/03_*.ipynb    only these, in place
    python tools/execute_notebooks.py --into runs/notebooks 00 03    into another folder (what `lab.py run` does)

In place, LLM_LAB_HOME is a clean folder, so that nobody's own runs get into the committed outputs.
"""

import argparse
import base64
import io
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import lab


def clean(notebook: NotebookNode) -> None:
    """Drop, in place, what differs between two equal runs: widget state, timings, versions, looks of the editor."""
    notebook.metadata = NotebookNode(
        kernelspec={"name": "python3", "display_name": "Python 3", "language": "python"},
        language_info={"name": "python", "file_extension": ".py", "mimetype": "text/x-python"},
    )
    for cell in notebook.cells:
        kept = {key: cell.metadata[key] for key in ("tags", "jupyter") if key in cell.metadata}
        cell.metadata = NotebookNode(kept)
        cell.pop("attachments", None) if cell.cell_type == "code" else None
        for output in cell.get("outputs", []):
            output.pop("transient", None)
            if "metadata" in output:
                output.metadata = NotebookNode()
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = fewer_colours(output.data["image/png"])


def fewer_colours(picture: str) -> str:
    """Return a PNG, in base64, with a palette of 256 colours: a drawn figure looks the same in a third of the bytes."""
    image = Image.open(io.BytesIO(base64.b64decode(picture)))
    if image.mode == "P":
        return picture
    buffer = io.BytesIO()
    image.convert("RGB").quantize(256).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def execute(path: Path, target: Path) -> str | None:
    """Execute one notebook in its own folder and write it to the target; return what went wrong, or None.

    A notebook that fails is still written to another target, for reading, but never over itself.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],  # the kernel's own remarks are no output of ours
        resources={"metadata": {"path": str(path.parent)}},
    )
    problem = None
    try:
        client.execute()
    except (CellExecutionError, DeadKernelError) as error:
        problem = str(error)
    if problem is None or target != path:
        clean(notebook)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".part")
        nbformat.write(notebook, part)
        part.replace(target)
    return problem


def chosen(names: list[str]) -> list[Path]:
    """Return the notebooks whose path is given or whose file name starts so; all lessons without a name."""
    lessons = sorted((ROOT / "notebooks").glob("*.ipynb"))
    if not names:
        return lessons
    paths = []
    for name in names:
        matches = [Path(name).resolve()] if name.endswith(".ipynb") else [p for p in lessons if p.name.startswith(name)]
        if not matches or not matches[0].exists():
            raise SystemExit(f"There is no notebook {name}; give a path, or the number of a lesson such as 00.")
        paths += matches
    return paths


def main() -> int:
    """Execute the notebooks one after the other; return 1 when one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", help="paths, or numbers of lessons; every lesson when none is given")
    parser.add_argument("--into", type=Path, help="folder for the results; without it, the notebooks themselves")
    parser.add_argument("--fast", action="store_true", help="set LLM_LAB_FAST=1: every lesson takes seconds")
    options = parser.parse_args()
    if options.fast:
        os.environ["LLM_LAB_FAST"] = "1"
    if options.into is None:
        os.environ["LLM_LAB_HOME"] = lab.fresh_home("execute")
    failures = 0
    paths = chosen(options.notebooks)
    for number, path in enumerate(paths, start=1):
        print(f"[{number}/{len(paths)}] {path.name} ...", end=" ", flush=True)
        begin = time.perf_counter()
        problem = execute(path, path if options.into is None else options.into.resolve() / path.name)
        print(f"{'failed' if problem else 'done'} in {time.perf_counter() - begin:.0f} s", flush=True)
        if problem:
            failures += 1
            print(problem, file=sys.stderr)
    if options.into is not None:
        print(f"The results are in {options.into}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
