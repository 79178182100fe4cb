"""What there is to do in a comparison, and an estimate of how long it takes."""

from typing import Dict, Sequence

from experiments.comparison.contestant import Contestant
from experiments.comparison.halving import FINALISTS, ROUNDS
from experiments.comparison.presets import ALL_METHODS, HALVING, Preset
from experiments.comparison.trials import Budget
from experiments.harness.progress import Steps, duration, total_seconds

# Kinds of steps, as the line of progress names them.
MEASURING_SPEED = "measuring speed"
TUNING = "tuning"
TRAINING = "training"
EVALUATING = "evaluating"
EVALUATING_METHODS = "evaluating at equal time"
TRAINING_LONGER = "training longer"
EVALUATING_LONGER = "evaluating longer"

_START_UP = 7.0  # seconds that a fairseq command takes to import what it needs
_UPDATE = 0.1  # seconds, where the budget is in updates
_LONGEST_PACE = 12.0  # seconds that the speed of a contestant is measured for at most


def pace_budget(preset: Preset) -> Budget:
    """The budget for measuring a contestant's speed: a quarter of a run at most, but long enough to become warm."""
    longest = max(budget.seconds or 0 for budget in (preset.budget, preset.trial, preset.long) if budget is not None)
    return Budget(minutes=min(_LONGEST_PACE, max(2.0, longest / 4)) / 60)


def halving_budget(preset: Preset) -> Budget:
    """What all trials of one contestant may spend in successive halving."""
    share = ROUNDS * FINALISTS
    if preset.trial.updates is not None:
        return Budget(updates=share * preset.trial.updates)
    return Budget(minutes=share * preset.trial.minutes)


def planned(
    preset: Preset, contestants: Sequence[Contestant], bytes_of: Dict[str, int], extra: Dict[str, Steps]
) -> Dict[str, Steps]:
    """The steps of a whole comparison, by kind. bytes_of: sizes of the splits. extra: steps of the program's own stage."""
    # roughly: two operations for each parameter and byte, 30 GFLOP/s on a CPU core, 60 TFLOP/s on a GPU
    speed = 30e9 if "--cpu" in preset.device else 60e12
    valid, test = (2 * bytes_of[split] * preset.parameters / speed for split in ("valid", "test"))

    def training(count: int, budget: Budget, slices: int) -> Steps:
        seconds = budget.seconds / slices if budget.seconds is not None else _UPDATE * budget.updates / slices
        return Steps(count, _START_UP + seconds + valid, preset.jobs)

    runs = sum(len(preset.seeds_of(contestant.name)) for contestant in contestants)
    stateless = sum(len(preset.seeds_of(item.name)) for item in contestants if not item.streaming)
    # each stateless one: blocks, two attempts to find the context that fits, windows with half of it context
    evaluations = runs + 3 * stateless
    steps = {}
    if preset.timed:
        shapes = sum(len({trial.shape for trial in item.trials}) or 1 for item in contestants)
        steps[MEASURING_SPEED] = training(shapes, pace_budget(preset), 1)
    steps[TUNING] = training(sum(len(item.trials) for item in contestants), preset.trial, 1)
    if preset.search == HALVING:
        tuned = [item for item in contestants if item.trials]
        steps[TUNING] = training(30 * len(tuned), halving_budget(preset), 30)
    steps[TRAINING] = training(runs * preset.slices, preset.budget, preset.slices)
    steps[EVALUATING] = Steps(evaluations, _START_UP + test, preset.timed_jobs)
    if preset.methods == ALL_METHODS:
        # of each run: about twelve methods on valid and eight on test, which take twice as long as the main one
        steps[EVALUATING_METHODS] = Steps(20 * runs, _START_UP + 2 * (0.6 * valid + 0.4 * test), preset.timed_jobs)
    steps.update(extra)
    if preset.long is not None:
        families, slices = _families(contestants), 2 * preset.slices
        steps[TRAINING_LONGER] = training(families * slices, preset.long, slices)
        steps[EVALUATING_LONGER] = Steps(3 * families, _START_UP + test, preset.timed_jobs)
    return steps


def _families(contestants: Sequence[Contestant]) -> int:
    return len({contestant.family for contestant in contestants})


def announcement(preset: Preset, contestants: Sequence[Contestant], steps: Dict[str, Steps]) -> str:
    """What is going to happen, and how long that takes."""
    trials = f"{steps[TUNING].count} trials of {preset.trial}"
    if preset.search == HALVING:
        trials = f"successive halving of {halving_budget(preset)} for each"
    long = "" if preset.long is None else f", {_families(contestants)} runs of {preset.long}"
    return (
        f"comparison: {len(contestants)} models x {len(preset.seeds)} seeds x {preset.budget}, {trials}{long}; "
        f"{preset.jobs} trainings at a time, one thread each: about "
        f"{duration(total_seconds(steps))} from the beginning"
    )
