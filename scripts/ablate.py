#!/usr/bin/env python3
"""The paper's claims, one factor at a time: SHA-RNN with one thing changed in each variant.

    scripts/ablate.py DATA --out results/NAME --preset cpu --seeds 1,2

Number and place of heads, minimum-trust LAMB against LAMB and Adam (with the trust ratios of each tensor plotted),
over-parameterised against plain static vectors, Boom against a full feed-forward layer, dropout, and one trained model under
context lengths from 256 bytes to 64 k. Runner, output and options as compare_transformer.py's.
"""

import sys
from pathlib import Path
from typing import Any, Dict, List

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from comparison import command_line
from comparison.context import measure_context
from comparison.experiment import Experiment
from comparison.trials import trials_of
from comparison.variants import BASE, variants

from fairseq_sharnn.optim.trust_log import read_trust_log

_SHOWN_TRUST = (BASE, "min_trust_0.1", "lamb")


def context_of_base(experiment: Experiment) -> None:
    """Context lengths, on the first run of the base that ended well."""
    base = [run for run in experiment.runs if run.job.contestant.name == BASE]
    good = [run for run in base if run.finished and not run.failed]
    if good:
        measure_context(experiment, good[0])


def trust_ratios(experiment: Experiment) -> Dict[str, List[Dict]]:
    """Trust ratios over training of the first seed's runs with LAMB, by title."""
    found = {}
    for name in _SHOWN_TRUST:
        runs = [run for run in experiment.runs if run.job.contestant.name == name]
        path = runs[0].folder / "trust.jsonl" if runs else None
        lines = read_trust_log(path) if path is not None and path.exists() else []
        if lines:
            found[runs[0].job.contestant.title] = lines
    return found


def about(experiment: Experiment) -> Dict[str, Any]:
    """What the report says beside the figures."""
    preset = experiment.preset
    trials = preset.trials
    adam = "; ".join(str(trial) for trial in trials_of(preset, "adam"))
    return {
        "title": f"SHA-RNN, one factor at a time: preset {preset.name}",
        "budget_line": command_line.describe_budget(preset),
        "evaluation_line": (
            f"Test: streaming, {preset.eval_lanes} lanes, each warmed on {preset.context:,} bytes, chunks of "
            f"{preset.eval_chunk}. Each variant is the base with one thing changed; sizes are not brought to one count."
        ),
        "speed_line": "Peak memory is that of the whole process. Evaluation counts the time of scoring.",
        "tuning_line": (
            f"{trials} trials of {preset.trial} for the base and for each optimizer, seed 1; the best by validation was "
            f"chosen. All other variants train with the base's choice. Adam, whose rates are others: {adam}."
        ),
        "notes": [
            "At an equal training time a variant that is faster reads more: the column of bytes read says how much.",
            "The full feed-forward layer has two matrices with 2 D inside, Boom one with 4 D: the same number of weights.",
            "The plain static vector starts at 0.5, the over-parameterised one near 0.",
        ],
        "trust": trust_ratios(experiment),
    }


def main() -> None:
    args = command_line.parser(__doc__).parse_args()
    command_line.run("ablate.py", args, variants, [context_of_base], about)


if __name__ == "__main__":
    main()
