"""What the report of the ablations says besides figures."""

from typing import Sequence

from experiments.ablations.variants import one_schedule
from experiments.comparison.presets import Preset
from experiments.comparison.report import ReportText
from experiments.comparison.results import Results
from experiments.comparison.trials import Trial

_NOTES = (
    "At an equal training time a faster variant reads more; the column of bytes read says how much. With `--updates` all "
    "read the same.",
    "A difference smaller than the deviation over seeds shows nothing.",
    "The full feed-forward layer has two matrices with 2 D inside, Boom has one with 4 D: the same number of weights. Boom "
    "has a C++ kernel and the full layer has none, so both are trained without kernels (FAIRSEQ_SHARNN_KERNELS=0). The "
    "effect of this factor is the difference between those two rows.",
    "The plain static vector is one learned vector. With the same seed it starts with the value that the network of the "
    "over-parameterised vector gives at its start, so that both models start as the same function.",
)


def report_text(results: Results) -> ReportText:
    preset = results.setting.preset
    return ReportText(
        title=f"SHA-RNN, one factor at a time: preset {preset.name}",
        update="",
        evaluation=(
            f"Test: streaming in {preset.eval_lanes} lanes, each warmed on {preset.context:,} bytes, in chunks of "
            f"{preset.eval_chunk}. Each variant is the base with one thing changed; their sizes are not made equal."
        ),
        speed="Evaluation is the time of scoring.",
        tuning=_tuning(preset),
        notes=_NOTES,
    )


def _tuning(preset: Preset) -> str:
    base, lamb, adam = (one_schedule(preset, family) for family in ("sha_rnn", "lamb", "adam"))
    tries_warmups = len({trial.warmup for trial in base}) > 1
    what = "over rates and warm-up" if tries_warmups else "over rates"
    unlike = " Plain LAMB was tried with more rates, and with one warm-up only." if tries_warmups else ""
    return (
        f"{len(base)} trials of {preset.trial} for the base and for each optimizer, {what}, with seed 1; the best by "
        "validation was chosen. The schedule is the same for all, and all other variants train with the base's choice. "
        f"Plain LAMB ({_listed(lamb)}) and Adam ({_listed(adam)}) were tried with other rates than LAMB with a minimum "
        "trust. All have the same clipping (0.25), weight decay (1.2e-6), betas and epsilon. fairseq's Adam corrects its "
        f"moments for their start at zero, which LAMB does not.{unlike}"
    )


def _listed(trials: Sequence[Trial]) -> str:
    return "; ".join(map(str, trials))
