"""Progress: by a pretended clock, the numbers of the line are those of arithmetic."""

import sys

import pytest

from llm_lab.train import progress as module
from llm_lab.train.progress import Progress, clock


@pytest.fixture
def now(monkeypatch):
    """A clock that stands until it is set."""
    time = [100.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: time[0])
    return time


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.6, "1:00"), (75, "1:15"), (3599.4, "59:59"), (3600, "1:00:00"), (90_061, "25:01:01")],
)
def test_clock(seconds, text):
    assert clock(seconds) == text


def test_ten_lines_a_run_where_there_is_no_terminal(now, capsys):
    shown = Progress(steps=200, start=0)
    for step in range(1, 201):
        now[0] += 0.5
        shown.update(step, tokens=1000, loss=7 - step / 100)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert lines[0] == "step  20/200  loss 6.800  2,000 tokens/s  1:30 left"
    assert lines[-1] == "step 200/200  loss 5.000  2,000 tokens/s  1:40 in all"


def test_a_resumed_run_counts_its_own_steps(now, capsys):
    shown = Progress(steps=100, start=90)
    now[0] += 5
    shown.update(95, 500, 1.0, note="held out loss 1.500")
    assert capsys.readouterr().out == "step  95/100  loss 1.000  100 tokens/s  0:05 left  held out loss 1.500\n"


def test_a_run_of_three_steps_shows_each(now, capsys):
    shown = Progress(steps=3, start=0)
    for step in (1, 2, 3):
        now[0] += 1
        shown.update(step, 10, 1.0)
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_terminal_has_one_line_that_is_rewritten_twice_a_second(now, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    shown = Progress(steps=100, start=0)
    for step in range(1, 101):
        now[0] += 0.1
        shown.update(step, 10, 1.0, note="held out" if step == 50 else "")
    text = capsys.readouterr().out
    assert 15 <= text.count("\r") <= 21
    assert text.count("\n") == 2  # a note and the end stay
    assert all(len(line.rstrip("\n")) >= 78 for line in text.split("\r")[1:])  # the old line is covered


def test_silence_when_asked(now, capsys):
    shown = Progress(steps=2, start=0, show=False)
    now[0] += 1
    shown.update(1, 10, 1.0, note="note")
    shown.update(2, 10, 1.0)
    assert capsys.readouterr().out == ""
