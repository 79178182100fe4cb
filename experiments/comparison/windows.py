"""The largest context in a stateless model's windows whose evaluation takes no longer than SHA-RNN's."""

from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import List, Optional, Sequence

from experiments.comparison.evaluation import evaluate, read_evaluations, window_length, window_mode, window_options
from experiments.comparison.records import Attempt, Evaluation, FittedContext
from experiments.comparison.training_run import TrainingRun
from experiments.harness.processes import Processes
from experiments.harness.records import read_record, write_record


@dataclass(frozen=True)
class Allowance:
    """What evaluation may cost: the seconds that a streaming contestant took, and its name."""

    name: str
    seconds: float


def largest_context(window: int, seconds_in_blocks: float, allowed: float) -> int:
    """The context that windows of `window` bytes can have in `allowed` seconds of scoring, by arithmetic.

    Windows that overlap by w score the file in 1 / (1 - w / window) times the time of plain blocks. The result is a
    multiple of a thirty-second of the window; 0 if plain blocks take that long already.
    """
    step = max(1, window // 32)
    if seconds_in_blocks <= 0 or seconds_in_blocks >= allowed:
        return 0
    return min(int(window * (1 - seconds_in_blocks / allowed)) // step * step, window - step)


class Search:
    """Finds, by measuring, the largest context whose evaluation takes no longer than is allowed; kept in `path`.

    runs: those of one contestant, one for each seed. Their mean counts, because a single timing may be off by a tenth.
    """

    def __init__(self, runs: Sequence[TrainingRun], allowance: Allowance, processes: Processes, path: Path):
        self.runs, self.allowance, self.processes, self.path = runs, allowance, processes, path
        self.preset = runs[0].preset
        self.window = window_length(runs[0])
        self.reason: Optional[str] = None

    def is_settled(self) -> bool:
        """Whether a context was found for this allowance. One that failed is searched again."""
        known = read_record(FittedContext, self.path)
        if known is None or known.reason is not None:
            return False
        return Allowance(known.reference, known.allowed_seconds) == self.allowance

    def run(self, seconds_in_blocks: float, tries: int = 4) -> bool:
        """Search and record what was found; False if that was done already.

        A context that takes too long is followed by a shorter one. The first one that fits is followed by a longer one, if
        its speed allows that.
        """
        if self.is_settled():
            return False
        measured: List[Attempt] = []
        best, too_much = 0, self.window
        context = largest_context(self.window, seconds_in_blocks, self.allowance.seconds)
        while best < context < too_much and len(measured) < tries:
            seconds = self._measure(context)
            if seconds is None:
                break
            measured.append(Attempt(context, seconds))
            # what the blocks would have taken at the speed just measured, and a little more
            estimate = 1.02 * seconds * (1 - context / self.window)
            following = largest_context(self.window, estimate, self.allowance.seconds)
            if seconds > self.allowance.seconds:
                too_much = context
                context = 0 if best else min(following, context - max(1, self.window // 32))
            else:
                first_fit, best = best == 0, context
                context = following if first_fit else 0
        name, seconds = self.allowance.name, self.allowance.seconds
        write_record(self.path, FittedContext(best, self.window, name, seconds, measured, self.reason))
        return True

    def _measure(self, context: int) -> Optional[float]:
        """Mean seconds of an evaluation; None if one failed."""
        mode = window_mode(context)
        for run in self.runs:
            evaluate(run, mode, window_options(self.preset, self.window, context), self.processes)
        records: List[Evaluation] = [record for run in self.runs for record in read_evaluations(run, [mode])]
        self.reason = next((f"{mode}: {record.reason}" for record in records if record.reason is not None), None)
        if self.reason is not None or not records:
            return None
        return mean(record.seconds for record in records)
