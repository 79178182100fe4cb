"""What the report of the comparison says besides figures."""

from typing import List

from experiments.comparison.plan import halving_budget
from experiments.comparison.presets import HALVING, Preset
from experiments.comparison.report import ReportText
from experiments.comparison.results import Results

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
        notes=_notes(results),
    )


def _evaluation(results: Results) -> str:
    preset, allowance = results.setting.preset, results.allowance
    if allowance is None:
        allowed = "No SHA-RNN was evaluated, so no such window was searched"
    else:
        allowed = f"That is {allowance.seconds:.1f} s ({results.title_of(allowance.name)})"
    window = "the length in training" if preset.search == HALVING else f"{preset.window} bytes"
    return (
        f"Test of models that carry state: streaming in {preset.eval_lanes} lanes, in chunks of {preset.eval_chunk}. "
        f"Each lane is warmed on its context: {preset.context:,} bytes of SHA-RNN, its own of the Transformer with memory. "
        f"Test of the other models: plain blocks of {window}, and overlapping windows of {window} "
        f"(the LSTM's of {preset.context:,} bytes) whose first w bytes are context (`--context-window w`). "
        "w is the largest whose evaluation takes no longer than that of the best SHA-RNN by validation (means over seeds). "
        f"{allowed}. What counts was fixed beforehand: the windows where such a w exists, else the blocks. A batch has no "
        "fewer bytes than SHA-RNN's. The best of each kind is chosen by validation, which is streaming for models with "
        "state and plain blocks for the others; so compare different kinds by their tests."
    )


def _speed(preset: Preset) -> str:
    window = "its window in training" if preset.search == HALVING else f"{preset.window} bytes"
    timed = "one at a time" if preset.timed_jobs == 1 else f"{preset.timed_jobs} at a time"
    return (
        "CPU/wall: CPU seconds over seconds of wall-clock, with start-up and validation; a training on one thread below 1 "
        "had to wait for its core. Evaluation is the time of scoring that fairseq-eval-lm prints. Generation is measured "
        f"with the first seed's model: {preset.generated} bytes are sampled one by one in one lane after the prompt was "
        "read, by fairseq's incremental decoding; the median of five rounds. Evaluations and generations run "
        f"{timed}. A Transformer's positions end after {window}, so it reads only the end of a longer "
        f"prompt. When they end while it writes, it reads the last half of the window again, also one by one, "
        "which makes two steps for each byte. (Reading them in one pass, which fairseq's decoding does not do, would "
        "nearly halve that.) In the plot of quality against evaluation speed, joined points are one model: in plain "
        "blocks, in windows with the context that fits, and in windows with half of them as context."
    )


def _tuning(preset: Preset) -> str:
    how = (
        f"{preset.trials} trials of {preset.trial} for each contestant, with seed 1; the best by validation was chosen."
    )
    untuned = "not the bytes in an update, the length of windows and chunks, or the optimizer"
    if preset.search == HALVING:
        how = (
            f"Successive halving with seed 1, {halving_budget(preset)} for each contestant. It begins with four settings of "
            "rate and warm-up at each of four lengths: windows of stateless models, chunks of SHA-RNN, chunks and context "
            "of the Transformer with memory. Each round leaves the better half, which trains anew for twice as long: first "
            "half of each length, then the best of each length, then the two best of all. A trial of the last round takes "
            f"{preset.trial}."
        )
        untuned = "not the bytes in an update or the optimizer"
    return (
        f"{how} "
        f"SHA-RNN trains with {_OPTIMIZERS[preset.optimizer]}. The others train with Adam, betas 0.9 and 0.98, decoupled "
        "weight decay 0.01, clipped at 1.0. A linear schedule falls to a twentieth of its learning rate at the end of the "
        f"run. Nothing else is tuned by this program: {untuned}. What was tuned by hand for the presets is in "
        "docs/results.md."
    )


def _notes(results: Results) -> List[str]:
    preset = results.setting.preset
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
    return [*notes, _with_memory(results)]


def _with_memory(results: Results) -> str:
    """Whether a Transformer with memory takes part, and why it is not fairseq's."""
    own = (
        "fairseq's own Transformer-XL is part of its examples, which the pip packages leave out, and it wraps a model that "
        "the package `transformers` has removed"
    )
    if not any(item.family == "transformer_xl" for item in results.summaries):
        return f"No Transformer with memory (Transformer-XL) takes part: `--only transformer_xl` adds it. And {own}."
    return (
        "The Transformer with memory is built on the package `x-transformers`: rotary positions, RMSNorm before each half "
        f"of a layer, SwiGLU. It takes the place of Transformer-XL: {own}. In generation it reads its memory anew for each "
        "byte, which a cache of keys and values would avoid."
    )
