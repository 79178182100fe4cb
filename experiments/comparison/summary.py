"""The figures of a contestant over its seeds."""

from dataclasses import dataclass, field
from typing import Dict, List, Optional, Sequence

from experiments.comparison.contestant import Contestant
from experiments.comparison.evaluation import HALF
from experiments.comparison.presets import CPU_TIME
from experiments.comparison.records import FittedContext
from experiments.comparison.run_result import RunResult, modes_of
from experiments.harness.spread import Spread, spread


@dataclass(frozen=True)
class Scored:
    """The test split in one way of evaluation: bits per byte, seconds of scoring, bytes a second."""

    bpb: Optional[Spread] = None
    seconds: Optional[Spread] = None
    bytes_per_second: Optional[Spread] = None


@dataclass(frozen=True)
class Summary:
    """Means and deviations over seeds; None for what was not measured.

    seeds: finished runs. failed: what failed, with the reason. bytes: read in training. cores: CPU time over wall-clock
    time. wall_minutes: of training, where the budget is processor time. peak_memory: in training, in bytes. main: streaming
    or plain blocks; window: with the `context` that fits; half: with half of each window as context. test_bpb: of `window`
    if a context fits, else of `main`. generation: bytes a second by the length of the prompt.
    """

    name: str
    title: str
    family: str
    parameters: Optional[int]
    seeds: int
    failed: List[str]
    bytes: Optional[Spread]
    updates: Optional[Spread]
    train_minutes: Optional[Spread]
    train_bytes_per_second: Optional[Spread]
    cores: Optional[Spread]
    peak_memory: Optional[Spread]
    gpu_peak_memory: Optional[Spread]
    valid_bpb: Optional[Spread]
    test_bpb: Optional[Spread]
    context: int
    main: Scored
    window: Scored
    half: Scored
    generation: Dict[str, float] = field(default_factory=dict)
    wall_minutes: Optional[Spread] = None


def summarise(contestant: Contestant, results: Sequence[RunResult], fitted: FittedContext) -> Summary:
    """The figures of a contestant from the results of its runs. fitted: the context that fits the allowed time."""
    finished = [result for result in results if result.status == "finished"]
    modes = modes_of(contestant, fitted.context)
    generation = next((result.generation for result in finished if result.generation.command), None)
    return Summary(
        name=contestant.name,
        title=contestant.title,
        family=contestant.family,
        parameters=results[0].parameters if results else None,
        seeds=len(finished),
        failed=_failures(results, fitted),
        bytes=spread([result.bytes for result in finished]),
        updates=spread([result.updates for result in finished]),
        train_minutes=spread([result.train_seconds / 60 for result in finished]),
        train_bytes_per_second=spread([result.bytes_per_second for result in finished]),
        cores=spread([result.cores for result in finished]),
        peak_memory=spread([result.peak_memory for result in finished]),
        gpu_peak_memory=spread([result.gpu_peak_memory for result in finished]),
        valid_bpb=spread([result.valid_bpb for result in finished]),
        test_bpb=_scored(finished, modes.counted).bpb,
        context=fitted.context,
        main=_scored(finished, modes.main),
        window=_scored(finished, modes.window),
        half=_scored(finished, HALF),
        generation={} if generation is None else generation.bytes_per_second,
        wall_minutes=spread([result.train_wall_seconds / 60 for result in finished if result.charge == CPU_TIME]),
    )


def _scored(results: Sequence[RunResult], mode: Optional[str]) -> Scored:
    evaluations = [result.evaluated(mode) for result in results]
    known = [evaluation for evaluation in evaluations if evaluation is not None]
    return Scored(
        spread([evaluation.bpb for evaluation in known]),
        spread([evaluation.seconds for evaluation in known]),
        spread([evaluation.bytes_per_second for evaluation in known]),
    )


def _failures(results: Sequence[RunResult], fitted: FittedContext) -> List[str]:
    """Every training, evaluation and measurement that failed, with its reason."""
    failed = [f"seed {result.seed}: {result.reason}" for result in results if result.status == "failed"]
    for result in results:
        if result.status == "finished":
            failed += [f"{item.mode}: {item.reason}" for item in result.evaluations if item.reason]
            if result.generation.reason:
                failed.append(f"generation: {result.generation.reason}")
    return failed + ([fitted.reason] if fitted.reason else [])
