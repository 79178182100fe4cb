"""A training with everything that was measured of its checkpoint."""

from dataclasses import dataclass, field, fields
from typing import List, NamedTuple, Optional

from experiments.comparison.comparison import Comparison, TrialRun
from experiments.comparison.contestant import Contestant
from experiments.comparison.evaluation import BLOCKS, HALF, STREAMING, read_evaluations, window_mode
from experiments.comparison.generation import read_generation
from experiments.comparison.records import Evaluation, Generation, RunRecord
from experiments.comparison.training_run import TrainingRun


class Modes(NamedTuple):
    """How a contestant's runs are evaluated: in the main mode, and in windows with the context that fits, if one does."""

    main: str
    window: Optional[str] = None

    @property
    def counted(self) -> str:
        """The mode whose result is the contestant's test: fixed beforehand, not the better one."""
        return self.window or self.main


def modes_of(contestant: Contestant, context: int) -> Modes:
    """context: bytes of the context that fits, 0 if none does."""
    if contestant.streaming:
        return Modes(STREAMING)
    return Modes(BLOCKS, window_mode(context) if context else None)


@dataclass
class RunResult(RunRecord):
    """A run's record, and what follows from it.

    folder: in the output folder. bytes_per_second: of training. cores: CPU time over wall-clock time. valid_bpb: of the
    best checkpoint. test_bpb: in the mode that counts.
    """

    folder: str = ""
    bytes_per_second: Optional[float] = None
    cores: Optional[float] = None
    valid_bpb: Optional[float] = None
    test_bpb: Optional[float] = None
    evaluations: List[Evaluation] = field(default_factory=list)
    generation: Generation = Generation()

    def evaluated(self, mode: Optional[str]) -> Optional[Evaluation]:
        """The evaluation in a mode, if there is one."""
        return next((evaluation for evaluation in self.evaluations if evaluation.mode == mode), None)


@dataclass
class TrialResult(RunResult):
    """A tuning trial: its settings, whether it was chosen, and whether the chosen rate or length is an end of its range."""

    options: str = ""
    chosen: bool = False
    edge: bool = False
    length_edge: bool = False


def run_result(run: TrainingRun, modes: Modes) -> RunResult:
    """The record of a run with its evaluations."""
    record = run.record
    wanted = [mode for mode in (modes.main, modes.window, HALF) if mode is not None]
    result = RunResult(
        **_values(record),
        folder=f"{run.folder.parent.name}/{run.folder.name}",
        bytes_per_second=record.bytes / record.train_seconds if record.train_seconds else None,
        cores=record.cpu_seconds / record.wall_seconds if record.wall_seconds else None,
        valid_bpb=record.best_valid_bpb,
        evaluations=read_evaluations(run, wanted),
        generation=read_generation(run),
    )
    counted = result.evaluated(modes.counted)
    result.test_bpb = None if counted is None else counted.bpb
    return result


def trial_result(comparison: Comparison, item: TrialRun) -> TrialResult:
    """The result of a tuning trial, which is validated only."""
    chosen = comparison.tuned.get(item.contestant.name) is item.run
    rates = [other.lr for other in item.contestant.trials]
    edge = len(set(rates)) > 1 and item.trial.lr in (min(rates), max(rates))
    lengths = [other.length for other in item.contestant.trials if other.length is not None]
    length_edge = len(set(lengths)) > 1 and item.trial.length in (min(lengths), max(lengths))
    result = run_result(item.run, modes_of(item.contestant, 0))
    return TrialResult(
        **_values(result),
        options=str(item.trial),
        chosen=chosen,
        edge=chosen and edge,
        length_edge=chosen and length_edge,
    )


def _values(record) -> dict:
    return {item.name: getattr(record, item.name) for item in fields(record)}
