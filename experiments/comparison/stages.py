"""What a comparison does, stage by stage. What an earlier call has done is read from the folder and not repeated."""

import math
from dataclasses import asdict
from functools import partial
from statistics import mean
from typing import Callable, Dict, List, Sequence

from experiments.comparison.comparison import Comparison, TrialRun, key_of
from experiments.comparison.contestant import Contestant
from experiments.comparison.evaluation import (
    BLOCKS,
    HALF,
    STREAMING,
    block_options,
    evaluate,
    read_evaluations,
    streaming_options,
    window_length,
    window_mode,
    window_options,
)
from experiments.comparison.generation import generation_speed
from experiments.comparison.halving import ROUNDS, budget_of, survivors
from experiments.comparison.plan import EVALUATING, MEASURING_SPEED, TRAINING, TRAINING_LONGER, TUNING, pace_budget
from experiments.comparison.presets import HALVING
from experiments.comparison.sizes import Size, find_sizes
from experiments.comparison.training_run import TrainingRun
from experiments.comparison.windows import Search
from experiments.harness.folder import read_json, write_json
from experiments.harness.pool import Task
from experiments.harness.records import from_plain
from fairseq_sharnn.errors import UsageError

# The folder of each kind of training.
FOLDERS = {MEASURING_SPEED: "pace", TUNING: "trials", TRAINING: "runs", TRAINING_LONGER: "long"}

GENERATING = "generating"


def find_all_sizes(comparison: Comparison) -> None:
    """Find the widths that bring every contestant to the number of parameters; kept in sizes.json.

    Raises UsageError if a contestant cannot come near it.
    """
    preset, path = comparison.preset, comparison.out / "sizes.json"
    known = from_plain(Dict[str, Size], read_json(path) or {})
    keys = {}
    for contestant in comparison.contestants:
        for trial in comparison.tuned_as(contestant).trials:
            keys[key_of(contestant, trial)] = (contestant, trial)
    by_length: Dict[int, List[Contestant]] = {}
    for key, (contestant, trial) in keys.items():
        if key not in known:
            # parameters of a model with state do not depend on the length of its chunks
            window = preset.window if contestant.streaming else trial.length or preset.window
            by_length.setdefault(window, []).append(contestant)
    found = {
        window: find_sizes(
            list({item.name: item for item in lacking}.values()), preset.parameters, window, preset.chunk
        )
        for window, lacking in by_length.items()
    }
    for key, (contestant, trial) in keys.items():
        if key not in known:
            window = preset.window if contestant.streaming else trial.length or preset.window
            known[key] = found[window][contestant.name]
    if found:
        write_json(path, {name: asdict(size) for name, size in known.items()})
    comparison.sizes = {key: known[key] for key in keys}


def measure_pace(comparison: Comparison) -> None:
    """Measure how many updates a second each contestant makes when warm, where a budget is in minutes.

    Learning rates are planned by it. Raises UsageError if a budget is too small for one validation.
    """
    preset = comparison.preset
    if not preset.timed:
        return
    for contestant in comparison.contestants:
        # one trial of each length, because the speed depends on it
        for trial in {trial.shape: trial for trial in comparison.tuned_as(contestant).trials[::-1]}.values():
            key = key_of(contestant, trial)
            run = comparison.new_run(f"pace/{key}", "pace", contestant, trial, pace_budget(preset), slices=1, seed=1)
            comparison.paces[key] = run
    train(comparison, list(comparison.paces.values()), MEASURING_SPEED)
    for name, run in comparison.paces.items():
        if not run.record.failed and preset.budget.seconds is not None:
            check_budget(comparison, name, run)


def check_budget(comparison: Comparison, name: str, pace: TrainingRun) -> None:
    """Raises UsageError if a run is shorter than its updates and one validation need."""
    preset = comparison.preset
    least = max(pace.record.valid_seconds, preset.slices / pace.record.warm_rate)
    if preset.budget.seconds < least:
        raise UsageError(
            f"--minutes {preset.budget.minutes:g} is too small for one validation: {name} needs {least:.1f} s for "
            f"{preset.slices} updates or a pass over the {comparison.splits['valid'].bytes:,} bytes of valid; give at "
            f"least --minutes {least / 60 * 1.5:.2g}"
        )


