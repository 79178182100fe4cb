"""One trained model under other context lengths, without retraining."""

from functools import partial
from typing import List

from experiments.ablations.variants import BASE
from experiments.comparison.comparison import Comparison
from experiments.comparison.evaluation import evaluate, read_evaluations
from experiments.comparison.presets import Preset
from experiments.comparison.records import ContextLength, ContextLengths, Evaluation
from experiments.comparison.training_run import TrainingRun
from experiments.harness.records import write_record

CONTEXT = "context"  # the stage, as the line of progress names it


def context_lengths(preset: Preset, test_bytes: int) -> List[int]:
    """The preset's context lengths that make a difference on a test split of that size."""
    return [length for length in preset.context_lengths if length < 2 * test_bytes]


def measure_context(comparison: Comparison) -> None:
    """Evaluate the first usable run of the base on the test split with each context length; into context.json.

    One after the other, so that times can be compared.
    """
    for run in comparison.usable_runs_of(comparison.by_name(BASE))[:1]:
        lengths = context_lengths(comparison.preset, comparison.splits["test"].bytes)
        steps = {}
        for length in lengths:
            options = _options(length, _chunk(comparison.preset, length))
            label = f"{run.folder.name}, {length:,} bytes"
            steps[label] = partial(evaluate, run, _mode(length), options, comparison.runner.processes)
        comparison.runner.do_once(steps, CONTEXT)
        write_record(
            comparison.out / "context.json",
            ContextLengths(
                title=run.job.contestant.title,
                run=run.folder.name,
                trained_with=comparison.preset.context,
                lengths=[_result(run, length) for length in lengths],
            ),
        )


def _mode(length: int) -> str:
    return f"context-{length}"


def _chunk(preset: Preset, length: int) -> int:
    """The chunk of evaluation; half of a context that is shorter than two chunks, so that a memory remains."""
    return max(1, min(preset.eval_chunk, length // 2))


def _options(length: int, chunk: int) -> List[str]:
    """One lane, because a lane must be longer than the context."""
    return [
        *("--model-overrides", f"{{'context_length': {length}}}"),
        *("--tokens-per-sample", str(chunk), "--batch-size", "1"),
    ]


def _result(run: TrainingRun, length: int) -> ContextLength:
    missing = Evaluation(_mode(length), reason=f"{run.checkpoint} is gone")
    evaluation = next(iter(read_evaluations(run, [_mode(length)])), missing)
    return ContextLength(**vars(evaluation), context=length, chunk=_chunk(run.preset, length))
