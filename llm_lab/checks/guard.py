"""Runs a reader's code and survives it: endless loops, exceptions, prints, draws from the global generators.

An endless loop is ended by the system's alarm where there is one (Unix, main thread), else by an exception that is
thrown into a thread of its own.
"""

from __future__ import annotations

import ctypes
import io
import linecache
import random
import signal
import sys
import sysconfig
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor

RING_AGAIN = 0.2  # seconds: an answer may catch the first alarm
SEED = 20_241  # of the global generators during a call; nobody's first thought
FIRST_OF_NUMPY, FIRST_OF_PYTHON = np.random.RandomState(SEED).random_sample(), random.Random(SEED).random()
PACKAGE = str(Path(__file__).resolve().parent.parent)
LIBRARIES = tuple(sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib"))

# the code of a function whose body is only `pass` or `...`, without and with a docstring
EMPTY = [compile(f"def f():{body}", "", "exec").co_consts[0].co_code for body in (" pass", "\n '.'\n pass")]

_keeping = False  # whether a block below puts the generators back already


class TimeIsUp(BaseException):
    """The alarm. No Exception, so that `except Exception` in an answer lets it through."""


@dataclass
class Outcome:
    """What came of one call: a value, an error, or the alarm."""

    value: Any = None
    error: BaseException | None = None
    line: str = ""  # of the reader's code, where the error arose
    timed_out: bool = False
    drew: bool = False  # from a global generator, or seeded one
    spoiled: bool = False  # its input is not what it was
    seconds: float = 0.0
    printed: str = ""


class ReturnsNothing(Exception):
    """The answer returned None."""


class Watched:
    """A reader's function. Each call gets copies of its arguments, so that nobody else suffers from what it does."""

    def __init__(self, answer: Callable[..., Any]):
        self.answer, self.spoiled = answer, False

    def __call__(self, *arguments: Any) -> Any:
        """Call the function, and see whether it changed what it was given."""
        given = copied(arguments)
        result = self.answer(*given)
        self.spoiled = self.spoiled or changed(arguments, given)
        if result is ...:
            raise NotImplementedError
        if result is None:
            raise ReturnsNothing
        return result


def run(call: Callable[[], Any], seconds: float, own_thread: bool | None = None) -> Outcome:
    """Call a function; it has so many seconds. Afterwards the global generators are as they were before.

    They are seeded during the call, so that an answer that draws from them gives the same result twice.
    """
    if own_thread is None:
        main = threading.current_thread() is threading.main_thread()
        own_thread = not (main and hasattr(signal, "setitimer"))
    outcome, printed, begin = Outcome(), io.StringIO(), time.perf_counter()
    with generators_kept(), redirect_stdout(printed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seeded = _seed()
        (_in_a_thread if own_thread else _under_the_alarm)(lambda: _call(call, outcome), outcome, seconds)
        outcome.drew = _touched(seeded)
    outcome.seconds, outcome.printed = time.perf_counter() - begin, printed.getvalue()
    return outcome


def _call(call: Callable[[], Any], outcome: Outcome) -> None:
    try:
        outcome.value = kept(call())
    except (Exception, SystemExit) as error:
        outcome.error, outcome.line = error, line_of(error)


def _under_the_alarm(call: Callable[[], None], outcome: Outcome, seconds: float) -> None:
    armed, rings, tracing = True, 0, sys.gettrace()

    def ring(_signal: int, frame: FrameType | None) -> None:
        nonlocal rings
        if armed:
            rings += 1
            if rings > 1:  # somebody caught the first: raise once more in the line that follows, outside of its try
                _trace(frame)
            raise TimeIsUp

    def stop() -> None:
        nonlocal armed
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        if rings > 1:
            sys.settrace(tracing)

    before = signal.signal(signal.SIGALRM, ring)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3), RING_AGAIN)
            call()
        finally:
            stop()
    except TimeIsUp:  # it may ring in the lines above, too: hence two levels
        stop()
        outcome.timed_out = True
    signal.signal(signal.SIGALRM, before)


def _trace(frame: FrameType | None) -> None:
    """Raise at the next line of these frames, whatever it is."""

    def raise_at_line(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line" and not frame.f_code.co_filename.startswith(PACKAGE):
            raise TimeIsUp
        return raise_at_line

    sys.settrace(raise_at_line)
    while frame is not None and not frame.f_code.co_filename.startswith(PACKAGE):
        frame.f_trace = raise_at_line
        frame = frame.f_back


def _in_a_thread(call: Callable[[], None], outcome: Outcome, seconds: float) -> None:
    def work() -> None:
        try:
            call()
        except TimeIsUp:
            pass

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    outcome.timed_out = thread.is_alive()
    for _ in range(10):  # a thread that still lives after two more seconds is left alone
        if not thread.is_alive():
            return
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(TimeIsUp))
        thread.join(RING_AGAIN)


