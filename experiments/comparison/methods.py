"""All ways in which one trained model can be evaluated, for the comparison at equal time of evaluation.

A method is a set of options of fairseq-eval-lm. Each is measured on valid, by which methods are chosen, and on test. Dynamic
evaluation is measured on valid at several rates, and on test at the best one.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from statistics import mean
from typing import Dict, List, Optional, Sequence, Tuple

from experiments.comparison.comparison import Comparison
from experiments.comparison.evaluation import (
    BLOCKS,
    STREAMING,
    block_options,
    evaluate,
    read_evaluations,
    streaming_options,
    window_length,
    window_mode,
    window_options,
)
from experiments.comparison.plan import EVALUATING_METHODS
from experiments.comparison.records import DYNAMIC, MethodResult
from experiments.comparison.training_run import TrainingRun

RATES = (3e-5, 1e-4, 3e-4, 1e-3)  # of dynamic evaluation


@dataclass(frozen=True)
class Method:
    """A way to evaluate. name: for files. title: for people. rate: of dynamic evaluation, None for a static method."""

    name: str
    title: str
    options: Tuple[str, ...]
    rate: Optional[float] = None

    @property
    def base(self) -> str:
        """The name without the rate: of dynamic methods with one base, the best rate is used."""
        return self.name if self.rate is None else self.name.rpartition("-rate-")[0]

    def dynamic(self, rate: float) -> "Method":
        """The same with weights that learn at that rate from what was scored."""
        options = (*self.options, "--dynamic-lr", f"{rate:g}")
        return replace(
            self, name=f"{self.name}-rate-{rate:g}", title=f"{self.title}{DYNAMIC}", options=options, rate=rate
        )


def methods_of(run: TrainingRun) -> List[Method]:
    """The ways in which a run can be evaluated: static ones first."""
    static, learning = _streaming(run) if run.job.contestant.streaming else _windows(run)
    return [*static, *(method.dynamic(rate) for method in learning for rate in RATES)]


def _streaming(run: TrainingRun) -> Tuple[List[Method], List[Method]]:
    """A model with state: other context lengths, without retraining, if it attends. Learning lanes have no warm-up."""
    preset, trained = run.preset, run.context
    static = [Method(STREAMING, f"streaming, context {trained:,}", tuple(streaming_options(preset, trained)))]
    # a model without a head attends to nothing
    attends = "none" not in run.job.contestant.arguments
    for context in (trained // 2, 2 * trained, 4 * trained) if attends else ():
        override = ("--model-overrides", f"{{'context_length': {context}}}")
        options = (*streaming_options(preset, context), *override)
        static.append(Method(f"context-{context}", f"streaming, context {context:,}", options))
    options = tuple(streaming_options(preset, trained)[:-2])
    return static, [Method("lanes", f"streaming, context {trained:,}", options)]


def _windows(run: TrainingRun) -> Tuple[List[Method], List[Method]]:
    """A stateless model: blocks, and windows of which a half to seven eighths are context; dynamic blocks and halves."""
    window = window_length(run)
    blocks = Method(BLOCKS, "blocks", tuple(block_options(run.preset, run.length)))
    overlapping = [
        Method(
            window_mode(context), f"windows, context {context:,}", tuple(window_options(run.preset, window, context))
        )
        for context in (window // 4, window // 2, 3 * window // 4, 7 * window // 8)
    ]
    return [blocks, *overlapping], [blocks, overlapping[1]]


def valid_mode(name: str) -> str:
    """The mode under which a method's evaluation on valid is recorded."""
    return f"{name}.valid"


def evaluate_methods(comparison: Comparison) -> None:
    """Measure every usable run by all methods, one at a time where durations are reported."""
    runs = [run for run in comparison.runs if run.usable]
    processes = comparison.runner.processes
    steps = {}
    for run in runs:
        for method in methods_of(run):
            mode, options = valid_mode(method.name), method.options
            step = partial(evaluate, run, mode, options, processes, "valid")
            steps[f"{run.folder.name} {method.name}, valid"] = step
    comparison.runner.do_once(steps, EVALUATING_METHODS, more=True)
    steps = {}
    for run in runs:
        for method in methods_to_test(run):
            step = partial(evaluate, run, method.name, method.options, processes)
            steps[f"{run.folder.name} {method.name}, test"] = step
    comparison.runner.do_once(steps, EVALUATING_METHODS)


def methods_to_test(run: TrainingRun) -> List[Method]:
    """The methods that are measured on test: all static ones, and each dynamic one at the rate that is best on valid."""
    methods = methods_of(run)
    best: Dict[str, Tuple[float, Method]] = {}
    for method in methods:
        for record in read_evaluations(run, [valid_mode(method.name)]) if method.rate is not None else ():
            if record.bpb is not None and math.isfinite(record.bpb):
                best[method.base] = min(best.get(method.base, (math.inf, method)), (record.bpb, method), key=_first)
    return [*(method for method in methods if method.rate is None), *(method for _, method in best.values())]


def _first(pair: Tuple[float, Method]) -> float:
    return pair[0]


def method_results(runs: Sequence[TrainingRun]) -> List[MethodResult]:
    """What was measured of all methods, as means over the seeds of a contestant. A method that one seed lacks is left out.

    Seeds may have different rates of dynamic evaluation, each the best on valid for its model.
    """
    found: Dict[Tuple[str, str], List[MethodResult]] = {}
    count: Dict[str, int] = {}
    for run in runs:
        name = run.job.contestant.name
        count[name] = count.get(name, 0) + 1
        for method in methods_to_test(run):
            records = [
                *read_evaluations(run, [valid_mode(method.name)]),
                *read_evaluations(run, [method.name]),
            ]
            if len(records) == 2 and all(record.bpb is not None for record in records):
                valid, test = records
                found.setdefault((name, method.base), []).append(
                    MethodResult(name, method.base, method.title, valid.bpb, valid.seconds, test.bpb, test.seconds, 1)
                )
    return [_mean(results) for (name, _), results in found.items() if len(results) == count[name]]


def _mean(results: Sequence[MethodResult]) -> MethodResult:
    figures = {
        name: mean(getattr(result, name) for result in results)
        for name in ("valid_bpb", "valid_seconds", "test_bpb", "test_seconds")
    }
    return replace(results[0], seeds=len(results), **figures)
