"""The catalogue of wrong answers of an exercise, written as a text.

Each entry is a name, a reply, and the wrong answer: changes of the first right answer, or code of its own, or a value.

    # rounds down
    3.9 words become 3. `int()` and `//` cut; what does the card ask for?
    - .round()
    + .floor()

    # the first ids
    You take the special ids to be 0, 1, 2 and so on. In another tokenizer they stand elsewhere.
    def wrong(ids, special_ids):
        return ids >= len(special_ids)

    # the mask rate
    Not every token is a word, and not every target is masked.
    = 0.3

Old text (-) must stand exactly once in the right answer; an empty + drops it; several pairs may follow each other. A
line `of NAME` changes the right answer of that name instead of the first.
"""

from __future__ import annotations

import ast
import re
from typing import Any

from llm_lab.checks.exercise import Swap, Wrong
from llm_lab.config import require

ANSWER = re.compile(r"[-+=]( |$)|of |def |class |@|from |import ")


def catalogue(text: str) -> tuple[Wrong, ...]:
    """The entries of a catalogue. Raises ValueError with the name of an entry that can't be read."""
    entries = re.split(r"^# +", text.strip("\n"), flags=re.MULTILINE)
    require(not entries[0].strip(), f"a catalogue starts with a line `# name`, and not with {entries[0][:40]!r}.")
    return tuple(_entry(entry) for entry in entries[1:])


def _entry(text: str) -> Wrong:
    name, *lines = text.rstrip("\n").split("\n")
    first = next((i for i, line in enumerate(lines) if ANSWER.match(line)), len(lines))
    reply, answer = " ".join(" ".join(lines[:first]).split()), lines[first:]
    require(bool(reply), f"the wrong answer {name!r} has no reply: write it below its name.")
    require(bool(answer), f"the wrong answer {name!r} has no answer: changes (- and +), code, or a value (=).")
    return Wrong(name.strip(), reply, _answer(name, answer))


def _answer(name: str, lines: list[str]) -> Any:
    if lines[0].startswith("= "):
        return _value(lines[0][2:])
    if lines[0][:1] in "-+" or lines[0].startswith("of "):
        of = lines.pop(0)[3:].strip() if lines[0].startswith("of ") else ""
        return Swap(_pairs(name, lines), of)
    return "\n".join(lines) + "\n"


def _value(text: str) -> Any:
    """A number, or a letter as it stands."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text.strip()


def _pairs(name: str, lines: list[str]) -> tuple[tuple[str, str], ...]:
    """Runs of lines with - and + as pairs of texts, old and new."""
    runs: list[tuple[str, list[str]]] = []
    for line in lines:
        if not line:
            continue
        require(line[0] in "-+", f"the wrong answer {name!r}: {line!r} should start with - or +.")
        if not runs or runs[-1][0] != line[0]:
            runs.append((line[0], []))
        runs[-1][1].append(line[2:])
    require(
        [mark for mark, _ in runs] == ["-", "+"] * (len(runs) // 2),
        f"the wrong answer {name!r}: give - and + in pairs.",
    )
    texts = ["\n".join(part) for _, part in runs]
    return tuple(zip(texts[::2], texts[1::2], strict=True))