@contextmanager
def generators_kept() -> Iterator[None]:
    """Put the global generators of torch, NumPy and Python back when the block ends. Costs half a millisecond."""
    global _keeping
    if _keeping:
        yield
        return
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    _keeping = True
    try:
        yield
    finally:
        _keeping = False
        torch.set_rng_state(before[0])
        np.random.set_state(before[1])
        random.setstate(before[2])


def _seed() -> Tensor:
    torch.default_generator.manual_seed(SEED)
    np.random.seed(SEED)
    random.seed(SEED)
    return torch.get_rng_state()


def _touched(seeded: Tensor) -> bool:
    """Tell whether a generator has moved since it was seeded: by its state, or by its next number, which is quicker."""
    moved = np.random.random() != FIRST_OF_NUMPY or random.random() != FIRST_OF_PYTHON
    return moved or not torch.equal(torch.get_rng_state(), seeded)


def kept(value: Any) -> Any:
    """A copy of a result that later calls can't change: tensors and arrays are cloned, containers rebuilt."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(kept, value))
    if isinstance(value, list | tuple):
        return type(value)(map(kept, value))
    if isinstance(value, Mapping):
        return {key: kept(part) for key, part in value.items()}
    return value


def copied(value: Any) -> Any:
    """A copy of an argument, in the same order in memory. What belongs to a graph, and objects, stay themselves."""
    if isinstance(value, Tensor) and not value.requires_grad and value.grad_fn is None:
        if value.is_contiguous() or 0 in value.stride():
            return value.clone()
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=value.device).copy_(value)
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, dict):
        return {key: copied(part) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(copied, value))
    return value


def changed(before: Any, after: Any) -> bool:
    """Tell whether tensors, arrays or numbers in an input are not what they were."""
    if isinstance(before, Tensor) and isinstance(after, Tensor):
        return before.shape != after.shape or before.dtype != after.dtype or not _same_values(before, after)
    if isinstance(before, np.ndarray) and isinstance(after, np.ndarray):
        return before.shape != after.shape or before.dtype != after.dtype or before.tobytes() != after.tobytes()
    if isinstance(before, list | tuple):
        return len(before) != len(after) or any(changed(a, b) for a, b in zip(before, after, strict=True))
    if isinstance(before, dict):
        return before.keys() != after.keys() or any(changed(before[key], after[key]) for key in before)
    return isinstance(before, bool | int | float | str | set) and before != after


def _same_values(one: Tensor, other: Tensor) -> bool:
    if one.dtype.is_floating_point:
        return torch.equal(one.nan_to_num(nan=0.1234), other.nan_to_num(nan=0.1234))
    return torch.equal(one, other)


def line_of(error: BaseException) -> str:
    """The line of the reader's own code in which an error arose: neither the package's nor a library's."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_library(frame.filename)]
    if not own:
        return ""
    frame = own[-1]
    source = frame.line or linecache.getline(frame.filename, frame.lineno or 0).strip()
    return f"line {frame.lineno} of {frame.name}: {source}" if source else f"line {frame.lineno} of {frame.name}"


def _is_library(filename: str) -> bool:
    return filename.startswith((PACKAGE, *LIBRARIES)) or filename == "<string>" or "site-packages" in filename


def describe(error: BaseException) -> str:
    """An error in one line, as Python prints it."""
    return "".join(traceback.format_exception_only(type(error), error)).strip().splitlines()[-1]


def told(outcome: Outcome) -> str:
    """The error of an outcome with the reader's line, where there is one."""
    assert outcome.error is not None
    return describe(outcome.error) + (f", in {outcome.line}" if outcome.line else "")


def is_stub(answer: Any, outcome: Outcome) -> bool:
    """Tell whether nobody has begun: it raises NotImplementedError, returns `...`, or has no body but a docstring."""
    if isinstance(outcome.error, NotImplementedError) or outcome.value is ...:
        return True
    code = getattr(answer, "__code__", None)
    return code is not None and code.co_code in EMPTY and code.co_consts in ((None,), (answer.__doc__, None))


def in_kernel() -> bool:
    """Tell whether a Jupyter kernel runs this, so that a figure has somewhere to go."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return get_ipython is not None and getattr(get_ipython(), "kernel", None) is not None
