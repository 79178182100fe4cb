"""A whole comparison: sizes, probes, tuning, runs, evaluation, each step once, and a report after every stage."""

import math
from pathlib import Path
from statistics import mean
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from comparison.contestants import Contestant
from comparison.evaluation import evaluate, fit_context, streaming_options, window_options
from comparison.generation import generation_speed
from comparison.plan import Plan
from comparison.pool import Task, once, work_through
from comparison.presets import Budget, Preset
from comparison.processes import Processes
from comparison.progress import Progress
from comparison.sizes import Size, find_sizes
from comparison.storage import read_json, write_json
from comparison.training import Job, Run
from comparison.trials import Trial
from fairseq_sharnn.errors import UsageError

_PROBE_UPDATES = 16


class Experiment:
    """State of a comparison in its folder `out`; `stages` of compare_transformer.py and ablate.py call its methods.

    Raises UsageError for a budget too small for one validation, and for parameter counts out of reach.
    """

    def __init__(self, data: Path, out: Path, preset: Preset, contestants: Sequence[Contestant], splits: Dict):
        self.data, self.out, self.preset, self.contestants = data, out, preset, list(contestants)
        self.plan = Plan(preset, self.contestants, {split: values["bytes"] for split, values in splits.items()})
        self.processes = Processes()
        self.sizes: Dict[str, Size] = {}
        self.chosen: Dict[str, Trial] = {}
        self.rates: Dict[str, float] = {}
        self.trials: List[Tuple[Contestant, Trial, Run]] = []
        self.runs: List[Run] = []
        self.long_runs: List[Run] = []
        self.progress = Progress(self.plan.total(), preset.jobs)

    def by_name(self, name: str) -> Contestant:
        return next(contestant for contestant in self.contestants if contestant.name == name)

    # Stages

    def find_sizes(self) -> Dict[str, Size]:
        """Widths that bring every contestant to the parameter count; kept in sizes.json."""
        path = self.out / "sizes.json"
        known = read_json(path)
        if known is None:
            self.progress.show("sizes", [f"{len(self.contestants)} models"], force=True)
            found = find_sizes(self.contestants, self.preset.parameters, self.preset.window, self.preset.chunk)
            known = {
                name: {"options": list(size.options), "parameters": size.parameters} for name, size in found.items()
            }
            write_json(path, known)
        self.sizes = {name: Size(tuple(size["options"]), size["parameters"]) for name, size in known.items()}
        return self.sizes

    def probe(self) -> None:
        """Measure how many updates a second each makes: falling schedules need it, and budgets are checked by it."""
        if self.preset.budget.seconds is None and self.preset.trial.seconds is None:
            return
        runs = {}
        for contestant in self.contestants:
            job = self.job("probe", contestant, contestant.trials[0], Budget(updates=_PROBE_UPDATES), 1, seed=1)
            runs[contestant.name] = self.run(f"probes/{contestant.name}", job)
        self.train(list(runs.values()), "measuring speed", self.plan.probe_cost)
        for name, run in runs.items():
            if not run.failed:
                self.rates[name] = run.record["updates"] / max(1e-3, run.record["train_seconds"])
                self._check_budget(name, run)

    def _check_budget(self, name: str, run: Run) -> None:
        if self.preset.budget.seconds is None:
            return
        least = max(run.record["valid_seconds"], self.preset.slices / self.rates[name])
        if self.preset.budget.seconds < least:
            raise UsageError(
                f"--minutes {self.preset.budget.minutes:g} is too small for one validation: {name} needs {least:.1f} s "
                f"for {self.preset.slices} updates or a pass over the {self.plan.bytes['valid']:,} bytes of valid; give at "
                f"least --minutes {least / 60 * 1.5:.2g}"
            )

    def tune(self) -> None:
        """The same number of trials for each contestant; the best by validation is what it trains with."""
        trials = self.trials = []
        for contestant in self.plan.tuned:
            for number, trial in enumerate(contestant.trials):
                job = self.job("trial", contestant, trial, self.preset.trial, 1, seed=1)
                trials.append((contestant, trial, self.run(f"trials/{contestant.name}-{number + 1}", job)))
        self.train([run for _, _, run in trials], "tuning", self.plan.slice_cost(self.preset.trial, 1))
        for contestant in self.plan.tuned:
            done = [
                (run.best_valid_bpb, number, trial)
                for number, (owner, trial, run) in enumerate(trials)
                if owner is contestant and not run.failed and math.isfinite(run.best_valid_bpb or math.nan)
            ]
            self.chosen[contestant.name] = min(done)[2] if done else contestant.trials[0]
        for contestant in self.contestants:
            if contestant.tuned_as is not None:
                self.chosen[contestant.name] = self.chosen[contestant.tuned_as]

    def train_seeds(self) -> List[Run]:
        """The runs that count: every contestant with every seed, in alternating slices."""
        self.runs = [
            self.run(f"runs/{contestant.name}-seed{seed}", self._job_of(contestant, "run", seed))
            for seed in self.preset.seeds
            for contestant in self.contestants
        ]
        self.train(self.runs, "training", self.plan.slice_cost(self.preset.budget, self.preset.slices))
        return self.runs

    def train_long(self) -> List[Run]:
        """One longer run of the best of each kind, by validation over the seeds."""
        self.long_runs = []
        if self.preset.long is None:
            return []
        for family in self.plan.kinds:
            ranked = []
            for contestant in self.contestants:
                good = [run for run in self.runs if run.job.contestant is contestant and not run.failed]
                if contestant.family == family and good:
                    ranked.append((mean(run.best_valid_bpb for run in good), contestant.name))
            if ranked:
                best = self.by_name(min(ranked)[1])
                job = self._job_of(best, "long", self.preset.seeds[0])
                folder = f"long/{best.name}-{self.preset.long.minutes:g}min-seed{job.seed}"
                self.long_runs.append(self.run(folder, job))
        cost = self.plan.slice_cost(self.preset.long, 2 * self.preset.slices)
        self.train(self.long_runs, "training the best of each kind longer", cost)
        return self.long_runs

    def evaluate(self, runs: Sequence[Run]) -> None:
        """The whole test split: SHA-RNN streaming, the others in blocks and with the context that fits its time."""
        good = [run for run in runs if run.finished and not run.failed]
        tasks = []
        for run in good:
            streaming = run.job.contestant.streaming
            mode = "streaming" if streaming else "blocks"
            options = streaming_options(self.preset) if streaming else window_options(self.preset, 0)
            tasks.append(
                self._step(run, mode, lambda run=run, mode=mode, o=options: evaluate(run, mode, o, self.processes))
            )
        self._work(tasks, "evaluating", self.plan.evaluation_cost)
        self._evaluate_windows([run for run in good if not run.job.contestant.streaming])

    def _evaluate_windows(self, runs: Sequence[Run]) -> None:
        allowed = self.allowed_seconds()
        if allowed is None:
            return
        firsts = {}
        for run in runs:
            firsts.setdefault(run.job.contestant.name, run)
        tasks = [
            self._step(run, "context that fits", lambda name=name, run=run: self._fit(name, run, allowed))
            for name, run in firsts.items()
        ]
        self._work(tasks, "evaluating", self.plan.evaluation_cost)
        tasks = []
        for run in runs:
            context = read_json(self._window_path(run.job.contestant.name))["context"]
            if context > 0:
                options = window_options(self.preset, context)
                mode = f"window-{context}"
                tasks.append(
                    self._step(run, mode, lambda run=run, mode=mode, o=options: evaluate(run, mode, o, self.processes))
                )
        self._work(tasks, "evaluating", self.plan.evaluation_cost)

    def allowed_seconds(self) -> Optional[float]:
        """Mean scoring time of the first streaming contestant that has one: what the others' windows may cost."""
        for contestant in self.contestants:
            if contestant.streaming:
                found = [read_json(run.folder / "evaluation-streaming.json") for run in self.runs_of(contestant)]
                seconds = [record["seconds"] for record in found if record is not None and record["reason"] is None]
                if seconds:
                    return mean(seconds)
        return None

    def _fit(self, name: str, run: Run, allowed: float) -> None:
        blocks = read_json(run.folder / "evaluation-blocks.json")
        seconds = blocks["seconds"] if blocks["reason"] is None else 0.0
        fit_context(run, seconds, allowed, self.processes, self._window_path(name))

    def _window_path(self, name: str) -> Path:
        return self.out / "windows" / f"{name}.json"

    def measure_generation(self) -> None:
        """Bytes written a second by the first seed's model of each contestant: another seed writes as fast."""
        tasks = []
        for contestant in self.contestants:
            good = [run for run in self.runs_of(contestant) if run.finished and not run.failed]
            if good:
                run = good[0]
                tasks.append(self._step(run, "", lambda run=run: generation_speed(run, self.preset, self.processes)))
        self._work(tasks, "generating", self.plan.generation_cost)

    def runs_of(self, contestant: Contestant) -> List[Run]:
        return [run for run in self.runs if run.job.contestant is contestant]

    # How stages work

    def job(self, kind: str, contestant: Contestant, trial: Trial, budget: Budget, slices: int, seed: int) -> Job:
        rate = self.rates.get(contestant.name, 1.0)
        return Job(kind, contestant, self.sizes[contestant.name], trial, budget, slices, seed, rate)

    def _job_of(self, contestant: Contestant, kind: str, seed: int) -> Job:
        budget = self.preset.budget if kind == "run" else self.preset.long
        slices = self.preset.slices * (1 if kind == "run" else 2)
        return self.job(kind, contestant, self.chosen[contestant.name], budget, slices, seed)

    def run(self, folder: str, job: Job) -> Run:
        return Run(self.out / folder, self.data, self.preset, job, self.processes)

    def train(self, runs: Sequence[Run], stage: str, cost: float) -> None:
        """Bring all runs to their end."""

        tasks = []
        for run in runs:
            self.progress.found(cost * (run.job.slices - run.remaining_slices))
            tasks.append(
                Task(
                    lambda run=run: f"{run.folder.name} {run.record['slices'] + 1}/{run.job.slices}",
                    self._counted(run.advance, cost),
                    lambda run=run: run.remaining_slices,
                )
            )
        self._work_tasks(tasks, stage)
        for run in runs:
            run.drop_optimizer_state()

    def _step(self, run: Run, what: str, work: Callable[[], object]) -> Task:
        return once(f"{run.folder.name} {what}".strip(), work)

    def _work(self, tasks: Sequence[Task], stage: str, cost: float) -> None:
        for task in tasks:
            task.step = self._counted(task.step, cost)
        self._work_tasks(tasks, stage)

    def _work_tasks(self, tasks: Sequence[Task], stage: str) -> None:
        work_through(tasks, self.preset.jobs, self.processes, lambda labels: self.progress.show(stage, labels))

    def _counted(self, step: Callable[[], None], cost: float) -> Callable[[], None]:
        def counted() -> None:
            step()
            self.progress.finished(cost)

        return counted
