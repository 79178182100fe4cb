"""SHA-RNN side by side with fairseq's Transformers and LSTM: equal parameters, equal tuning, equal budget.

    scripts/compare_transformer.py DATA --out results/NAME --preset cpu --seeds 1,2,3 --long-minutes 30

Trains and evaluates through fairseq-train and fairseq-eval-lm, and writes REPORT.md, results.json, results.csv and plots
into the output folder. What is finished is not repeated: the same command goes on with an interrupted comparison.
How it is made fair: docs/comparison.md.
"""

from typing import Any, Dict, List

from experiments.comparison import command_line
from experiments.comparison.contestants import OPTIMIZERS, contestants, missing
from experiments.comparison.experiment import Experiment
from experiments.comparison.presets import PRESETS, Preset
from experiments.comparison.progress import Steps
from fairseq_sharnn.errors import exit_with_one_line

_OPTIMIZER = {
    "lamb_min_trust": "minimum-trust LAMB, clipped at 0.25;",
    "adam": "Adam, betas 0.9 and 0.999, epsilon 1e-6, weight decay 1.2e-6, clipped at 0.25;",
}


def about(experiment: Experiment) -> Dict[str, Any]:
    """What the report says beside the figures."""
    preset = experiment.preset
    idle = command_line.IDLE_MEMORY / 2**20
    allowance = experiment.allowance()
    if allowance is None:
        allowed = "none here, for no SHA-RNN was evaluated"
    else:
        allowed = f"{allowance.seconds:.1f} s ({experiment.by_name(allowance.name).title})"
    alone = ", one at a time" if preset.timed_jobs == 1 else f", {preset.timed_jobs} at a time"
    return {
        "title": f"SHA-RNN side by side with fairseq's Transformers: preset {preset.name}",
        "budget_line": command_line.describe_budget(preset, f", stateless models windows of {preset.window}"),
        "evaluation_line": (
            f"Test: SHA-RNN streaming ({preset.eval_lanes} lanes, each warmed on {preset.context:,} bytes, chunks of "
            f"{preset.eval_chunk}); the others, no fewer bytes at once, in plain blocks of {preset.window}, and in windows "
            f"(of {preset.window}; the LSTM's of {preset.context}) whose first w bytes are context (`--context-window w`), "
            "w the largest whose measured time is within that of the best SHA-RNN by validation (means over seeds), "
            f"{allowed}. Which one counts was fixed beforehand: the windows where any fit, else the blocks. The best of "
            "each kind is chosen by validation, which is streaming for SHA-RNN and plain blocks for the others: between "
            "kinds, compare the tests."
        ),
        "speed_line": (
            f"Peak memory is that of the whole process; Python with fairseq alone holds {idle:,.0f} MiB. CPU/wall: seconds "
            "of processor over seconds of wall-clock, start-up and validation included; below 1 a training on one thread "
            f"had to wait. Evaluation counts the time of scoring, as fairseq-eval-lm prints it{alone}. Generation, by the "
            f"first seed's model{alone}: {preset.generated} bytes, sampled one by one in one lane after the prompt has "
            "been read, by fairseq's incremental decoding; the median of five rounds. A Transformer's positions end after "
            f"{preset.window} bytes, so of a longer prompt it sees the last; where they end it reads the last "
            f"{preset.window // 2} bytes again, also one by one, and goes on: two steps a byte. (Reading them in one pass, "
            "which fairseq's decoding does not do, would nearly halve that.) In the plot of quality against evaluation "
            "speed joined points are one model: in plain blocks, in windows with some context, in windows half of which is "
            "context."
        ),
        "tuning_line": (
            f"{preset.trials} trials of {preset.trial} for each contestant, seed 1; the best by validation was chosen. "
            f"{_before(preset)}SHA-RNN: {_OPTIMIZER[preset.optimizer]} the others: Adam, betas 0.9 and 0.98, decoupled "
            "weight decay 0.01, clipped at 1.0. A linear schedule falls to a twentieth of its lr by the end of the run."
        ),
        "notes": [
            "Parameters are counted in training, shared ones once: all within 3 % of "
            f"{preset.parameters:,}. SHA-RNN's includes the networks of its over-parameterised vectors, which collapse.",
            "fairseq's LSTM carries no state: each window starts from zero; `--context-window` gives it context.",
            *_bends(preset),
            *_paper(preset),
            f"Dropout is {preset.dropout:g} for all.",
            *[f"{name} is missing: {reason}." for name, reason in missing().items()],
        ],
    }


def _before(preset: Preset) -> str:
    """What was tried before the trials of the preset `cpu` were fixed, and what of it was chosen."""
    if preset.name != "cpu":
        return ""
    pilots = (
        "Before that there were pilot runs of one to three minutes: about 40 of SHA-RNN in its three forms, 7 of a "
        "Transformer, none of the LSTM. "
    )
    default = PRESETS["cpu"]
    if (preset.window, preset.chunk, preset.optimizer) != (default.window, default.chunk, default.optimizer):
        return f"{pilots}Bytes in an update were not tuned, nor the length of windows and of SHA-RNN's chunks. "
    return (
        f"{pilots}Windows of 64 were chosen among 64, 128 and 256, by 5 trials and a run of 6 minutes of the 2-layer "
        "Transformer for each; SHA-RNN's optimizer by scripts/ablate.py, 4 trials and a run of 3 minutes for each of four. "
        "Bytes in an update were not tuned, and SHA-RNN's chunk in pilots alone. "
    )


def _bends(preset: Preset) -> List[str]:
    if preset.budget.seconds is None:
        return []
    return [
        "A falling schedule ends where the speed of the chosen trial leads; each slice bends it, without a jump, to where "
        "the speed measured so far leads."
    ]


def _paper(preset: Preset) -> List[str]:
    if preset.name != "paper":
        return []
    return [
        "The schedule `halved` is the paper's two passes: half the rate for the last 5 of 37 parts of a run. (The paper "
        "begins the second with fresh moments and another warm-up; here they go on.)"
    ]


def guess(preset: Preset, contestants: int, splits: Dict) -> Steps:
    """Timing generation: a start, and some bytes."""
    return Steps(contestants, 17.0, preset.timed_jobs)


@exit_with_one_line()
def main() -> None:
    options = command_line.parser(__doc__)
    options.add_argument(
        "--window", type=int, help="bytes in a window of stateless models; an update has as many bytes as before"
    )
    options.add_argument("--optimizer", choices=sorted(OPTIMIZERS), help="SHA-RNN's (default: the preset's)")
    args = options.parse_args()
    stage = ("generating", guess, Experiment.measure_generation)
    command_line.run("compare_transformer.py", args, contestants, stage, about)
