"""What is kept of a reader: which exercises passed, predictions, the runs of design exercises.

Small JSON files in the folder `answers` of the reader's home. A damaged one is put aside, never overwritten.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llm_lab import home


def folder() -> Path:
    """Where the reader's answers are kept."""
    return home.root() / "answers"


def read(name: str) -> dict[str, Any]:
    """The content of a file such as "progress.json"; empty when there is none yet, or when it is damaged."""
    path = folder() / name
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and all(isinstance(value, dict | list) for value in content.values()):
            return content
    except (ValueError, OSError):
        pass
    aside = _free_name(path)
    path.rename(aside)
    print(f"{path.name} is damaged: it is kept as {aside.name}, and a new one is begun.")
    return {}


def _free_name(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.stem}.damaged-{number}{path.suffix}")).exists():
        number += 1
    return aside


def write(name: str, content: dict[str, Any]) -> None:
    """Replace the file as a whole, or leave it as it is. Raises OSError."""
    home.write_atomically(folder() / name, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())


def of_exercise(id: str) -> dict[str, Any]:
    """What is kept of one exercise: tries, passed, hints (how many were read), mistakes, first (the first number)."""
    fresh: dict[str, Any] = {"tries": 0, "passed": False, "hints": 0, "mistakes": [], "first": None}
    kept = read("progress.json").get(id, {})
    return {name: kept.get(name, default) for name, default in fresh.items()}


def change(id: str, **news: Any) -> None:
    """Keep something about an exercise."""
    entry = {**of_exercise(id), **news}
    write("progress.json", {**read("progress.json"), id: entry})


def add_try(id: str, passed: bool, mistake: str | None, number: float | None = None) -> None:
    """Keep that an exercise was tried. Once passed, it stays passed."""
    before = of_exercise(id)
    mistakes = before["mistakes"] + ([mistake] if mistake and mistake not in before["mistakes"] else [])
    first = number if before["first"] is None else before["first"]
    passed = passed or before["passed"]
    change(id, tries=before["tries"] + 1, passed=passed, mistakes=mistakes, first=first)


def add_run(id: str, score: float, source: str) -> list[dict[str, Any]]:
    """Add a run to the leaderboard of a design exercise. Returns all runs, the best first."""
    boards = read("leaderboard.json")
    runs = boards.setdefault(id, [])
    runs.append({"number": len(runs) + 1, "score": score, "source": source})
    write("leaderboard.json", boards)
    return sorted(runs, key=lambda run: (run["score"], run["number"]))
