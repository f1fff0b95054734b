"""The reader's own labelled rows: a CSV file, or a JSONL file with one object a line.

Columns text and label: classification, one label for a text. Columns tokens and tags: tagging, one tag for each token;
lists in JSONL, separated by spaces in CSV. Other columns are ignored. Whatever can't be used is refused in one sentence
that names the file and the line.
"""

from __future__ import annotations

import csv
import io
import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

COLUMNS = {"classification": ("text", "label"), "tagging": ("tokens", "tags")}  # what is read, what is to be predicted


WORDS = re.compile(r"\w+(?:[.'’/-]\w+)*|[^\w\s]")


class LabelledError(ValueError):
    """A file of labelled rows that can't be used; the message names the line and says what to change."""


class LabelledNotFoundError(LabelledError, FileNotFoundError):
    """There is no such file."""


class Example(NamedTuple):
    """A text and its one label, or a tuple of tokens and a tag for each; without answers where they are to be found."""

    content: Any  # a str, or a tuple of them
    answers: tuple[str, ...] = ()
    line: int = 0  # where it stands in its file


def read_examples(path: Path | str) -> tuple[str, list[Example]]:
    """The task that a labelled file sets, classification or tagging, and its rows in order. Raises LabelledError."""
    path = Path(path)
    rows = _rows(path)
    task = next((name for name, columns in COLUMNS.items() if rows and set(columns) <= set(rows[0][1])), None)
    if task is None:
        line = 1 if path.suffix.lower() == ".csv" else rows[0][0]
        has = ", ".join(rows[0][1]) or "nothing"
        remedy = "name the columns text and label, or tokens and tags"
        _refuse(path, line, f"it has the columns {has}", remedy + (", with commas between them" if line == 1 else ""))
    return task, [_example(path, line, row, task, answered=True) for line, row in rows]


def read_inputs(path: Path | str, task: str) -> list[Example]:
    """The rows of a file whose answers are to be predicted: only text, or tokens, is read. Raises LabelledError."""
    path = Path(path)
    return [_example(path, line, row, task, answered=False) for line, row in _rows(path)]


def one_input(text: str, task: str) -> list[Example]:
    """A text given by itself as the only row; for tagging cut into words and signs. Raises LabelledError if empty."""
    if not text.strip():
        raise LabelledError("the text is empty: write one.")
    return [Example(text if task == "classification" else words_of(text))]


