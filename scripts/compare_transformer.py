#!/usr/bin/env python3
"""SHA-RNN side by side with fairseq's Transformers and LSTM: equal parameters, equal tuning, equal budget.

    scripts/compare_transformer.py DATA --out results/NAME --preset cpu --seeds 1,2,3 --long-minutes 30

Trains and evaluates through fairseq-train and fairseq-eval-lm, and writes REPORT.md, results.json, results.csv and plots
into the output folder. What is finished is not repeated: the same command goes on with an interrupted comparison.
How it is made fair: examples/comparison/README.md.
"""

import sys
from pathlib import Path
from typing import Any, Dict

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from comparison import command_line
from comparison.contestants import contestants, missing
from comparison.experiment import Experiment


def about(experiment: Experiment) -> Dict[str, Any]:
    """What the report says beside the figures."""
    preset = experiment.preset
    trials = len(experiment.contestants[0].trials)
    idle = command_line.IDLE_MEMORY / 2**20
    return {
        "title": f"SHA-RNN side by side with fairseq's Transformers: preset {preset.name}",
        "budget_line": command_line.describe_budget(preset),
        "evaluation_line": (
            f"Test: SHA-RNN streaming ({preset.eval_lanes} lanes, each warmed on {preset.context:,} bytes, chunks of "
            f"{preset.eval_chunk}); the others in plain blocks of {preset.window}, and in windows of {preset.window} whose "
            "first w bytes are context (`--context-window w`), w the largest whose measured time is within SHA-RNN's "
            f"{experiment.allowed_seconds() or 0:.1f} s."
        ),
        "speed_line": (
            f"Peak memory is that of the whole process; Python with fairseq alone holds {idle:,.0f} MiB. Evaluation counts "
            "the time of scoring, as fairseq-eval-lm prints it. Generation, by the first seed's model: "
            f"{preset.generated} bytes, sampled one by one in one lane after the prompt has been read: SHA-RNN by "
            "`sample_bytes`, the others by fairseq's incremental decoding. A Transformer's positions end after "
            f"{preset.window} bytes, so of a longer prompt it sees the last; where they end it reads the last "
            f"{preset.window // 2} bytes again and goes on (a sliding window)."
        ),
        "tuning_line": (
            f"{trials} trials of {preset.trial} for each contestant, seed 1; the best by validation was chosen. SHA-RNN: "
            "minimum-trust LAMB, clipped at 0.25; the others: Adam, betas 0.9 and 0.98, decoupled weight decay 0.01, "
            "clipped at 1.0. A linear schedule falls to a twentieth of its lr by the end of the run."
        ),
        "notes": [
            "Parameters are counted in training, shared ones once: all within 3 % of "
            f"{preset.parameters:,}. SHA-RNN's includes the networks of its over-parameterised vectors, which collapse.",
            "fairseq's LSTM carries no state: each window starts from zero; `--context-window` gives it context.",
            "The end of a falling schedule is set by the speed measured so far, anew at each slice.",
            f"Dropout is {preset.dropout:g} for all.",
            *[f"{name} is missing: {reason}." for name, reason in missing().items()],
        ],
    }


def main() -> None:
    args = command_line.parser(__doc__).parse_args()
    stages = [Experiment.measure_generation]
    command_line.run("compare_transformer.py", args, contestants, stages, about)


if __name__ == "__main__":
    main()
