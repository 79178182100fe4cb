"""A contestant: a kind of model and how it is trained. SHA-RNN, Transformers with and without memory, fairseq's LSTM."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from experiments.comparison.presets import Preset
from experiments.comparison.trials import Trial
from experiments.harness.processes import PLUGIN, USER_DIR

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

    family: sha_rnn, transformer, transformer_xl or lstm; the report compares the best of each. arguments: options without
    the sizes. width, inner: the options that take the width and the inner width (None: the width is the only size). step:
    widths are multiples of it. optimizer, trials: options, and what tuning tries. streaming: whether it carries state from
    chunk to chunk, so that it is trained in lanes and evaluated as a stream. tuned_as: the contestant whose trials it
    shares, if it has none. lanes: B in training, if not the preset's. environment: variables for its commands. trust_log:
    whether its runs log LAMB's trust ratios. inner_ratio: inner width over width, before the search for sizes. context:
    the context length of a streaming contestant, if not the preset's. user_dir: for fairseq's `--user-dir`. package: what
    must be installed for it. late: it joined after the first reports, so that an output folder may not know it.
    by_name_only: it takes part only if `--only` names it.
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
    inner_ratio: float = 4.0
    context: Optional[int] = None
    user_dir: Path = USER_DIR
    package: Optional[str] = None
    late: bool = False
    by_name_only: bool = False

    @property
    def missing(self) -> Optional[str]:
        """The package that it needs and that is not installed."""
        lacking = self.package is not None and importlib.util.find_spec(self.package.replace("-", "_")) is None
        return self.package if lacking else None

    def context_length(self, preset: Preset) -> int:
        """C in training and in the main evaluation, if it is a streaming contestant."""
        return preset.context if self.context is None else self.context

    def register(self) -> None:
        """Register its model with fairseq, in this process."""
        from fairseq_sharnn.registration import register

        register()
        if self.user_dir == PLUGIN:
            importlib.import_module("experiments.fairseq_plugin")

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
        "trials": preset.trials_of("adam" if preset.optimizer == "adam" else "sha_rnn", "sha_rnn"),
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


def transformer_xl(preset: Preset, layers: int) -> Contestant:
    """x-transformers' decoder with memory: rotary positions, RMSNorm, SwiGLU. As many heads as fairseq's Transformer.

    Its memory is three chunks long, where tuning does not choose another. Its chunks do not vary in length, because what
    it attends to does not depend on where a chunk begins as much as an LSTM's state does.
    """
    heads, context = (4 if preset.parameters < 5_000_000 else 8), 4 * preset.chunk
    return Contestant(
        name="transformer_xl",
        title=f"Transformer with memory, {layers_in_words(layers)}",
        family="transformer_xl",
        arguments=(
            *("--arch", "transformer_xl", "--decoder-layers", str(layers), "--decoder-attention-heads", str(heads)),
            *("--context-length", str(context), "--dropout", str(preset.dropout), "--no-bptt-jitter"),
        ),
        width=("--decoder-embed-dim",),
        inner="--decoder-ffn-embed-dim",
        optimizer=_adam(preset),
        trials=preset.trials_of("transformer", "transformer_xl"),
        step=4 * heads,
        streaming=True,
        inner_ratio=8
        / 3,  # three matrices in SwiGLU, so that the parameters are those of two with four times the width
        context=context,
        user_dir=PLUGIN,
        package="x-transformers",
        late=True,
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
