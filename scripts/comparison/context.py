"""One trained SHA-RNN under other context lengths, without retraining: the paper says that context extends for little."""

from typing import Dict

from comparison.evaluation import evaluate
from comparison.experiment import Experiment
from comparison.pool import once, work_through
from comparison.storage import write_json
from comparison.training import Run


def measure_context(experiment: Experiment, run: Run) -> None:
    """Evaluate the run's model on the test split for each of the preset's context lengths; into context.json.

    In one lane, for a lane must be longer than the context; contexts at or below the chunk length are left out (no memory
    would be left), and so are those longer than the test split. One after the other, so that times compare.
    """
    preset = experiment.preset
    lengths = [
        length
        for length in preset.context_lengths
        if preset.eval_chunk < length and length < 2 * experiment.plan.bytes["test"]
    ]
    found: Dict[int, Dict] = {}

    def measure(length: int) -> None:
        options = [
            *("--model-overrides", f"{{'context_length': {length}}}"),
            *("--tokens-per-sample", str(preset.eval_chunk), "--batch-size", "1"),
        ]
        found[length] = evaluate(run, f"context-{length}", options, experiment.processes)

    for length in lengths:
        task = once(f"{run.folder.name}, context {length:,}", lambda length=length: measure(length))
        work_through([task], 1, experiment.processes, lambda labels: experiment.progress.show("context", labels))
        experiment.progress.finished(experiment.plan.evaluation_cost)
    write_json(
        experiment.out / "context.json",
        {
            "title": run.job.contestant.title,
            "run": run.folder.name,
            "trained_with": preset.context,
            "lengths": [{"context": length, **found[length]} for length in lengths],
        },
    )
