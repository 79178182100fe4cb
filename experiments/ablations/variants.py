"""Variants of the single-headed SHA-RNN, each with one thing changed."""

from typing import Any, Dict, List, Tuple

from experiments.comparison.contestant import ADAM_AS_LAMB, LAMB, Contestant, sha_rnn
from experiments.comparison.presets import Preset
from experiments.comparison.trials import Trial

BASE = "base"
_NO_KERNELS = (("FAIRSEQ_SHARNN_KERNELS", "0"),)


def width_of(preset: Preset) -> int:
    """D of all variants, a multiple of 8, near the preset's number of parameters; H is 4 D."""
    # a layer has 8 D² in its LSTM and 4 D² in its Boom; embedding and head have a little more than 3 D²
    return max(8, round((preset.parameters / (12 * preset.layers["sha_rnn"] + 3)) ** 0.5 / 8) * 8)


def one_schedule(preset: Preset, family: str) -> Tuple[Trial, ...]:
    """The trials of a family over rates and warm-up, four at most; the schedule is the same for all.

    A trial is too short to show what a falling rate gains by the end of a run, and noisy enough to prefer a constant one.
    """
    first, *others = preset.trials_of(family)
    return (first, *(trial for trial in others if trial.schedule == first.schedule))[:4]


def variants(preset: Preset) -> List[Contestant]:
    """The base first. Each of the others differs from it in what its title names. Their sizes are not made equal."""
    width, last = width_of(preset), preset.layers["sha_rnn"] - 1

    def variant(name: str, title: str, *arguments: str, **changes: Any) -> Contestant:
        sizes = ("--decoder-embed-dim", str(width), "--boom-dim", str(4 * width))
        if name != BASE and "optimizer" not in changes:
            changes = {"tuned_as": BASE, "trials": (), **changes}
        common = {"width": (), "inner": None, "optimizer": LAMB, "trials": one_schedule(preset, "sha_rnn")}
        return sha_rnn(name, title, preset, *sizes, *arguments, **{**common, **changes})

    def lamb(min_trust: str, family: str) -> Dict[str, Any]:
        optimizer = (*LAMB, "--min-trust", min_trust)
        return {"optimizer": optimizer, "trials": one_schedule(preset, family), "trust_log": True}

    full = ("--feed-forward", "full", "--boom-dim", str(2 * width))
    return [
        variant(BASE, "base: one head, second-to-last layer", trust_log=True),
        variant("no_head", "no head", "--attention-layers", "none"),
        variant("first_layer", "one head, first layer", "--attention-layers", "0"),
        variant("last_layer", "one head, last layer", "--attention-layers", str(last)),
        variant("all_layers", "one head in every layer", "--attention-layers", "all"),
        variant("two_heads", "two heads, second-to-last layer", "--attention-heads", "2"),
        variant("four_heads", "four heads, second-to-last layer", "--attention-heads", "4"),
        variant("min_trust_0.1", "LAMB, minimum trust 0.1", **lamb("0.1", "sha_rnn")),
        variant("lamb", "plain LAMB (minimum trust 0)", **lamb("0", "lamb")),
        variant("adam", "Adam", optimizer=ADAM_AS_LAMB, trials=one_schedule(preset, "adam")),
        variant("plain_vectors", "plain static vectors", "--static-vectors", "plain"),
        # Boom has a C++ kernel and the full layer has none: the two are compared without kernels
        variant("boom_in_torch", "base without the C++ kernels (Boom)", environment=_NO_KERNELS),
        variant(
            "full_feed_forward",
            "full feed-forward layer of equal cost, without the C++ kernels",
            *full,
            environment=_NO_KERNELS,
        ),
        variant("dropout_0.1", "dropout 0.1, as published", "--dropout", "0.1")
        if preset.dropout == 0
        else variant("no_dropout", "no dropout", "--dropout", "0.0"),
    ]
