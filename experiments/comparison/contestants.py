"""Who takes part: SHA-RNN in three forms, fairseq's Transformers in three shapes, fairseq's LSTM."""

import importlib.util
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

from experiments.comparison.presets import Preset, Trial

# SHA-RNN's optimizers: the paper's, and Adam with the same betas, epsilon, weight decay and clipping, so that the trust
# ratio (and Adam's correction of its moments) is what changes. The values are those of `Preset.optimizer`.
LAMB = ("--optimizer", "lamb_min_trust", "--clip-norm", "0.25")
ADAM_AS_LAMB = (
    *("--optimizer", "adam", "--adam-betas", "(0.9, 0.999)", "--adam-eps", "1e-6"),
    *("--weight-decay", "1.2e-6", "--clip-norm", "0.25"),
)
OPTIMIZERS = {"lamb_min_trust": LAMB, "adam": ADAM_AS_LAMB}


def adam(preset: Preset) -> Tuple[str, ...]:
    """Adam with decoupled decay, as users of Transformers set it.

    Under --amp fairseq divides gradients by the loss scale twice: a smaller epsilon does not notice.
    """
    epsilon = "1e-12" if "--amp" in preset.device else "1e-8"
    return (
        *("--optimizer", "adam", "--adam-betas", "(0.9, 0.98)", "--adam-eps", epsilon),
        *("--weight-decay", "0.01", "--clip-norm", "1.0"),
    )


@dataclass(frozen=True)
class Contestant:
    """A kind of model and how it is trained.

    arguments: its options but for the sizes. width, inner: options that take the width and the inner width (none: the
    width alone decides). tuned_as: the contestant whose trials it shares, if not its own. lanes: B in training, if not the
    preset's. environment: variables for its commands. trust_log: whether its runs log LAMB's trust ratios.
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
    tuned_as: Optional[str] = None
    lanes: Optional[int] = None
    environment: Tuple[Tuple[str, str], ...] = ()
    trust_log: bool = False

    def identity(self) -> Dict[str, Any]:
        """What its figures depend on, as JSON gives it back."""
        trials = [str(trial) for trial in self.trials]
        arguments = [*self.arguments, *self.optimizer]
        return {"arguments": arguments, "lanes": self.lanes, "environment": dict(self.environment), "trials": trials}

    @property
    def streaming(self) -> bool:
        return self.family == "sha_rnn"


def sha_rnn(name: str, title: str, preset: Preset, *arguments: str, **changes) -> Contestant:
    """A form of SHA-RNN; `arguments` come after the common ones and win over them."""
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
    }
    return Contestant(name, title, **{**values, **changes})


def transformer(name: str, title: str, preset: Preset, layers: int, *arguments: str) -> Contestant:
    """fairseq's transformer_lm, pre-norm, with shared embeddings. Its width is a multiple of twice its 4 heads."""
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
        optimizer=adam(preset),
        trials=preset.trials_of("transformer"),
        step=8 if preset.parameters < 5_000_000 else 16,
    )


def lstm(preset: Preset) -> Contestant:
    """fairseq's lstm_lm. It carries no state from window to window: each starts from zero."""
    return Contestant(
        name="lstm_lm",
        title=f"fairseq LSTM, {layers_of(preset.layers['lstm'])}, each window from zero",
        family="lstm",
        arguments=(
            *("--arch", "lstm_lm", "--decoder-layers", str(preset.layers["lstm"])),
            *("--share-decoder-input-output-embed", "--dropout", str(preset.dropout)),
            *(
                "--max-target-positions",
                str(preset.context),
            ),  # it has no positions: so far windows may reach in evaluation
        ),
        width=("--decoder-embed-dim", "--decoder-hidden-size", "--decoder-out-embed-dim"),
        inner=None,
        optimizer=adam(preset),
        trials=preset.trials_of("lstm"),
        step=1,
    )


def layers_of(number: int) -> str:
    return "1 layer" if number == 1 else f"{number} layers"


def contestants(preset: Preset) -> List[Contestant]:
    """All of a comparison, SHA-RNN's single head first."""
    layers = preset.layers
    # a budget in updates means the same bytes for all, and so the same lanes
    lanes_full = preset.lanes_full if preset.budget.updates is None else None
    gpt = ("--decoder-learned-pos", "--activation-fn", "gelu")
    return [
        sha_rnn("sha_rnn", "SHA-RNN, single head", preset),
        sha_rnn("sha_rnn_no_head", "SHA-RNN, no head", preset, "--attention-layers", "none"),
        sha_rnn("sha_rnn_full", "SHA-RNN, head per layer", preset, "--attention-layers", "all", lanes=lanes_full),
        transformer("transformer_deep", f"Transformer, {layers_of(layers['deep'])}", preset, layers["deep"]),
        transformer("transformer_wide", f"Transformer, {layers_of(layers['wide'])}", preset, layers["wide"]),
        transformer(
            "transformer_gpt", f"Transformer, GPT style, {layers_of(layers['gpt'])}", preset, layers["gpt"], *gpt
        ),
        lstm(preset),
    ]


def missing() -> Dict[str, str]:
    """Contestants that would belong here, and why they do not take part."""
    name = "Transformer-XL (fairseq's examples/truncated_bptt)"
    if importlib.util.find_spec("transformers") is None:
        return {name: "it wraps the package `transformers`, which is not installed"}
    import transformers

    if not hasattr(transformers, "TransfoXLLMHeadModel"):
        return {name: f"it wraps a model that `transformers` {transformers.__version__} has removed"}
    return {
        name: "fairseq's pip packages leave its examples out, and it reads preprocessed data, not task byte_level_lm"
    }
