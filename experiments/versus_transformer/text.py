"""What the report of the comparison says besides figures."""

from typing import List

from experiments.comparison.presets import Preset
from experiments.comparison.report import ReportText
from experiments.comparison.results import Results
from experiments.versus_transformer.lineup import absent_models

_OPTIMIZERS = {
    "lamb_min_trust": "minimum-trust LAMB, clipped at 0.25",
    "adam": "Adam, betas 0.9 and 0.999, epsilon 1e-6, weight decay 1.2e-6, clipped at 0.25",
}


def report_text(results: Results) -> ReportText:
    preset = results.setting.preset
    return ReportText(
        title=f"SHA-RNN compared with fairseq's Transformers: preset {preset.name}",
        update=f", stateless models windows of {preset.window}",
        evaluation=_evaluation(results),
        speed=_speed(preset),
        tuning=_tuning(preset),
        notes=_notes(preset),
    )


def _evaluation(results: Results) -> str:
    preset, allowance = results.setting.preset, results.allowance
    if allowance is None:
        allowed = "No SHA-RNN was evaluated, so no such window was searched"
    else:
        allowed = f"That is {allowance.seconds:.1f} s ({results.title_of(allowance.name)})"
    return (
        f"Test of SHA-RNN: streaming in {preset.eval_lanes} lanes, each warmed on {preset.context:,} bytes, in chunks of "
        f"{preset.eval_chunk}. Test of the other models: plain blocks of {preset.window} bytes, and overlapping windows of "
        f"{preset.window} bytes (the LSTM's of {preset.context:,}) whose first w bytes are context (`--context-window w`). "
        "w is the largest whose evaluation takes no longer than that of the best SHA-RNN by validation (means over seeds). "
        f"{allowed}. What counts was fixed beforehand: the windows where such a w exists, else the blocks. A batch has no "
        "fewer bytes than SHA-RNN's. The best of each kind is chosen by validation, which is streaming for SHA-RNN and "
        "plain blocks for the others; so compare different kinds by their tests."
    )


def _speed(preset: Preset) -> str:
    timed = "one at a time" if preset.timed_jobs == 1 else f"{preset.timed_jobs} at a time"
    return (
        "CPU/wall: CPU seconds over seconds of wall-clock, with start-up and validation; a training on one thread below 1 "
        "had to wait for its core. Evaluation is the time of scoring that fairseq-eval-lm prints. Generation is measured "
        f"with the first seed's model: {preset.generated} bytes are sampled one by one in one lane after the prompt was "
        "read, by fairseq's incremental decoding; the median of five rounds. Evaluations and generations run "
        f"{timed}. A Transformer's positions end after {preset.window} bytes, so it reads only the end of a longer "
        f"prompt. When they end while it writes, it reads the last {preset.window // 2} bytes again, also one by one, "
        "which makes two steps for each byte. (Reading them in one pass, which fairseq's decoding does not do, would "
        "nearly halve that.) In the plot of quality against evaluation speed, joined points are one model: in plain "
        "blocks, in windows with the context that fits, and in windows with half of them as context."
    )


def _tuning(preset: Preset) -> str:
    return (
        f"{preset.trials} trials of {preset.trial} for each contestant, with seed 1; the best by validation was chosen. "
        f"SHA-RNN trains with {_OPTIMIZERS[preset.optimizer]}. The others train with Adam, betas 0.9 and 0.98, decoupled "
        "weight decay 0.01, clipped at 1.0. A linear schedule falls to a twentieth of its learning rate at the end of the "
        "run. Nothing else is tuned by this program: not the bytes in an update, the length of windows and chunks, or the "
        "optimizer. What was tuned by hand for the presets is in docs/results.md."
    )


def _notes(preset: Preset) -> List[str]:
    notes = [
        f"Every model has {preset.parameters:,} parameters, within 3 %. They are counted in training, shared ones once. "
        "SHA-RNN's count includes the networks of its over-parameterised vectors, which collapse after training.",
        "fairseq's LSTM carries no state: each window starts from zero. `--context-window` gives it context.",
    ]
    if preset.budget.seconds is not None:
        notes.append(
            "The number of updates in the budget is estimated from the speed of the chosen trial. Before each slice the "
            "falling schedule is adjusted, without a jump, to the speed measured so far."
        )
    if preset.name == "paper":
        notes.append(
            "The schedule `halved` is the paper's two passes: half the rate for the last 5 of 37 parts of a run. The paper "
            "starts the second pass with fresh moments and another warm-up; here it continues."
        )
    notes.append(f"Dropout is {preset.dropout:g} for all.")
    return notes + [f"{name} takes no part: {reason}." for name, reason in absent_models().items()]
