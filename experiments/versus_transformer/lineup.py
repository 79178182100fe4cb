"""Who takes part: SHA-RNN in three forms, fairseq's Transformer in three shapes, fairseq's LSTM."""

import importlib.util
from typing import Dict, List

from experiments.comparison.contestant import Contestant, layers_in_words, lstm, sha_rnn, transformer
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
    ]


def absent_models() -> Dict[str, str]:
    """Models that belong here and do not take part, with the reason."""
    name = "Transformer-XL (fairseq's examples/truncated_bptt)"
    if importlib.util.find_spec("transformers") is None:
        return {name: "it needs the package `transformers`, which is not installed"}
    import transformers

    if not hasattr(transformers, "TransfoXLLMHeadModel"):
        return {name: f"it needs a model that `transformers` {transformers.__version__} no longer has"}
    return {
        name: "fairseq's pip packages leave its examples out, and it reads preprocessed data, not task byte_level_lm"
    }
