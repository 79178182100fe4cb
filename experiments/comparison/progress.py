"""What there is to do, one line that says how far it is, and how long it will take."""

import sys
import time
from typing import Dict, List, NamedTuple, Optional, Sequence, TextIO

from experiments.comparison.contestants import Contestant
from experiments.comparison.presets import Budget, Preset

_START_UP = 7.0  # seconds that a fairseq command takes to import what it needs
_UPDATE = 0.1  # seconds, where the budget is counted in updates

# The longest measurement of a contestant's warm speed, seconds.
PACE_SECONDS = 12.0


class Steps(NamedTuple):
    """Steps of one kind: how many, seconds of one as guessed beforehand, how many are done side by side."""

    count: int
    seconds: float
    jobs: int


def pace_budget(preset: Preset) -> Budget:
    """Of the measurement of speed: no longer than a quarter of a run, but long enough to become warm."""
    longest = max(budget.seconds or 0 for budget in (preset.budget, preset.trial, preset.long) if budget is not None)
    seconds = min(PACE_SECONDS, max(2.0, longest / 4))
    return Budget(minutes=seconds / 60)


def planned(preset: Preset, contestants: Sequence[Contestant], bytes: Dict[str, int], extra: Dict[str, Steps]):
    """Steps of a whole comparison by kind. bytes: sizes of the splits."""
    # a rough guess: two operations a parameter and byte, 30 GFLOP/s on a CPU core, 60 TFLOP/s on a GPU
    speed = 30e9 if "--cpu" in preset.device else 60e12
    valid, test = (2 * bytes[split] * preset.parameters / speed for split in ("valid", "test"))

    def training(count: int, budget: Budget, slices: int) -> Steps:
        seconds = budget.seconds / slices if budget.seconds is not None else _UPDATE * budget.updates / slices
        return Steps(count, _START_UP + seconds + valid, preset.jobs)

    runs, kinds = len(contestants) * len(preset.seeds), len({contestant.family for contestant in contestants})
    stateless = sum(not contestant.streaming for contestant in contestants)
    # of each stateless one: blocks, two tries to find the context that fits, windows half of which is context
    evaluations = runs + 3 * stateless * len(preset.seeds)
    steps = {}
    if preset.timed:
        steps["measuring speed"] = training(len(contestants), pace_budget(preset), 1)
    steps["tuning"] = training(sum(len(item.trials) for item in contestants), preset.trial, 1)
    steps["training"] = training(runs * preset.slices, preset.budget, preset.slices)
    steps["evaluating"] = Steps(evaluations, _START_UP + test, preset.timed_jobs)
    steps.update(extra)
    if preset.long is not None:
        slices = 2 * preset.slices
        steps["training longer"] = training(kinds * slices, preset.long, slices)
        steps["evaluating longer"] = Steps(3 * kinds, _START_UP + test, preset.timed_jobs)
    return steps


def announcement(preset: Preset, contestants: Sequence[Contestant], steps: Dict[str, Steps]) -> str:
    """What is about to happen, and how long it takes."""
    kinds = len({contestant.family for contestant in contestants})
    long = "" if preset.long is None else f", {kinds} runs of {preset.long}"
    total = sum(step.count * step.seconds / step.jobs for step in steps.values())
    return (
        f"comparison: {len(contestants)} models x {len(preset.seeds)} seeds x {preset.budget}, {steps['tuning'].count} "
        f"trials of {preset.trial}{long}; trainings {preset.jobs} side by side, one thread each: about {duration(total)} "
        "from the beginning"
    )


class Progress:
    """Rewritten in place on a terminal, a line every half minute elsewhere.

    The estimate of what is left follows the durations of the steps that are finished, of each kind for itself.
    """

    def __init__(self, steps: Dict[str, Steps], stream: Optional[TextIO] = None):
        self.steps, self.stream = steps, stream or sys.stdout
        self._open = {kind: step.count for kind, step in steps.items()}
        self._taken: Dict[str, List[float]] = {kind: [] for kind in steps}
        self._last = 0.0
        self._width = 0

    def finished(self, kind: str, seconds: float) -> None:
        """A step of that kind took so long."""
        self._taken[kind].append(seconds)
        self.found(kind, 1)

    def found(self, kind: str, count: int) -> None:
        """Steps that an earlier call did."""
        if kind in self._open:
            self._open[kind] = max(0, self._open[kind] - count)

    def remain(self, kind: str, count: int) -> None:
        """So many steps of that kind are left."""
        self._open[kind] = count

    def closed(self, kind: str) -> None:
        """Nothing of that kind is left."""
        self._open[kind] = 0

    def _mean(self, kind: str) -> float:
        if self._taken[kind]:
            return sum(self._taken[kind]) / len(self._taken[kind])
        guessed = sum(self.steps[kind].seconds * len(taken) for kind, taken in self._taken.items())
        taken = sum(map(sum, self._taken.values()))
        return self.steps[kind].seconds * (taken / guessed if guessed else 1.0)

    def left(self) -> float:
        """Seconds left, as far as is known."""
        return sum(count * self._mean(kind) / self.steps[kind].jobs for kind, count in self._open.items())

    def share(self) -> float:
        """Of the whole, how much is done."""
        done = sum((step.count - self._open[kind]) * self._mean(kind) / step.jobs for kind, step in self.steps.items())
        return done / max(1e-9, done + self.left())

    def show(self, kind: str, labels: List[str]) -> None:
        """Say where things stand."""
        tty = self.stream.isatty()
        if time.time() - self._last < (1 if tty else 30):
            return
        self._last = time.time()
        line = f"comparison: {self.share():4.0%}, {duration(self.left())} left; {kind}: {', '.join(labels)}"
        if tty:
            line = line[:118]
            self.stream.write("\r" + line.ljust(self._width))
            self._width = len(line)
        else:
            self.stream.write(line + "\n")
        self.stream.flush()

    def say(self, text: str) -> None:
        """A line of its own."""
        if self._width:
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