def read_parts(path: Path | str, held_out: str, seed: int) -> tuple[str, list[Example], list[Example]]:
    """The task that a file sets, the rows to learn from, and those to measure on.

    `held_out` is a share of the rows, or the path of a second file. Raises LabelledError.
    """
    task, examples = read_examples(path)
    try:
        share = float(held_out)
    except ValueError:
        other_task, tested = read_examples(held_out)
        if other_task != task:
            raise LabelledError(f"{held_out} is for {other_task}, {path} for {task}: give two of one kind.") from None
        require_learnable(path, examples, tested, held_out)
        return task, examples, tested
    if not 0 <= share < 1:
        raise LabelledError(f"--held-out is {held_out}: choose a share from 0 up to, not including, 1, or a file.")
    train, tested = split_examples(examples, share, seed)
    require_learnable(path, train, tested, path)
    return task, train, tested


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text, and each sign by itself; what joins two letters (torch.add, in-place) splits no word.

    >>> words_of("Call torch.add(x), please.")
    ('Call', 'torch.add', '(', 'x', ')', ',', 'please', '.')
    """
    return tuple(WORDS.findall(text))


def labels_of(examples: Sequence[Example]) -> tuple[str, ...]:
    """Every label or tag that occurs, sorted."""
    return tuple(sorted({answer for example in examples for answer in example.answers}))


def require_learnable(path: Path | str, train: Sequence[Example], held_out: Sequence[Example], tested: Any) -> None:
    """Raise LabelledError if there is nothing to tell apart, or if the held-out rows ask for what was never shown.

    `tested` names the file of the held-out rows.
    """
    labels = labels_of(train)
    if len(labels) < 2:
        line = train[0].line
        raise LabelledError(
            f"{path}, line {line} and all other rows to learn from have one label, {labels[0]!r}: give at least two."
        )
    for example in held_out:
        for answer in example.answers:
            if answer not in labels:
                raise LabelledError(
                    f"{tested}, line {example.line}: the label {answer!r} is in no row to learn from: "
                    f"add rows that have it to {path}, or leave this one out."
                )


def split_examples(examples: Sequence[Example], share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """Rows to learn from, and about this share of them held out, drawn for each label by itself; each in file order.

    Sentences with tags are drawn together. A label or tag keeps at least one row to learn from. Rows that share their
    wording (of one author, one page) should not stand on both sides: only the reader can know, so give a file instead.
    """
    draw = random.Random(seed)
    by_label: dict[str, list[int]] = {}
    for i, example in enumerate(examples):
        by_label.setdefault(example.answers[0] if isinstance(example.content, str) else "", []).append(i)
    chosen: set[int] = set()
    for label in sorted(by_label):
        chosen.update(draw.sample(by_label[label], round(share * len(by_label[label]))))
    shown = set(labels_of([example for i, example in enumerate(examples) if i not in chosen]))
    for i in sorted(chosen):  # what nothing else shows goes back
        if not shown.issuperset(examples[i].answers):
            chosen.remove(i)
            shown.update(examples[i].answers)
    kept = [example for i, example in enumerate(examples) if i not in chosen]
    return kept, [examples[i] for i in sorted(chosen)]


def balanced(examples: Sequence[Example], per_label: int, seed: int) -> list[Example]:
    """`per_label` rows of each label, drawn without replacement, in random order; all rows of a label with fewer.

    With one seed, the rows of a smaller draw are among those of a larger one.
    """
    draw, taken = random.Random(seed), Counter[str]()
    order = draw.sample(range(len(examples)), len(examples))
    kept = []
    for example in (examples[i] for i in order):
        taken[example.answers[0]] += 1
        if taken[example.answers[0]] <= per_label:
            kept.append(example)
    return kept


# -- one row ----------------------------------------------------------------------------------------------------------


def _example(path: Path, line: int, row: dict[str, Any], task: str, answered: bool) -> Example:
    read, wanted = COLUMNS[task]
    for column in (read, wanted) if answered else (read,):
        if row.get(column) is None:
            _refuse(path, line, f"the column {column!r} is missing", f"each row needs {column}")
    if task == "classification":
        content: Any = _text(path, line, read, row[read])
        answers = (_text(path, line, wanted, _plain(row[wanted])),) if answered else ()
        return Example(content, answers, line)
    content = _list(path, line, read, row[read])
    tags = _list(path, line, wanted, row[wanted]) if answered else ()
    if answered and len(content) != len(tags):
        _refuse(path, line, f"there are {len(content)} tokens and {len(tags)} tags", "give one tag for each token")
    return Example(content, tags, line)


def _plain(value: Any) -> Any:
    """A label as text: in JSON it may be a number."""
    return str(value) if isinstance(value, int) else value


def _text(path: Path, line: int, column: str, value: Any) -> str:
    if not isinstance(value, str):
        _refuse(path, line, f"the {column} is {json.dumps(value)[:40]}, no text", "put it in quotes")
    if not value.strip():
        _refuse(path, line, f"the {column} is empty", "fill it in, or leave the row out")
    return value.strip()


def _list(path: Path, line: int, column: str, value: Any) -> tuple[str, ...]:
    items = value.split() if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) and item.strip() for item in items):
        _refuse(path, line, f"the {column} are no list of words", "write them as a list of texts, none of them empty")
    if not items:
        _refuse(path, line, f"there are no {column}", "fill them in, or leave the row out")
    return tuple(items)


def _refuse(path: Path, line: int, what: str, remedy: str) -> NoReturn:
    raise LabelledError(f"{path}, line {line}: {what}: {remedy}.")


# -- from a file to rows ----------------------------------------------------------------------------------------------


def _rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Each row with the line on which it starts, counted from 1. Raises LabelledError, also when there is none."""
    readers = {".csv": _csv_rows, ".jsonl": _json_rows}
    if path.suffix.lower() not in readers:
        raise LabelledError(f"{path} is neither .csv nor .jsonl: give a file of one of these types.")
    rows = list(readers[path.suffix.lower()](path, _decoded(path)))
    if not rows:
        raise LabelledError(f"{path} has no rows: put one on each line{' after the first' * (path.suffix == '.csv')}.")
    return rows


def _decoded(path: Path) -> str:
    if not path.is_file():
        raise LabelledNotFoundError(f"there is no file {path}: check the path.")
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        _refuse(path, line, f"byte 0x{data[error.start]:02x} is not UTF-8", "save the file again as UTF-8")
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        _refuse(path, line, "a zero byte is no text", "save the file again as plain text in UTF-8")
    return text


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, written in enumerate(text.split("\n"), 1):  # not splitlines: JSON may hold other line separators
        if not written.strip():
            continue
        try:
            row = json.loads(written)
        except json.JSONDecodeError as error:
            _refuse(path, line, f"broken JSON ({error.msg} at character {error.pos + 1})", "write one object a line")
        if not isinstance(row, dict):
            _refuse(path, line, "the line is no JSON object", 'write {"text": ..., "label": ...}')
        yield line, row


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    line = 1
    try:
        for fields in reader:
            if header is None and fields:
                header = [name.strip() for name in fields]
            elif header is not None and fields:
                if len(fields) != len(header):
                    what = f"{len(fields)} columns, but the first line names {len(header)}"
                    _refuse(path, line, what, 'put a text that contains commas into "quotes"')
                yield line, dict(zip(header, fields, strict=True))
            line = reader.line_num + 1
    except csv.Error as error:
        _refuse(path, line, f"no CSV ({error})", 'write a quote inside of "quotes" twice')
