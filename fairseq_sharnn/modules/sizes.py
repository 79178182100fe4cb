"""What a SHA-RNN is made of: its sizes and its dropout rates, and the one place that checks their ranges.

Errors name the fields in backquotes, so that the fairseq model can put the names of its options in their place.
"""

from dataclasses import dataclass
from typing import Tuple

STATIC_VECTORS = ("overparameterized", "plain")
FEED_FORWARD = ("boom", "full")


@dataclass(frozen=True)
class SHARNNSizes:
    """The sizes of the network. The defaults are the paper's single-headed model.

    vocab: V. width: D, of the embedding and of each LSTM. boom_width: H, at least D. layers: L. attention_layers: 0-based
    numbers of the layers that attend. heads: in each of those layers, a divisor of D. context: C, the most rows that one
    query sees. static_vectors, feed_forward: `overparameterized` and `boom` are the paper's; `plain` and `full` are what
    the ablations put in their place (modules/ablations.py). Raises ValueError if they do not fit each other.
    """

    vocab: int
    width: int = 1024
    boom_width: int = 4096
    layers: int = 4
    attention_layers: Tuple[int, ...] = (2,)
    heads: int = 1
    context: int = 5000
    static_vectors: str = "overparameterized"
    feed_forward: str = "boom"

    def __post_init__(self) -> None:
        for name in ("width", "layers", "boom_width", "heads", "context"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, but it is {getattr(self, name)}")
        for name, choices in (("static_vectors", STATIC_VECTORS), ("feed_forward", FEED_FORWARD)):
            if getattr(self, name) not in choices:
                raise ValueError(f"`{name}` must be one of {', '.join(choices)}, but it is {getattr(self, name)}")
        if self.feed_forward == "boom" and self.boom_width < self.width:
            raise ValueError(
                f"`boom_width` {self.boom_width} is below `width` {self.width}: the Boom layer folds its columns back onto "
                "the embedding's, so it must be at least as wide"
            )
        if self.width % self.heads != 0:
            raise ValueError(
                f"`heads` {self.heads} does not divide `width` {self.width}: choose a divisor (the paper has 1)"
            )
        missing = [layer for layer in self.attention_layers if not 0 <= layer < self.layers]
        if missing:
            raise ValueError(
                f"`attention_layers`: layer {missing[0]} does not exist: the model's {self.layers} layers are numbered 0 "
                f"to {self.layers - 1}"
            )


@dataclass(frozen=True)
class SHARNNDropout:
    """Dropout rates by site (spec, "Dropout sites"). In the published runs all are 0.1 except DropConnect.

    input: on embeddings. hidden: after each LSTM, attention and Boom. attention: on queries, values and attention weights.
    boom: on Boom's activations. output: before the output projection. dropconnect: on the LSTMs' hidden-to-hidden
    matrices. Raises ValueError if a rate is not in [0, 1).
    """

    input: float = 0.1
    hidden: float = 0.1
    attention: float = 0.1
    boom: float = 0.1
    output: float = 0.1
    dropconnect: float = 0.0

    def __post_init__(self) -> None:
        # `hidden` first: the fairseq model's --dropout, which the other options take their default from
        for name in ("dropconnect", "hidden", "input", "output", "attention", "boom"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"`{name}` must be in [0, 1), but it is {getattr(self, name)}")
