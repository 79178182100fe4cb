"""A whole comparison: sizes, speeds, tuning, runs, evaluation, each step once."""

import math
import time
from pathlib import Path
from statistics import mean
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from experiments.comparison.contestants import Contestant
from experiments.comparison.evaluation import (
    HALF,
    Allowance,
    block_options,
    evaluate,
    fit_context,
    streaming_options,
    window_length,
    window_options,
)
from experiments.comparison.generation import generation_speed
from experiments.comparison.presets import Budget, Preset, Trial
from experiments.comparison.progress import Progress, Steps, pace_budget, planned
from experiments.comparison.sizes import Size, find_sizes
from experiments.comparison.training_run import Job, Run
from experiments.harness.folder import read_json, write_json
from experiments.harness.pool import Task, once, work_through
from experiments.harness.processes import Processes
from fairseq_sharnn.errors import UsageError

# Folders of runs, and what their training is called in the line of progress.
_TRAININGS = {"pace": "measuring speed", "trials": "tuning", "runs": "training", "long": "training longer"}


class Experiment:
    """State of a comparison in its folder `out`; the stages of compare_transformer.py and ablate.py call its methods.

    Raises UsageError for a budget too small for one validation, and for parameter counts out of reach.
    """

    def __init__(
        self,
        data: Path,
        out: Path,
        preset: Preset,
        contestants: Sequence[Contestant],
        splits: Dict,
        extra: Dict[str, Steps],
    ):
        self.data, self.out, self.preset, self.contestants = data, out, preset, list(contestants)
        self.splits = splits
        self.processes = Processes()
        self.sizes: Dict[str, Size] = {}
        self.paces: Dict[str, Run] = {}
        self.chosen: Dict[str, Trial] = {}
        self.tuned: Dict[str, Run] = {}
        self.trials: List[Tuple[Contestant, Trial, Run]] = []
        self.runs: List[Run] = []
        self.long_runs: List[Run] = []
        bytes_of = {split: values["bytes"] for split, values in splits.items()}
        self.progress = Progress(planned(preset, self.contestants, bytes_of, extra))
        for stage, kind in _TRAININGS.items():
            self.progress.found(kind, self._slices_done(stage))

    def by_name(self, name: str) -> Contestant:
        return next(contestant for contestant in self.contestants if contestant.name == name)

    # Stages

    def find_sizes(self) -> Dict[str, Size]:
        """Widths that bring every contestant to the parameter count; kept in sizes.json."""
        path = self.out / "sizes.json"
        known = read_json(path) or {}
        lacking = [contestant for contestant in self.contestants if contestant.name not in known]
        if lacking:
            found = find_sizes(lacking, self.preset.parameters, self.preset.window, self.preset.chunk)
            for name, size in found.items():
                known[name] = {"options": list(size.options), "parameters": size.parameters}
            write_json(path, known)
        for contestant in self.contestants:
            size = known[contestant.name]
            self.sizes[contestant.name] = Size(tuple(size["options"]), size["parameters"])
        return self.sizes

    def measure_pace(self) -> None:
        """Measure how many updates a second each makes when warm: schedules need it, and budgets are checked by it."""
        if not self.preset.timed:
            return
        for contestant in self.contestants:
            trial = self._tuned_as(contestant).trials[0]
            job = Job("pace", contestant, self.sizes[contestant.name], trial, pace_budget(self.preset), 1, seed=1)
            self.paces[contestant.name] = self.run(f"pace/{contestant.name}", job)
        self.train(list(self.paces.values()), "measuring speed")
        for name, run in self.paces.items():
            if not run.failed and self.preset.budget.seconds is not None:
                self._check_budget(name, run)

    def _check_budget(self, name: str, run: Run) -> None:
        least = max(run.record["valid_seconds"], self.preset.slices / run.record["warm_rate"])
        if self.preset.budget.seconds < least:
            raise UsageError(
                f"--minutes {self.preset.budget.minutes:g} is too small for one validation: {name} needs {least:.1f} s "
                f"for {self.preset.slices} updates or a pass over the {self.splits['valid']['bytes']:,} bytes of valid; "
                f"give at least --minutes {least / 60 * 1.5:.2g}"
            )

    def tune(self) -> None:
        """The same number of trials for each contestant; the best by validation is what it trains with."""
        for contestant in self.contestants:
            for number, trial in enumerate(contestant.trials):
                job = self.job("trial", contestant, trial, self.preset.trial, 1, seed=1)
                self.trials.append((contestant, trial, self.run(f"trials/{contestant.name}-{number + 1}", job)))
        self.train([run for _, _, run in self.trials], "tuning")
        for contestant in self.contestants:
            done = [
                (run.best_valid_bpb, number)
                for number, (owner, _, run) in enumerate(self.trials)
                if owner is contestant and not run.failed and math.isfinite(run.best_valid_bpb or math.nan)
            ]
            if done:
                _, self.chosen[contestant.name], self.tuned[contestant.name] = self.trials[min(done)[1]]
        for contestant in self.contestants:
            owner = self._tuned_as(contestant)
            self.chosen[contestant.name] = self.chosen.get(owner.name, owner.trials[0])

    def _tuned_as(self, contestant: Contestant) -> Contestant:
        """The contestant whose trials it shares: itself, where it has its own."""
        return contestant if contestant.tuned_as is None else self.by_name(contestant.tuned_as)

    def train_seeds(self) -> List[Run]:
        """The runs that count: every contestant with every seed, in alternating slices."""
        self.runs = [
            self.run(f"runs/{contestant.name}-seed{seed}", self._job_of(contestant, "run", seed))
            for seed in self.preset.seeds
            for contestant in self.contestants
        ]
        self.train(self.runs, "training")
        return self.runs

    def train_long(self) -> List[Run]:
        """One longer run of the best of each kind, by validation over the seeds."""
        if self.preset.long is None:
            return []
        for family in dict.fromkeys(contestant.family for contestant in self.contestants):
            for best in self.by_validation(family)[:1]:
                job = self._job_of(best, "long", self.preset.seeds[0])
                folder = f"long/{best.name}-{self.preset.long.minutes:g}min-seed{job.seed}"
                self.long_runs.append(self.run(folder, job))
        self.train(self.long_runs, "training longer")
        return self.long_runs

    def evaluate(self, runs: Sequence[Run], kind: str = "evaluating") -> None:
        """The whole test split: SHA-RNN streaming, the others in blocks, with the context that fits its time, and, where
        that is less, with half of each window as context."""
        good = [run for run in runs if run.finished and not run.failed]
        steps = {}
        for run in good:
            streaming = run.job.contestant.streaming
            mode = "streaming" if streaming else "blocks"
            options = streaming_options(self.preset) if streaming else block_options(self.preset)
            steps[f"{run.folder.name} {mode}"] = self._evaluation(run, mode, options)
        self.work(steps, kind, more=True)
        self._evaluate_windows([run for run in good if not run.job.contestant.streaming], kind)

    def _evaluation(self, run: Run, mode: str, options: List[str]) -> Callable[[], object]:
        return lambda: evaluate(run, mode, options, self.processes)

    def _evaluate_windows(self, runs: Sequence[Run], kind: str) -> None:
        allowance = self.allowance()
        steps = {}
        for contestant in self.contestants if allowance is not None else ():
            its = [run for run in runs if run.job.contestant is contestant]
            if its and all(run.checkpoint.exists() for run in its):  # else what was found while they were there stays
                steps[f"{contestant.name}, context that fits"] = self._fit(its, allowance)
        self.work(steps, kind, more=True)
        steps = {}
        for run in runs:
            window = window_length(self.preset, run.job.contestant)
            fits = self.windows(run.job.contestant)["context"]
            modes = {f"window-{fits}": fits} if fits > 0 else {}
            if fits < window // 2:  # what SHA-RNN's time does not allow
                modes[HALF] = window // 2
            for mode, context in modes.items():
                options = window_options(self.preset, window, context)
                steps[f"{run.folder.name} {mode}"] = self._evaluation(run, mode, options)
        self.progress.remain(kind, len(steps))
        self.work(steps, kind)

    def allowance(self) -> Optional[Allowance]:
        """What the others' windows may cost: the mean scoring time of the streaming contestant that is best by validation,
        the one that is compared with them."""
        for contestant in self.by_validation("sha_rnn"):
            found = [read_json(run.folder / "evaluation-streaming.json") for run in self.runs_of(contestant)]
            seconds = [record["seconds"] for record in found if record is not None and record["reason"] is None]
            if seconds:
                return Allowance(contestant.name, mean(seconds))
        return None

    def by_validation(self, family: str) -> List[Contestant]:
        """Contestants of a family whose runs ended well, the best mean over the seeds first."""
        ranked = []
        for contestant in self.contestants:
            good = [run for run in self.runs_of(contestant) if run.finished and not run.failed]
            if contestant.family == family and good:
                ranked.append((mean(run.best_valid_bpb for run in good), contestant.name))
        return [self.by_name(name) for _, name in sorted(ranked)]

    def _fit(self, runs: List[Run], allowance: Allowance) -> Callable[[], object]:
        def fit() -> None:
            blocks = [read_json(run.folder / "evaluation-blocks.json") for run in runs]
            seconds = [record["seconds"] for record in blocks if record["reason"] is None] or [0.0]
            fit_context(runs, mean(seconds), allowance, self.processes, self._window_path(runs[0].job.contestant))

        return fit

    def _window_path(self, contestant: Contestant) -> Path:
        return self.out / "windows" / f"{contestant.name}.json"

    def windows(self, contestant: Contestant) -> Dict:
        """The window and context found for a contestant; context 0 for none."""
        return {"context": 0, "reason": None, **(read_json(self._window_path(contestant)) or {})}

    def measure_generation(self) -> None:
        """Bytes written a second by the first seed's model of each contestant: another seed writes as fast."""
        steps = {}
        for contestant in self.contestants:
            good = [run for run in self.runs_of(contestant) if run.finished and not run.failed]
            if good:
                steps[good[0].folder.name] = lambda run=good[0]: generation_speed(run, self.processes)
        self.work(steps, "generating")

    def runs_of(self, contestant: Contestant) -> List[Run]:
        return [run for run in self.runs if run.job.contestant is contestant]

    # How stages work

    def _slices_done(self, stage: str) -> int:
        """Slices that earlier calls trained, of these contestants and seeds."""
        names = {contestant.name for contestant in self.contestants}
        records = [read_json(path) for path in self.out.glob(f"{stage}/*/run.json")]
        return sum(
            record["slices"]
            for record in records
            if record["contestant"] in names and (stage != "runs" or record["seed"] in self.preset.seeds)
        )

    def job(self, kind: str, contestant: Contestant, trial: Trial, budget: Budget, slices: int, seed: int) -> Job:
        """A job whose schedule begins with the speed of the contestant's chosen trial, or else with its measured pace."""
        job = Job(kind, contestant, self.sizes[contestant.name], trial, budget, slices, seed)
        tuned, pace = self.tuned.get(contestant.name), self.paces.get(contestant.name)
        if tuned is not None:
            rate = tuned.record["updates"] / max(1e-3, tuned.record["train_seconds"])
            return job.at(rate, tuned.record["lost_seconds"])
        if pace is not None and not pace.failed:
            return job.at(pace.record["warm_rate"], pace.record["lost_seconds"])
        return job

    def _job_of(self, contestant: Contestant, kind: str, seed: int) -> Job:
        budget = self.preset.budget if kind == "run" else self.preset.long
        slices = self.preset.slices * (1 if kind == "run" else 2)
        return self.job(kind, contestant, self.chosen[contestant.name], budget, slices, seed)

    def run(self, folder: str, job: Job) -> Run:
        return Run(self.out / folder, self.data, self.preset, job, self.processes)

    def train(self, runs: Sequence[Run], kind: str) -> None:
        """Bring all runs to their end."""
        self.progress.remain(kind, sum(run.remaining_slices for run in runs))
        tasks = []
        for run in runs:
            tasks.append(
                Task(
                    lambda run=run: f"{run.folder.name} {run.record['slices'] + 1}/{run.job.slices}",
                    self._timed(run.advance, kind),
                    lambda run=run: run.remaining_slices,
                )
            )
        self._work_through(tasks, kind)
        self.progress.closed(kind)
        for run in runs:
            run.drop_optimizer_state()

    def work(self, steps: Dict[str, Callable[[], object]], kind: str, more: bool = False) -> None:
        """Do each step once, by label. more: whether further ones of the kind will come."""
        self._work_through([once(label, self._timed(step, kind)) for label, step in steps.items()], kind)
        if not more:
            self.progress.closed(kind)

    def _work_through(self, tasks: Sequence[Task], kind: str) -> None:
        jobs = self.progress.steps[kind].jobs
        work_through(tasks, jobs, self.processes, lambda labels: self.progress.show(kind, labels))

    def _timed(self, step: Callable[[], object], kind: str) -> Callable[[], None]:
        def timed() -> None:
            begun = time.time()
            step()
            taken = time.time() - begun
            if taken > 0.1:
                self.progress.finished(kind, taken)
            else:  # an earlier call did it
                self.progress.found(kind, 1)

        return timed
