"""The paper's claims, one factor at a time: variants of the single-headed SHA-RNN, each with one thing changed."""

from typing import List

from comparison.contestants import ADAM, Contestant, sha_rnn
from comparison.presets import Preset
from comparison.trials import trials_of

BASE = "base"


def widths(preset: Preset) -> int:
    """D of all variants: multiples of 8, near the preset's parameter count; H is 4 D."""
    # a layer has 8 D² in its LSTM and 4 D² in its Boom; embedding and head come to a little more
    return max(8, round((preset.parameters / (12 * preset.layers["sha_rnn"] + 3)) ** 0.5 / 8) * 8)


def variants(preset: Preset) -> List[Contestant]:
    """The base first; every other differs from it in what its title names. Sizes are not brought to one count."""
    width = widths(preset)
    layers = preset.layers["sha_rnn"]

    def variant(group: str, name: str, title: str, *arguments: str, **changes) -> Contestant:
        sizes = ("--decoder-embed-dim", str(width), "--boom-dim", str(4 * width))
        if name != BASE and "optimizer" not in changes:
            changes = {"tuned_as": BASE, "trials": (), **changes}
        made = {"width": (), "inner": None, "group": group, **changes}
        return sha_rnn(name, title, preset, *sizes, *arguments, **made)

    def lamb(min_trust: str) -> dict:
        optimizer = ("--optimizer", "lamb_min_trust", "--min-trust", min_trust, "--clip-norm", "0.25")
        return {"optimizer": optimizer, "trials": trials_of(preset, "sha_rnn")}

    adam = {"optimizer": ADAM, "trials": trials_of(preset, "adam")}
    found = [
        variant("base", BASE, "base: one head, second-to-last layer"),
        variant("heads", "no_head", "no head", "--attention-layers", "none"),
        variant("heads", "first_layer", "one head, first layer", "--attention-layers", "0"),
        variant("heads", "last_layer", "one head, last layer", "--attention-layers", str(layers - 1)),
        variant("heads", "all_layers", "one head in every layer", "--attention-layers", "all"),
        variant("heads", "two_heads", "two heads, second-to-last layer", "--attention-heads", "2"),
        variant("heads", "four_heads", "four heads, second-to-last layer", "--attention-heads", "4"),
        variant("optimizer", "min_trust_0.1", "LAMB, minimum trust 0.1", **lamb("0.1")),
        variant("optimizer", "lamb", "plain LAMB (minimum trust 0)", **lamb("0")),
        variant("optimizer", "adam", "Adam", **adam),
        variant("static vectors", "plain_vectors", "plain static vectors", "--static-vectors", "plain"),
        variant(
            *("feed-forward", "full_feed_forward", "full feed-forward layer of equal cost"),
            *("--feed-forward", "full", "--boom-dim", str(2 * width)),
        ),
        variant("dropout", "dropout_0.1", "dropout 0.1, as published", "--dropout", "0.1")
        if preset.dropout == 0
        else variant("dropout", "no_dropout", "no dropout", "--dropout", "0.0"),
    ]
    return found
