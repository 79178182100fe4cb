"""One line that says how much of an experiment is done, what is being done, and how long the rest will take."""

import sys
import time
from typing import Dict, List, NamedTuple, Optional, TextIO


class Steps(NamedTuple):
    """Steps of one kind: how many, the seconds that one is estimated to take, how many are done at a time."""

    count: int
    seconds: float
    jobs: int


def total_seconds(steps: Dict[str, Steps]) -> float:
    """The estimated time of all steps."""
    return sum(step.count * step.seconds / step.jobs for step in steps.values())


class Progress:
    """The line is rewritten in place on a terminal, and written anew every half minute elsewhere.

    The estimate of the time that is left follows the measured durations of the steps, each kind by itself.
    """

    def __init__(self, name: str, steps: Dict[str, Steps], stream: Optional[TextIO] = None):
        self.name, self.steps, self.stream = name, steps, stream or sys.stdout
        self._left = {kind: step.count for kind, step in steps.items()}
        self._durations: Dict[str, List[float]] = {kind: [] for kind in steps}
        self._shown_at = 0.0
        self._width = 0

    def add_done(self, kind: str, seconds: float) -> None:
        """Count a step of that kind, which took so long."""
        self._durations[kind].append(seconds)
        self.skip(kind)

    def skip(self, kind: str, count: int = 1) -> None:
        """Count steps that an earlier call did."""
        if kind in self._left:
            self._left[kind] = max(0, self._left[kind] - count)

    def set_left(self, kind: str, count: int) -> None:
        """Say how many steps of that kind are left."""
        self._left[kind] = count

    def close(self, kind: str) -> None:
        """Say that no step of that kind is left."""
        self._left[kind] = 0

    def left(self, kind: str) -> int:
        """Steps of that kind that are left."""
        return self._left[kind]

    def seconds_left(self) -> float:
        """Estimated seconds until the end."""
        return sum(count * self._mean(kind) / self.steps[kind].jobs for kind, count in self._left.items())

    def share_done(self) -> float:
        """The share of the whole that is done, by time."""
        done = sum((step.count - self._left[kind]) * self._mean(kind) / step.jobs for kind, step in self.steps.items())
        return done / max(1e-9, done + self.seconds_left())

    def _mean(self, kind: str) -> float:
        """Seconds of a step: measured, or else the estimate times what other kinds took compared with theirs."""
        if self._durations[kind]:
            return sum(self._durations[kind]) / len(self._durations[kind])
        estimated = sum(self.steps[kind].seconds * len(taken) for kind, taken in self._durations.items())
        taken = sum(map(sum, self._durations.values()))
        return self.steps[kind].seconds * (taken / estimated if estimated else 1.0)

    def show(self, kind: str, labels: List[str]) -> None:
        """Write the line, if it is time to."""
        tty = self.stream.isatty()
        if time.time() - self._shown_at < (1 if tty else 30):
            return
        self._shown_at = time.time()
        line = (
            f"{self.name}: {self.share_done():4.0%}, {duration(self.seconds_left())} left; {kind}: {', '.join(labels)}"
        )
        if tty:
            line = line[:118]
            self.stream.write("\r" + line.ljust(self._width))
            self._width = len(line)
        else:
            self.stream.write(line + "\n")
        self.stream.flush()

    def say(self, text: str) -> None:
        """Write a line that stays."""
        if self._width:
            self.stream.write("\r" + " " * self._width + "\r")
            self._width = 0
        self.stream.write(text + "\n")
        self.stream.flush()


def duration(seconds: float) -> str:
    """A duration for people: 45 s, 12 min, 3.4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
