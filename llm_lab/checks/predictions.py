"""A reader's predictions, from the lessons and from exercises, and how near to the truth they are."""

from __future__ import annotations

from dataclasses import dataclass

from llm_lab import lessons
from llm_lab.checks import record
from llm_lab.checks.number import Number
from llm_lab.checks.registry import exercises

FILE = "predictions.json"  # written by llm_lab.lessons, too


@dataclass(frozen=True)
class Calibration:
    """How many predictions were made, of how many the truth is known, and how near they came."""

    made: int
    known: int
    near: int  # within the tolerance that was stated, else within a tenth of the truth
    far: int  # off by more than half of the truth
    low: int
    high: int

    def __str__(self) -> str:
        if not self.made:
            return "Predictions: none yet; the lessons ask for them."
        text = f"Predictions: {self.made} made, the truth is known for {self.known}."
        if not self.known:
            return text
        text += f" {self.near} near it, {self.far} off by more than half; {self.low} too low, {self.high} too high."
        one_sided = max(self.low, self.high) >= 4 and max(self.low, self.high) >= 0.75 * (self.low + self.high)
        side = "low" if self.low > self.high else "high"
        return text + (f" You tend to guess too {side}." if one_sided else "")


def predict(question: str, value: float | None, truth: float | None = None, tolerance: float | None = None) -> None:
    """Keep the prediction for a question such as "06.1"; `None` asks for one. A new one replaces the old.

    With a `truth`, it is shown and kept beside the prediction; `tolerance` says what counts as near.
    """
    record.read(FILE)  # a damaged file is put aside here
    lessons.predict(question, value)
    if value is None or truth is None:
        return
    lessons.reveal(question, truth)
    if tolerance is not None:
        content = record.read(FILE)
        content[question]["tolerance"] = tolerance
        record.write(FILE, content)


def calibration() -> Calibration:
    """How near all predictions came: those of the lessons, and the first number given to each solved exercise."""
    content = [entry for entry in record.read(FILE).values() if isinstance(entry, dict) and "predicted" in entry]
    for exercise in exercises():
        if isinstance(exercise, Number) and exercise.kind == "predict":
            kept = record.of_exercise(exercise.id)
            if kept["passed"] and kept["first"] is not None:
                entry = {"predicted": kept["first"], "measured": exercise.truth, "tolerance": exercise.tolerance}
                content.append(entry)
    known = [entry for entry in content if "measured" in entry]
    errors = [(entry["predicted"] - entry["measured"], abs(entry["measured"]), entry) for entry in known]
    near = [abs(error) <= entry.get("tolerance", 0.1 * size) for error, size, entry in errors]
    return Calibration(
        made=len(content),
        known=len(known),
        near=sum(near),
        far=sum(abs(error) > 0.5 * size for error, size, _ in errors),
        low=sum(error < 0 for error, _, _ in errors),
        high=sum(error > 0 for error, _, _ in errors),
    )
