"""One line for a whole comparison: what is going on, how much is done, how long it will take."""

import sys
import time
from typing import List, Optional, TextIO


class Progress:
    """Rewritten in place on a terminal, a line every half minute elsewhere.

    total: seconds of work estimated beforehand. The estimate of what is left follows what the work done has really taken.
    """

    def __init__(self, total: float, jobs: int, stream: Optional[TextIO] = None):
        self.total, self.jobs, self.stream = total, jobs, stream or sys.stdout
        self.done = 0.0
        self._worked = 0.0
        self._begun = time.time()
        self._last = 0.0
        self._width = 0

    def finished(self, cost: float) -> None:
        """A step of that estimated cost is done."""
        self.done += cost
        self._worked += cost

    def found(self, cost: float) -> None:
        """A step of that estimated cost was done by an earlier call."""
        self.done += cost

    def left(self) -> float:
        """Seconds left, as far as is known."""
        elapsed = time.time() - self._begun
        pace = elapsed * self.jobs / self._worked if self._worked > 60 else 1.0
        return max(0.0, self.total - self.done) * min(4.0, max(0.25, pace)) / self.jobs

    def show(self, stage: str, labels: List[str], force: bool = False) -> None:
        """Say where things stand."""
        tty = self.stream.isatty()
        if not force and time.time() - self._last < (1 if tty else 30):
            return
        self._last = time.time()
        share = min(0.999, self.done / self.total) if self.total else 0.0
        line = f"comparison: {share:4.0%}, {duration(self.left())} left; {stage}: {', '.join(labels)}"
        if tty:
            line = line[:118]
            self.stream.write("\r" + line.ljust(self._width))
            self._width = len(line)
        else:
            self.stream.write(line + "\n")
        self.stream.flush()

    def say(self, text: str) -> None:
        """A line of its own."""
        if self.stream.isatty() and self._width:
            self.stream.write("\r" + " " * self._width + "\r")
            self._width = 0
        self.stream.write(text + "\n")
        self.stream.flush()


def duration(seconds: float) -> str:
    """For people: 45 s, 12 min, 3.4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
