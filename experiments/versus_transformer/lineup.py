"""Who takes part: forms of SHA-RNN, fairseq's Transformer in three shapes and its LSTM, a Transformer with memory."""

from typing import List

from experiments.comparison.contestant import OPTIMIZERS, Contestant, layers_in_words, lstm, sha_rnn, transformer
from experiments.comparison.contestant import transformer_xl as with_memory
from experiments.comparison.presets import Preset


def contestants(preset: Preset) -> List[Contestant]:
    """All contestants, SHA-RNN with a single head first."""
    deep, wide, gpt = (preset.layers[shape] for shape in ("deep", "wide", "gpt"))
    # a budget in updates means the same bytes for all, and so the same lanes
    lanes_full = preset.lanes_full if preset.budget.updates is None else None
    return [
        sha_rnn("sha_rnn", "SHA-RNN, single head", preset),
        sha_rnn("sha_rnn_no_head", "SHA-RNN, no head", preset, "--attention-layers", "none"),
        sha_rnn("sha_rnn_full", "SHA-RNN, head per layer", preset, "--attention-layers", "all", lanes=lanes_full),
        transformer("transformer_deep", f"Transformer, {layers_in_words(deep)}", preset, deep),
        transformer("transformer_wide", f"Transformer, {layers_in_words(wide)}", preset, wide),
        transformer(
            "transformer_gpt",
            f"Transformer, GPT style, {layers_in_words(gpt)}",
            preset,
            gpt,
            *("--decoder-learned-pos", "--activation-fn", "gelu"),
        ),
        lstm(preset),
        with_memory(preset, deep),
        sha_rnn(
            "sha_rnn_lamb",
            "SHA-RNN, single head, by minimum-trust LAMB",
            preset,
            optimizer=OPTIMIZERS["lamb_min_trust"],
            trials=preset.trials_of("sha_rnn"),
            late=True,
            by_name_only=True,
        ),
    ]
