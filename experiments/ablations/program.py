"""The paper's claims, one factor at a time: SHA-RNN with one thing changed in each variant.

    scripts/ablate.py DATA --out results/NAME --preset cpu --seeds 1,2

Number and place of heads, minimum-trust LAMB against LAMB and Adam (with the trust ratios of each tensor plotted),
over-parameterised against plain static vectors, Boom against a full feed-forward layer, dropout, and one trained model under
context lengths from 256 bytes to 64 k. Runner, output and options as compare_transformer.py's, but for --window and
--optimizer.
"""

from typing import Any, Dict, List

from experiments.ablations.variants import BASE, context_lengths, measure_context, one_schedule, variants
from experiments.comparison import command_line
from experiments.comparison.experiment import Experiment
from experiments.comparison.presets import Preset
from experiments.comparison.progress import Steps
from fairseq_sharnn.errors import exit_with_one_line
from fairseq_sharnn.optim.trust_log import read_trust_log


def context_of_base(experiment: Experiment) -> None:
    """Context lengths, on the first run of the base that ended well."""
    base = [run for run in experiment.runs if run.job.contestant.name == BASE]
    good = [run for run in base if run.finished and not run.failed]
    if good:
        measure_context(experiment, good[0])


def guess(preset: Preset, variants: int, splits: Dict) -> Steps:
    """Context lengths: one lane is slow."""
    return Steps(len(context_lengths(preset, splits["test"]["bytes"])), 60.0, 1)


def trust_ratios(experiment: Experiment) -> Dict[str, List[Dict]]:
    """Trust ratios over training of the first seed's runs with LAMB, by title."""
    found = {}
    for run in experiment.runs:
        path = run.folder / "trust.jsonl"
        if run.job.seed == experiment.preset.seeds[0] and path.exists():
            found[run.job.contestant.title] = read_trust_log(path)
    return {title: lines for title, lines in found.items() if lines}


def about(experiment: Experiment) -> Dict[str, Any]:
    """What the report says beside the figures."""
    preset = experiment.preset
    trials = {name: one_schedule(preset, name) for name in ("sha_rnn", "lamb", "adam")}
    grids = {name: "; ".join(map(str, tried)) for name, tried in trials.items()}
    warmups = {name: len({trial.warmup for trial in tried}) for name, tried in trials.items()}
    what = "over rates and warm-up" if warmups["sha_rnn"] > 1 else "over rates"
    unlike = " Plain LAMB was tried at more rates, and not with another warm-up." if warmups["sha_rnn"] > 1 else ""
    return {
        "title": f"SHA-RNN, one factor at a time: preset {preset.name}",
        "budget_line": command_line.describe_budget(preset),
        "evaluation_line": (
            f"Test: streaming, {preset.eval_lanes} lanes, each warmed on {preset.context:,} bytes, chunks of "
            f"{preset.eval_chunk}. Each variant is the base with one thing changed; sizes are not brought to one count."
        ),
        "speed_line": (
            "Peak memory is that of the whole process; Python with fairseq alone holds "
            f"{command_line.IDLE_MEMORY / 2**20:,.0f} MiB. Evaluation counts the time of scoring."
        ),
        "tuning_line": (
            f"{len(trials['sha_rnn'])} trials of {preset.trial} for the base and for each optimizer, {what}, seed 1; the "
            "best by validation was chosen. The schedule is the same for all, and all other variants train with the base's "
            f"choice. Other rates than LAMB's with a floor have plain LAMB ({grids['lamb']}) and Adam ({grids['adam']}). "
            "All have the same clipping (0.25), weight decay (1.2e-6), betas and epsilon; fairseq's Adam corrects its "
            f"moments for their start at zero, which LAMB does not.{unlike}"
        ),
        "notes": [
            "At an equal training time a variant that is faster reads more: the column of bytes read says how much. With "
            "`--updates` all read the same.",
            "A difference smaller than the deviation over seeds shows nothing.",
            "The full feed-forward layer has two matrices with 2 D inside, Boom one with 4 D: the same number of weights. "
            "Boom has a C++ kernel and the full layer none, so the two are compared without any "
            "(FAIRSEQ_SHARNN_KERNELS=0): the factor is the difference of those two rows.",
            "The plain static vector is one learned vector; it starts with the value that the network of the "
            "over-parameterised one would give at its start, for the same seed, so that both models start as one function.",
        ],
        "trust": trust_ratios(experiment),
    }


@exit_with_one_line()
def main() -> None:
    args = command_line.parser(__doc__).parse_args()
    command_line.run("ablate.py", args, variants, ("context", guess, context_of_base), about, without=("window",))
