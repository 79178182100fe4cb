"""A contestant: a kind of model and how it is trained. SHA-RNN, fairseq's Transformer and fairseq's LSTM."""

from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

from experiments.comparison.presets import Preset
from experiments.comparison.trials import Trial

# SHA-RNN's optimizers: the paper's, and Adam with the same betas, epsilon, weight decay and clipping. So only the trust
# ratio differs (and Adam's correction of its moments). The keys are the values of `Preset.optimizer`.
LAMB = ("--optimizer", "lamb_min_trust", "--clip-norm", "0.25")
ADAM_AS_LAMB = (
    *("--optimizer", "adam", "--adam-betas", "(0.9, 0.999)", "--adam-eps", "1e-6"),
    *("--weight-decay", "1.2e-6", "--clip-norm", "0.25"),
)
OPTIMIZERS = {"lamb_min_trust": LAMB, "adam": ADAM_AS_LAMB}


@dataclass(frozen=True)
class Contestant:
    """A kind of model and how it is trained.

    family: sha_rnn, transformer or lstm; the report compares the best of each. arguments: options without the sizes.
    width, inner: the options that take the width and the inner width (None: the width is the only size). step: widths are
    multiples of it. optimizer, trials: options, and what tuning tries. streaming: whether it carries state from chunk to
    chunk, so that it is trained in lanes and evaluated as a stream. tuned_as: the contestant whose trials it shares, if it
    has none. lanes: B in training, if not the preset's. environment: variables for its commands. trust_log: whether its
    runs log LAMB's trust ratios.
    """

    name: str
    title: str
    family: str
    arguments: Tuple[str, ...]
    width: Tuple[str, ...]
    inner: Optional[str]
    optimizer: Tuple[str, ...]
    trials: Tuple[Trial, ...]
    step: int = 2
    streaming: bool = False
    tuned_as: Optional[str] = None
    lanes: Optional[int] = None
    environment: Tuple[Tuple[str, str], ...] = ()
    trust_log: bool = False

    def identity(self) -> Dict[str, Any]:
        """What its figures depend on, as JSON has it."""
        trials = [str(trial) for trial in self.trials]
        arguments = [*self.arguments, *self.optimizer]
        return {"arguments": arguments, "lanes": self.lanes, "environment": dict(self.environment), "trials": trials}


def sha_rnn(name: str, title: str, preset: Preset, *arguments: str, **changes: Any) -> Contestant:
    """A form of SHA-RNN. `arguments` follow the common ones and override them; `changes` override fields."""
    common = (
        *("--arch", "sha_rnn", "--decoder-layers", str(preset.layers["sha_rnn"])),
        *("--context-length", str(preset.context), "--dropout", str(preset.dropout)),
    )
    values = {
        "family": "sha_rnn",
        "arguments": (*common, *arguments),
        "width": ("--decoder-embed-dim",),
        "inner": "--boom-dim",
        "optimizer": OPTIMIZERS[preset.optimizer],
        "trials": preset.trials_of("adam" if preset.optimizer == "adam" else "sha_rnn"),
        "streaming": True,
    }
    return Contestant(name, title, **{**values, **changes})


def transformer(name: str, title: str, preset: Preset, layers: int, *arguments: str) -> Contestant:
    """fairseq's transformer_lm, pre-norm, with shared embeddings. Its width is a multiple of twice its 4 or 8 heads."""
    common = (
        *("--arch", "transformer_lm", "--decoder-layers", str(layers)),
        *("--decoder-attention-heads", "4" if preset.parameters < 5_000_000 else "8"),
        *("--decoder-normalize-before", "--share-decoder-input-output-embed", "--dropout", str(preset.dropout)),
    )
    return Contestant(
        name=name,
        title=title,
        family="transformer",
        arguments=(*common, *arguments),
        width=("--decoder-embed-dim", "--decoder-input-dim", "--decoder-output-dim"),
        inner="--decoder-ffn-embed-dim",
        optimizer=_adam(preset),
        trials=preset.trials_of("transformer"),
        step=8 if preset.parameters < 5_000_000 else 16,
    )


def lstm(preset: Preset) -> Contestant:
    """fairseq's lstm_lm. It carries no state from window to window: each starts from zero."""
    layers = preset.layers["lstm"]
    return Contestant(
        name="lstm_lm",
        title=f"fairseq LSTM, {layers_in_words(layers)}, each window from zero",
        family="lstm",
        arguments=(
            *("--arch", "lstm_lm", "--decoder-layers", str(layers)),
            *("--share-decoder-input-output-embed", "--dropout", str(preset.dropout)),
            # it has no positions, so its windows of evaluation may be as long as SHA-RNN's context
            *("--max-target-positions", str(preset.context)),
        ),
        width=("--decoder-embed-dim", "--decoder-hidden-size", "--decoder-out-embed-dim"),
        inner=None,
        optimizer=_adam(preset),
        trials=preset.trials_of("lstm"),
        step=1,
    )


def _adam(preset: Preset) -> Tuple[str, ...]:
    """Adam with decoupled weight decay, as it is usual for Transformers."""
    return (
        *("--optimizer", "adam", "--adam-betas", "(0.9, 0.98)", "--adam-eps", "1e-8"),
        *("--weight-decay", "0.01", "--clip-norm", "1.0"),
    )


def layers_in_words(number: int) -> str:
    return "1 layer" if number == 1 else f"{number} layers"
