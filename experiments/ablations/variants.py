"""The paper's claims, one factor at a time: variants of the single-headed SHA-RNN, and one of them under other contexts."""

from typing import Dict, List, Tuple

from experiments.comparison.contestants import ADAM_AS_LAMB, LAMB, Contestant, sha_rnn
from experiments.comparison.evaluation import evaluate
from experiments.comparison.experiment import Experiment
from experiments.comparison.presets import Preset, Trial
from experiments.comparison.training_run import Run
from experiments.harness.folder import write_json

BASE = "base"
_NO_KERNELS = (("FAIRSEQ_SHARNN_KERNELS", "0"),)


def widths(preset: Preset) -> int:
    """D of all variants: multiples of 8, near the preset's parameter count; H is 4 D."""
    # a layer has 8 D² in its LSTM and 4 D² in its Boom; embedding and head come to a little more
    return max(8, round((preset.parameters / (12 * preset.layers["sha_rnn"] + 3)) ** 0.5 / 8) * 8)


def one_schedule(preset: Preset, grid: str) -> Tuple[Trial, ...]:
    """The trials of a grid over rates and warm-up, four at most: the schedule is no factor here, and the same for all.

    (A trial is too short to see what a falling rate gains by the end of a run, and noisy enough to prefer a constant one.)
    """
    first, *others = preset.trials_of(grid)
    return (first, *(trial for trial in others if trial.schedule == first.schedule))[:4]


def variants(preset: Preset) -> List[Contestant]:
    """The base first; every other differs from it in what its title names. Sizes are not brought to one count."""
    width = widths(preset)
    layers = preset.layers["sha_rnn"]

    def variant(name: str, title: str, *arguments: str, **changes) -> Contestant:
        sizes = ("--decoder-embed-dim", str(width), "--boom-dim", str(4 * width))
        if name != BASE and "optimizer" not in changes:
            changes = {"tuned_as": BASE, "trials": (), **changes}
        common = {"width": (), "inner": None, "optimizer": LAMB, "trials": one_schedule(preset, "sha_rnn")}
        return sha_rnn(name, title, preset, *sizes, *arguments, **{**common, **changes})

    def lamb(min_trust: str, grid: str) -> dict:
        optimizer = (*LAMB, "--min-trust", min_trust)
        return {"optimizer": optimizer, "trials": one_schedule(preset, grid), "trust_log": True}

    return [
        variant(BASE, "base: one head, second-to-last layer", trust_log=True),
        variant("no_head", "no head", "--attention-layers", "none"),
        variant("first_layer", "one head, first layer", "--attention-layers", "0"),
        variant("last_layer", "one head, last layer", "--attention-layers", str(layers - 1)),
        variant("all_layers", "one head in every layer", "--attention-layers", "all"),
        variant("two_heads", "two heads, second-to-last layer", "--attention-heads", "2"),
        variant("four_heads", "four heads, second-to-last layer", "--attention-heads", "4"),
        variant("min_trust_0.1", "LAMB, minimum trust 0.1", **lamb("0.1", "sha_rnn")),
        variant("lamb", "plain LAMB (minimum trust 0)", **lamb("0", "lamb")),
        variant("adam", "Adam", optimizer=ADAM_AS_LAMB, trials=one_schedule(preset, "adam")),
        variant("plain_vectors", "plain static vectors", "--static-vectors", "plain"),
        # Boom has a C++ kernel and the full layer none: the two are compared without any
        variant("boom_in_torch", "base without the C++ kernels (Boom)", environment=_NO_KERNELS),
        variant(
            *("full_feed_forward", "full feed-forward layer of equal cost, without the C++ kernels"),
            *("--feed-forward", "full", "--boom-dim", str(2 * width)),
            environment=_NO_KERNELS,
        ),
        variant("dropout_0.1", "dropout 0.1, as published", "--dropout", "0.1")
        if preset.dropout == 0
        else variant("no_dropout", "no dropout", "--dropout", "0.0"),
    ]


def context_lengths(preset: Preset, test_bytes: int) -> List[int]:
    """The preset's context lengths that a test split of that size can show."""
    return [length for length in preset.context_lengths if length < 2 * test_bytes]


def measure_context(experiment: Experiment, run: Run) -> None:
    """Evaluate the run's model on the test split under each context length, without retraining; into context.json.

    In one lane, for a lane must be longer than the context; in chunks of half a context that is shorter than two chunks, for
    memory is what a chunk leaves of it. One after the other, so that times compare.
    """
    preset = experiment.preset
    lengths = context_lengths(preset, experiment.splits["test"]["bytes"])
    found: Dict[int, Dict] = {}

    def measure(length: int) -> None:
        chunk = max(1, min(preset.eval_chunk, length // 2))
        options = [
            *("--model-overrides", f"{{'context_length': {length}}}"),
            *("--tokens-per-sample", str(chunk), "--batch-size", "1"),
        ]
        record = evaluate(run, f"context-{length}", options, experiment.processes)
        found[length] = {"context": length, "chunk": chunk, **record}

    steps = {f"{run.folder.name}, {length:,} bytes": lambda length=length: measure(length) for length in lengths}
    experiment.work(steps, "context")
    write_json(
        experiment.out / "context.json",
        {
            "title": run.job.contestant.title,
            "run": run.folder.name,
            "trained_with": preset.context,
            "lengths": [found[length] for length in lengths],
        },
    )