def tune(comparison: Comparison) -> None:
    """Find what each contestant trains with: the best by validation of its trials, which have the same time for each."""
    if comparison.preset.search == HALVING:
        _tune_by_halving(comparison)
        return
    for contestant in comparison.contestants:
        for number, trial in enumerate(contestant.trials):
            folder = f"trials/{contestant.name}-{number + 1}"
            run = comparison.new_run(folder, "trial", contestant, trial, comparison.preset.trial, slices=1, seed=1)
            comparison.trials.append(TrialRun(contestant, trial, run))
    train(comparison, [trial.run for trial in comparison.trials], TUNING)
    _choose(comparison, comparison.trials)


def _tune_by_halving(comparison: Comparison) -> None:
    """Rounds of trials; each round leaves about half of the settings, which train anew for twice as long."""
    left = {contestant.name: list(contestant.trials) for contestant in comparison.contestants}
    for number in range(1, ROUNDS + 1):
        trials = []
        for contestant in comparison.contestants:
            settings = left[contestant.name]
            for place, trial in enumerate(settings, start=1):
                folder = f"trials/{contestant.name}-round{number}-{place}"
                budget = budget_of(len(settings), comparison.preset.trial)
                run = comparison.new_run(folder, "trial", contestant, trial, budget, slices=1, seed=1)
                trials.append(TrialRun(contestant, trial, run))
        comparison.trials += trials
        train(comparison, [item.run for item in trials], TUNING, more=number < ROUNDS)
        for name in left:
            results = {
                item.trial: math.inf if item.run.record.failed else item.run.record.best_valid_bpb or math.inf
                for item in trials
                if item.contestant.name == name
            }
            left[name] = survivors(number, results)
    _choose(comparison, trials)


def _choose(comparison: Comparison, trials: Sequence[TrialRun]) -> None:
    """Each contestant trains with the best of its trials by validation, or with those of the one that it names."""
    for contestant in comparison.contestants:
        finished = [
            (item.run.record.best_valid_bpb, number)
            for number, item in enumerate(trials)
            if item.contestant is contestant
            and not item.run.record.failed
            and math.isfinite(item.run.record.best_valid_bpb or math.nan)
        ]
        if finished:
            best = trials[min(finished)[1]]
            comparison.chosen[contestant.name], comparison.tuned[contestant.name] = best.trial, best.run
    for contestant in comparison.contestants:
        owner = comparison.tuned_as(contestant)
        comparison.chosen[contestant.name] = comparison.chosen.get(owner.name, owner.trials[0])


def train_seeds(comparison: Comparison) -> None:
    """Train every contestant with every seed, in alternating slices: the runs that are compared."""
    preset = comparison.preset
    comparison.runs = [
        comparison.new_run(
            f"runs/{contestant.name}-seed{seed}",
            "run",
            contestant,
            comparison.chosen[contestant.name],
            preset.budget,
            preset.slices,
            seed,
        )
        for seed in preset.all_seeds
        for contestant in comparison.contestants
        if seed in preset.seeds_of(contestant.name)
    ]
    train(comparison, comparison.runs, TRAINING)


def train_long(comparison: Comparison) -> None:
    """Train one longer run of the best of each family by validation, if the preset has a budget for it."""
    preset = comparison.preset
    if preset.long is None:
        return
    seed = preset.seeds[0]
    for family in dict.fromkeys(contestant.family for contestant in comparison.contestants):
        for best in comparison.by_validation(family)[:1]:
            folder = f"long/{best.name}-{preset.long.minutes:g}min-seed{seed}"
            trial, slices = comparison.chosen[best.name], 2 * preset.slices
            comparison.long_runs.append(comparison.new_run(folder, "long", best, trial, preset.long, slices, seed))
    train(comparison, comparison.long_runs, TRAINING_LONGER)


