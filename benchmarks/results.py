"""Files of results: `benchmarks/results/COMMAND-MACHINE-DATE.json`, one measurement a line.

`learning` goes on in the newest file of its machine, so that a command that was broken off is simply given again; the
others write today's, and a measurement with the same settings takes the place of the one before.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.machine import slug
from experiments.bench import Results, Run

FOLDER = Path(__file__).parent / "results"


class Measurements(Results):
    """The experiments' file of results, with the machine in full and a name that says where and when."""

    def __init__(self, command: str, about: dict[str, Any], folder: Path | None = None, go_on: bool = False):
        folder = FOLDER if folder is None else folder
        stem = f"{command}-{slug(about)}-"
        older = sorted(folder.glob(f"{stem}????-??-??.json")) if go_on else []
        name = older[-1].stem if older else stem + date.today().isoformat()
        super().__init__(name, folder)
        self.content["command"] = f"python -m benchmarks {command}"
        self.content.setdefault("machine", about)

    def add(self, run: Run) -> None:
        """Keep one measurement, at once."""
        self.content["date"] = self.path.stem[-10:]
        self.runs.append(run | {"date": date.today().isoformat()})
        self.save()

    def replace(self, run: Run, *key: str) -> None:
        """Keep a measurement in the place of an older one that has the same values under these names."""
        self.runs[:] = [old for old in self.runs if any(old.get(name) != run.get(name) for name in key)]
        self.add(run)


def newest(command: str, folder: Path | None = None) -> list[dict[str, Any]]:
    """The contents of the newest file of each machine, by machine."""
    folder = FOLDER if folder is None else folder
    found = {}
    for path in sorted(folder.glob(f"{command}-*-????-??-??.json"), key=lambda path: path.stem[-10:]):
        found[path.stem[:-11]] = json.loads(path.read_text(encoding="utf-8"))
    return [found[name] for name in sorted(found)]
