"""A comparison: what is compared in an output folder, and what is known of it so far."""

from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Dict, List, NamedTuple, Optional

from experiments.comparison.contestant import Contestant
from experiments.comparison.evaluation import STREAMING, read_evaluations
from experiments.comparison.presets import Preset
from experiments.comparison.records import FittedContext
from experiments.comparison.sizes import Size
from experiments.comparison.splits import Split
from experiments.comparison.training_run import Job, TrainingRun
from experiments.comparison.trials import Budget, Trial
from experiments.comparison.windows import Allowance
from experiments.harness.records import read_record
from experiments.harness.runner import Runner


def key_of(contestant: Contestant, trial: Trial) -> str:
    """The name under which sizes and speed of a contestant are kept, which may depend on the lengths of its trial."""
    return f"{contestant.name}@{trial.shape}" if trial.shape else contestant.name


class TrialRun(NamedTuple):
    """A contestant's tuning trial, and its training."""

    contestant: Contestant
    trial: Trial
    run: TrainingRun


@dataclass
class Comparison:
    """The fixed part (data, folder, preset, contestants), the runner, and what the stages have found out so far.

    sizes, paces: by contestant, with the lengths of a trial that has its own (`key_of`). chosen: the trial with which each
    trains. tuned: the run of that trial, for contestants with trials of their own.
    """

    data: Path
    out: Path
    preset: Preset
    contestants: List[Contestant]
    splits: Dict[str, Split]
    runner: Runner
    sizes: Dict[str, Size] = field(default_factory=dict)
    paces: Dict[str, TrainingRun] = field(default_factory=dict)
    trials: List[TrialRun] = field(default_factory=list)
    chosen: Dict[str, Trial] = field(default_factory=dict)
    tuned: Dict[str, TrainingRun] = field(default_factory=dict)
    runs: List[TrainingRun] = field(default_factory=list)
    long_runs: List[TrainingRun] = field(default_factory=list)

    def by_name(self, name: str) -> Contestant:
        return next(contestant for contestant in self.contestants if contestant.name == name)

    def tuned_as(self, contestant: Contestant) -> Contestant:
        """The contestant whose trials it trains with: itself, or the one that it names."""
        return contestant if contestant.tuned_as is None else self.by_name(contestant.tuned_as)

    def runs_of(self, contestant: Contestant) -> List[TrainingRun]:
        return [run for run in self.runs if run.job.contestant is contestant]

    def usable_runs_of(self, contestant: Contestant) -> List[TrainingRun]:
        return [run for run in self.runs_of(contestant) if run.usable]

    def by_validation(self, family: str) -> List[Contestant]:
        """Contestants of a family that have usable runs, the best mean over the seeds first."""
        ranked = [
            (mean(run.record.best_valid_bpb for run in self.usable_runs_of(contestant)), contestant.name)
            for contestant in self.contestants
            if contestant.family == family and self.usable_runs_of(contestant)
        ]
        return [self.by_name(name) for _, name in sorted(ranked)]

    def allowance(self) -> Optional[Allowance]:
        """What evaluations of stateless models may cost: as long as the best SHA-RNN by validation takes (mean of seeds)."""
        for contestant in self.by_validation("sha_rnn"):
            records = [record for run in self.runs_of(contestant) for record in read_evaluations(run, [STREAMING])]
            seconds = [record.seconds for record in records if record.reason is None]
            if seconds:
                return Allowance(contestant.name, mean(seconds))
        return None

    def context_path(self, contestant: Contestant) -> Path:
        return self.out / "windows" / f"{contestant.name}.json"

    def fitted_context(self, contestant: Contestant) -> FittedContext:
        """The context that fits the allowed time, as far as it is known; 0 bytes for none."""
        return read_record(FittedContext, self.context_path(contestant)) or FittedContext()

    def new_run(
        self, folder: str, kind: str, contestant: Contestant, trial: Trial, budget: Budget, slices: int, seed: int
    ) -> TrainingRun:
        """A run in `folder` of the output folder, which resumes if that has a record.

        Its learning rate is first planned with the speed of the contestant's chosen trial, or else with its measured pace.
        """
        key = key_of(contestant, trial)
        job = Job(kind, contestant, self.sizes[key], trial, budget, slices, seed)
        tuned, pace = self.tuned.get(contestant.name), self.paces.get(key)
        if tuned is not None:
            rate = tuned.record.updates / max(1e-3, tuned.record.train_seconds)
            job = job.at(rate, tuned.record.lost_seconds)
        elif pace is not None and not pace.record.failed:
            job = job.at(pace.record.warm_rate, pace.record.lost_seconds)
        return TrainingRun(self.out / folder, self.data, self.preset, job, self.runner.processes)