def train(comparison: Comparison, runs: Sequence[TrainingRun], kind: str, more: bool = False) -> None:
    """Bring all runs to their end. more: whether other runs of this kind follow."""
    if not more:
        comparison.runner.progress.set_left(kind, sum(run.remaining_slices for run in runs))
    comparison.runner.do([_slices_of(run) for run in runs], kind, more)
    for run in runs:
        run.drop_optimizer_state()


def _slices_of(run: TrainingRun) -> Task:
    def label() -> str:
        return f"{run.folder.name} {run.record.slices + 1}/{run.job.slices}"

    return Task(label, run.advance, lambda: run.remaining_slices)


def evaluate_runs(comparison: Comparison, runs: Sequence[TrainingRun], kind: str = EVALUATING) -> None:
    """Evaluate the whole test split: SHA-RNN streaming; the others in blocks, and in windows with context."""
    usable = [run for run in runs if run.usable]
    steps = {}
    for run in usable:
        if run.job.contestant.streaming:
            mode, options = STREAMING, streaming_options(run.preset, run.context)
        else:
            mode, options = BLOCKS, block_options(comparison.preset, run.length)
        steps[f"{run.folder.name} {mode}"] = partial(evaluate, run, mode, options, comparison.runner.processes)
    comparison.runner.do_once(steps, kind, more=True)
    stateless = [run for run in usable if not run.job.contestant.streaming]
    comparison.runner.do_once(_searches(comparison, stateless), kind, more=True)
    steps = _windows(comparison, stateless)
    comparison.runner.progress.set_left(kind, len(steps))
    comparison.runner.do_once(steps, kind)


def _searches(comparison: Comparison, runs: Sequence[TrainingRun]) -> Dict[str, Callable[[], bool]]:
    """For each stateless contestant, the search for the context that fits the time of the best SHA-RNN."""
    allowance, steps = comparison.allowance(), {}
    for contestant in comparison.contestants if allowance is not None else ():
        its_runs = [run for run in runs if run.job.contestant is contestant]
        # without checkpoints nothing can be measured, and what was found before stays
        if its_runs and all(run.checkpoint.exists() for run in its_runs):
            path = comparison.context_path(contestant)
            search = Search(its_runs, allowance, comparison.runner.processes, path)
            blocks = [record for run in its_runs for record in read_evaluations(run, [BLOCKS])]
            seconds = [record.seconds for record in blocks if record.reason is None] or [0.0]
            steps[f"{contestant.name}, context that fits"] = partial(search.run, mean(seconds))
    return steps


def _windows(comparison: Comparison, runs: Sequence[TrainingRun]) -> Dict[str, Callable[[], bool]]:
    """For each run, windows with the context that fits, and, if that is less, with half of each window as context."""
    steps = {}
    for run in runs:
        window = window_length(run)
        fits = comparison.fitted_context(run.job.contestant).context
        modes = {window_mode(fits): fits} if fits > 0 else {}
        if fits < window // 2:
            modes[HALF] = window // 2
        for mode, context in modes.items():
            options = window_options(comparison.preset, window, context)
            steps[f"{run.folder.name} {mode}"] = partial(evaluate, run, mode, options, comparison.runner.processes)
    return steps


def measure_generation(comparison: Comparison) -> None:
    """Measure bytes written a second by the first usable run of each contestant: another seed writes as fast."""
    steps = {}
    for contestant in comparison.contestants:
        for run in comparison.usable_runs_of(contestant)[:1]:
            steps[run.folder.name] = partial(generation_speed, run, comparison.runner.processes)
    comparison.runner.do_once(steps, GENERATING)


def count_trained_slices(comparison: Comparison) -> None:
    """Count in the line of progress the slices that earlier calls have trained, of these contestants and seeds."""
    names = {contestant.name for contestant in comparison.contestants}
    for kind, folder in FOLDERS.items():
        records: List[Dict] = [read_json(path) for path in comparison.out.glob(f"{folder}/*/run.json")]
        seeds_of = comparison.preset.seeds_of
        slices = sum(
            record["slices"]
            for record in records
            if record["contestant"] in names and (folder != "runs" or record["seed"] in seeds_of(record["contestant"]))
        )
        comparison.runner.progress.skip(kind, slices)
