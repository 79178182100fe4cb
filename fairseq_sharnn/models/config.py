"""The options of `--arch sha_rnn`, and the network's sizes and rates that they stand for."""

from dataclasses import dataclass, field
from typing import Any, Optional, Tuple

from fairseq.dataclass import FairseqDataclass

from fairseq_sharnn.errors import named_as_options
from fairseq_sharnn.modules.sizes import SHARNNDropout, SHARNNSizes

# The network's own names of what the options set.
_OPTIONS = {
    "width": "decoder-embed-dim",
    "boom_width": "boom-dim",
    "layers": "decoder-layers",
    "attention_layers": "attention-layers",
    "heads": "attention-heads",
    "context": "context-length",
    "static_vectors": "static-vectors",
    "feed_forward": "feed-forward",
    "hidden": "dropout",
    "input": "input-dropout",
    "output": "output-dropout",
    "attention": "attention-dropout",
    "boom": "boom-dropout",
    "dropconnect": "dropconnect",
}


@dataclass
class SHARNNConfig(FairseqDataclass):
    decoder_embed_dim: int = field(
        default=1024, metadata={"help": "width D of the embedding and of each LSTM; multiples of 16 are fastest"}
    )
    decoder_layers: int = field(default=4, metadata={"help": "number of layers L"})
    boom_dim: int = field(
        default=4096, metadata={"help": "width H inside the Boom layers; at least --decoder-embed-dim"}
    )
    attention_layers: Any = field(
        default="second-to-last",
        metadata={"help": "layers that attend: none, second-to-last, all, or 0-based numbers such as 1,3"},
    )
    attention_heads: int = field(
        default=1, metadata={"help": "heads in each layer that attends; a divisor of --decoder-embed-dim"}
    )
    context_length: int = field(
        default=5000,
        metadata={
            "help": "context C: the most rows that one attention query sees, memory and current chunk together; above "
            "--tokens-per-sample"
        },
    )
    static_vectors: str = field(
        default="overparameterized",
        metadata={
            "help": "the gate on attention's values: overparameterized (as in the paper) or plain (one learned vector, for "
            "ablations)"
        },
    )
    feed_forward: str = field(
        default="boom",
        metadata={
            "help": "boom (as in the paper) or full (two matrices, for ablations); half of --boom-dim makes full cost the "
            "same as boom"
        },
    )
    dropout: float = field(
        default=0.1,
        metadata={"help": "dropout rate after LSTM, attention and Boom; also the default of the four rates below"},
    )
    input_dropout: Optional[float] = field(
        default=None, metadata={"help": "dropout rate on embeddings (default: --dropout)"}
    )
    output_dropout: Optional[float] = field(
        default=None, metadata={"help": "dropout rate before the output projection (default: --dropout)"}
    )
    attention_dropout: Optional[float] = field(
        default=None, metadata={"help": "dropout rate on queries, values and attention weights (default: --dropout)"}
    )
    boom_dropout: Optional[float] = field(
        default=None, metadata={"help": "dropout rate on the activations inside the Boom layers (default: --dropout)"}
    )
    dropconnect: float = field(
        default=0.0, metadata={"help": "dropout rate on the hidden-to-hidden weights of the LSTMs"}
    )
    checkpoint_activations: bool = field(
        default=False,
        metadata={
            "help": "save memory: keep only each layer's input and compute the rest again in the backward pass (slower)"
        },
    )
    adaptive_softmax_cutoff: Optional[str] = field(
        default=None,
        metadata={
            "help": "for large vocabularies: rising numbers such as 2000,10000 at which the bands of an adaptive softmax "
            "end; needs --criterion adaptive_loss"
        },
    )
    adaptive_softmax_factor: float = field(
        default=4,
        metadata={"help": "each band of the adaptive softmax is this many times narrower than the one before"},
    )
    adaptive_softmax_dropout: float = field(
        default=0, metadata={"help": "dropout rate in all bands of the adaptive softmax but the first"}
    )
    tie_adaptive_proj: bool = field(
        default=False,
        metadata={"help": "share also the projections of the adaptive softmax's bands between input and output"},
    )


def sizes_of(cfg: SHARNNConfig, vocab: int) -> SHARNNSizes:
    """The network's sizes. Raises UsageError, naming the option, if they do not fit."""
    with named_as_options(_OPTIONS):
        return SHARNNSizes(
            vocab=vocab,
            width=cfg.decoder_embed_dim,
            boom_width=cfg.boom_dim,
            layers=cfg.decoder_layers,
            attention_layers=parse_attention_layers(cfg.attention_layers, cfg.decoder_layers),
            heads=cfg.attention_heads,
            context=cfg.context_length,
            static_vectors=cfg.static_vectors,
            feed_forward=cfg.feed_forward,
        )


def rates_of(cfg: SHARNNConfig) -> SHARNNDropout:
    """Dropout rates by site. Raises UsageError, naming the option, if one is out of range."""

    def rate(option: Optional[float]) -> float:
        return cfg.dropout if option is None else option

    with named_as_options(_OPTIONS):
        return SHARNNDropout(
            input=rate(cfg.input_dropout),
            hidden=cfg.dropout,
            attention=rate(cfg.attention_dropout),
            boom=rate(cfg.boom_dropout),
            output=rate(cfg.output_dropout),
            dropconnect=cfg.dropconnect,
        )


def parse_attention_layers(text: Any, layers: int) -> Tuple[int, ...]:
    """Which layers attend: `none`, `second-to-last`, `all`, or a list of 0-based layer numbers such as `1,3`.

    Returns the layer numbers in ascending order. Raises ValueError, with the value, if it is none of these.
    """
    text = str(text).strip().strip("[]()").replace("_", "-")
    if text in ("none", ""):
        return ()
    if text == "all":
        return tuple(range(layers))
    if text == "second-to-last":
        if layers == 1:
            raise ValueError(
                "`attention_layers`: there is no second-to-last layer in a model of 1 layer; choose all, none or 0"
            )
        return (layers - 2,)
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise ValueError(
            f"`attention_layers`: '{text}' is not a choice of layers: use none, second-to-last, all, or numbers such as 1,3"
        ) from None
