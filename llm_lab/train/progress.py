"""One line that says how far a run is: step, loss, tokens/s and time left."""

from __future__ import annotations

import sys
import time


class Progress:
    """Rewrites one line on a terminal; elsewhere (a notebook, a log file) prints about ten lines a run."""

    def __init__(self, steps: int, start: int, show: bool = True):
        self.steps, self.start, self.show = steps, start, show
        self.live = sys.stdout.isatty()
        self.began = self.last = time.perf_counter()
        self.tokens = 0

    def update(self, step: int, tokens: int, loss: float, note: str = "") -> None:
        """Call after each step: `tokens` read in this step, its loss in nats."""
        self.tokens += tokens
        now = time.perf_counter()
        finished = step == self.steps
        due = now - self.last > 0.5 if self.live else step % max(1, self.steps // 10) == 0
        if not self.show or not (due or finished or note):
            return
        self.last = now
        spent = now - self.began
        left = spent / (step - self.start) * (self.steps - step)
        line = f"step {step:>{len(str(self.steps))}}/{self.steps}  loss {loss:.3f}  {self.tokens / spent:,.0f} tokens/s"
        line += f"  {clock(left)} left" if not finished else f"  {clock(spent)} in all"
        if note:
            line += f"  {note}"
        print(f"\r{line:<78}" if self.live else line, end="\n" if finished or note or not self.live else "", flush=True)


def clock(seconds: float) -> str:
    """Seconds as minutes:seconds, or hours:minutes:seconds.

    >>> clock(75), clock(3725)
    ('1:15', '1:02:05')
    """
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"
