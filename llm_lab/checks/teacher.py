"""What a reader calls: `check`, `hint`, `show_me` and `progress`. They print their words, and keep what was reached."""

from __future__ import annotations

import textwrap
from typing import Any

from llm_lab.checks import answers, record
from llm_lab.checks.code import Write
from llm_lab.checks.compare import as_number
from llm_lab.checks.exercise import NOT_STARTED, Exercise, Verdict
from llm_lab.checks.picture import show_difference
from llm_lab.checks.predictions import calibration
from llm_lab.checks.registry import exercises, find
from llm_lab.checks.sources import source_of

WIDTH = 110
BEST = 5  # runs of a design that are shown


def say(text: str) -> None:
    """Print a text in lines that fit. A blank line begins a new paragraph; indented lines stay as they are."""
    paragraph: list[str] = []
    for line in [*text.splitlines(), ""]:
        if line.strip() and not line.startswith("  "):
            paragraph.append(line.strip())
            continue
        if paragraph:
            print(textwrap.fill(" ".join(paragraph), WIDTH))
            paragraph = []
        if line.strip():
            print(line)


def check(id: str, answer: Any) -> Verdict:
    """Look at an answer, say in words what it is, and keep what passed."""
    exercise = find(id)
    verdict = exercise.judge(answer)
    say(f"{id}: {verdict.message}")
    if verdict.mistake == NOT_STARTED:
        return verdict
    show_difference(verdict.drawn)
    if verdict.score is not None:
        _enter(exercise, answer, verdict.score)
    record.add_try(id, verdict.passed, verdict.mistake, as_number(answer))
    if verdict.passed:
        _keep(exercise, answer)
    elif record.of_exercise(id)["tries"] >= 2:
        _point_to_hints(id)
    return verdict


def _keep(exercise: Exercise, answer: Any) -> None:
    if isinstance(exercise, Write):
        problem = answers.keep(exercise.id, answer)
        say(problem or f"Your code is kept: answers.load({exercise.id!r}) brings it back.")


def _enter(exercise: Exercise, answer: Any, score: float) -> None:
    """Enter a measured run into the reader's leaderboard, and print its best."""
    runs = record.add_run(exercise.id, score, source_of(answer) or "")
    for rank, run in enumerate(runs[:BEST], 1):
        mark = "  <- this one" if run["number"] == len(runs) else ""
        print(f"  {rank}. {run['score']:.3f}   your run {run['number']}{mark}")


def _point_to_hints(id: str) -> None:
    read = record.of_exercise(id)["hints"]
    say(f"hint({id!r}) says more ({3 - read} of 3 left)." if read < 3 else f"show_me({id!r}) explains the answer.")


def hint(id: str) -> None:
    """Print the next hint; there are three, each of which says more than the last."""
    exercise = find(id)
    read = record.of_exercise(id)["hints"]
    if read == 3:
        for number, text in enumerate(exercise.hints, 1):
            say(f"{id}, hint {number} of 3: {text}")
        say(f"That was all; show_me({id!r}) explains the answer.")
        return
    say(f"{id}, hint {read + 1} of 3: {exercise.hints[read]}")
    record.change(id, hints=read + 1)


def evidence(id: str) -> None:
    """Print or draw what an exercise asks you to look at."""
    look = find(id).evidence
    if look is None:
        raise ValueError(f"{id} has no evidence to look at: its card says all.")
    look()


def show_me(id: str) -> None:
    """Explain the answer, and show it: after three hints, or when the exercise is passed."""
    exercise, kept = find(id), record.of_exercise(id)
    left = 3 - kept["hints"]
    if left and not kept["passed"]:
        say(f"{id}: there {'is a hint' if left == 1 else f'are {left} hints'} left; hint({id!r}) gives the next.")
        return
    say(f"{id}: {exercise.explanation}")
    print()
    print(exercise.shown())


def progress() -> None:
    """Print what is passed, lesson by lesson, and how near predictions were."""
    by_lesson: dict[str, list[bool]] = {}
    for exercise in exercises():
        by_lesson.setdefault(exercise.lesson, []).append(record.of_exercise(exercise.id)["passed"])
    for lesson, passed in by_lesson.items():
        bar = "#" * sum(passed) + "." * (len(passed) - sum(passed))
        print(f"lesson {lesson}   {bar:12} {sum(passed)} of {len(passed)}")
    every = [one for passed in by_lesson.values() for one in passed]
    print(f"together    {sum(every)} of {len(every)} exercises passed")
    left = next((one for one in exercises() if not record.of_exercise(one.id)["passed"]), None)
    if left is not None:
        print(f"next        {left.id}: {left.title} ({left.minutes} minutes)")
    say(str(calibration()))
