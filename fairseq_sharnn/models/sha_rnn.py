"""`--arch sha_rnn`: SHA-RNN as a fairseq language model."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Optional

import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.models import (
    FairseqIncrementalDecoder,
    FairseqLanguageModel,
    register_model,
    register_model_architecture,
)
from fairseq.modules import AdaptiveSoftmax, LayerNorm

from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.models.adaptive import adaptive_parts
from fairseq_sharnn.modules.attention import parse_attention_layers
from fairseq_sharnn.modules.block import FEED_FORWARD
from fairseq_sharnn.modules.overparameterized import STATIC_VECTORS
from fairseq_sharnn.modules.sha_rnn import SHARNN, SHARNNDropout, SHARNNSizes
from fairseq_sharnn.modules.stream_state import StreamState

# No limit: the model has no positions, and fairseq only ever compares against this.
_ANY_LENGTH = 1_000_000_000


@dataclass
class SHARNNConfig(FairseqDataclass):
    decoder_embed_dim: int = field(default=1024, metadata={"help": "width D of the embedding and of every LSTM"})
    decoder_layers: int = field(default=4, metadata={"help": "number of layers"})
    boom_dim: int = field(default=4096, metadata={"help": "width H inside the Boom layers, at least the embed dim"})
    attention_layers: Any = field(
        default="second-to-last",
        metadata={"help": "layers that attend: none, second-to-last, all, or 0-based numbers such as 1,3"},
    )
    attention_heads: int = field(default=1, metadata={"help": "heads in each layer that attends; divides embed dim"})
    context_length: int = field(
        default=5000, metadata={"help": "most rows an attention query sees: memory and the current chunk together"}
    )
    static_vectors: str = field(
        default="overparameterized",
        metadata={"help": "gate on attention's values: overparameterized (the paper's) or plain (one learned vector)"},
    )
    feed_forward: str = field(
        default="boom",
        metadata={
            "help": "boom (the paper's), or full: two matrices, with --boom-dim inside (half of it costs the same)"
        },
    )
    dropout: float = field(default=0.1, metadata={"help": "dropout after LSTM, attention and Boom, and default below"})
    input_dropout: Optional[float] = field(
        default=None, metadata={"help": "dropout on embeddings (default: --dropout)"}
    )
    output_dropout: Optional[float] = field(
        default=None, metadata={"help": "dropout before the output projection (default: --dropout)"}
    )
    attention_dropout: Optional[float] = field(
        default=None, metadata={"help": "dropout on queries, values and attention weights (default: --dropout)"}
    )
    boom_dropout: Optional[float] = field(
        default=None, metadata={"help": "dropout on the Boom layers' activations (default: --dropout)"}
    )
    dropconnect: float = field(default=0.0, metadata={"help": "dropout on the LSTMs' hidden-to-hidden weights"})
    checkpoint_activations: bool = field(
        default=False, metadata={"help": "compute activations again in the backward pass instead of keeping them"}
    )
    adaptive_softmax_cutoff: Optional[str] = field(
        default=None,
        metadata={
            "help": "ends of the bands of an adaptive softmax, such as 2000,10000; for --criterion adaptive_loss"
        },
    )
    adaptive_softmax_factor: float = field(
        default=4, metadata={"help": "how much narrower each band of the adaptive softmax is than the one before"}
    )
    adaptive_softmax_dropout: float = field(default=0, metadata={"help": "dropout in the bands behind the first"})
    tie_adaptive_proj: bool = field(
        default=False, metadata={"help": "share the bands' projections, too, between input and output"}
    )


def sizes_of(cfg: SHARNNConfig, vocab: int) -> SHARNNSizes:
    """The network's sizes. Raises UsageError naming the option that does not fit."""
    for option in ("decoder_embed_dim", "decoder_layers", "boom_dim", "attention_heads", "context_length"):
        value = getattr(cfg, option)
        if value < 1:
            raise UsageError(f"--{option.replace('_', '-')} must be at least 1, but it is {value}")
    for option, choices in (("static_vectors", STATIC_VECTORS), ("feed_forward", FEED_FORWARD)):
        if getattr(cfg, option) not in choices:
            raise UsageError(
                f"--{option.replace('_', '-')} must be one of {', '.join(choices)}, but it is {getattr(cfg, option)}"
            )
    if cfg.feed_forward == "boom" and cfg.boom_dim < cfg.decoder_embed_dim:
        raise UsageError(
            f"--boom-dim {cfg.boom_dim} is below --decoder-embed-dim {cfg.decoder_embed_dim}: "
            "the Boom layer folds its columns back onto the embedding's, so it must be at least as wide"
        )
    if cfg.decoder_embed_dim % cfg.attention_heads != 0:
        raise UsageError(
            f"--attention-heads {cfg.attention_heads} does not divide --decoder-embed-dim {cfg.decoder_embed_dim}: "
            "choose a divisor (the paper has 1)"
        )
    try:
        attention_layers = parse_attention_layers(cfg.attention_layers, cfg.decoder_layers)
    except ValueError as error:
        raise UsageError(f"--attention-layers: {error}") from None
    return SHARNNSizes(
        vocab=vocab,
        width=cfg.decoder_embed_dim,
        boom_width=cfg.boom_dim,
        layers=cfg.decoder_layers,
        attention_layers=attention_layers,
        heads=cfg.attention_heads,
        context=cfg.context_length,
        static_vectors=cfg.static_vectors,
        feed_forward=cfg.feed_forward,
    )


def rates_of(cfg: SHARNNConfig) -> SHARNNDropout:
    """Dropout rates by site. Raises UsageError naming the option that is out of range."""
    rates = {"dropconnect": cfg.dropconnect, "dropout": cfg.dropout}
    for option in ("input_dropout", "output_dropout", "attention_dropout", "boom_dropout"):
        value = getattr(cfg, option)
        rates[option] = cfg.dropout if value is None else value
    for option, rate in rates.items():
        if not 0.0 <= rate < 1.0:
            raise UsageError(f"--{option.replace('_', '-')} must be in [0, 1), but it is {rate}")
    return SHARNNDropout(
        input=rates["input_dropout"],
        hidden=rates["dropout"],
        attention=rates["attention_dropout"],
        boom=rates["boom_dropout"],
        output=rates["output_dropout"],
        dropconnect=rates["dropconnect"],
    )


@register_model("sha_rnn", dataclass=SHARNNConfig)
class SHARNNLanguageModel(FairseqLanguageModel):
    """SHA-RNN (Merity, arXiv 1911.11423) for fairseq's trainer, scorer, generator and hub interface."""

    @classmethod
    def build_model(cls, cfg: SHARNNConfig, task) -> "SHARNNLanguageModel":
        dictionary = task.target_dictionary
        layer_norm = partial(LayerNorm, export=False)
        sizes, rates = sizes_of(cfg, len(dictionary)), rates_of(cfg)
        embed, softmax = adaptive_parts(cfg, len(dictionary), dictionary.pad())
        network = SHARNN(sizes, rates, layer_norm, embed)
        for block in network.blocks:
            block.checkpoint_activations = cfg.checkpoint_activations
        return cls(SHARNNDecoder(dictionary, network, softmax))

    @classmethod
    def from_pretrained(cls, model_name_or_path, checkpoint_file="model.pt", data_name_or_path=".", **kwargs):
        """Load a checkpoint for sampling and scoring: `SHARNNLanguageModel.from_pretrained(dir, file).sample("The ")`.

        Needs no corpus. Returns a `SHARNNHubInterface`. Raises FileNotFoundError and ValueError in one line.
        """
        import os

        from fairseq import hub_utils

        from fairseq_sharnn.models.hub import SHARNNHubInterface

        if not os.path.isdir(model_name_or_path):
            raise FileNotFoundError(f"{model_name_or_path} is not a folder: give the one that holds {checkpoint_file}")
        loaded = hub_utils.from_pretrained(model_name_or_path, checkpoint_file, data_name_or_path, **kwargs)
        return SHARNNHubInterface(loaded["args"], loaded["task"], loaded["models"])

    def load_state_dict(self, state_dict, strict=True, model_cfg=None, args=None):
        """Load parameters; a checkpoint of another vocabulary is refused in one line."""
        theirs, ours = vocabulary_of(state_dict), len(self.decoder.dictionary)
        if theirs == 0:
            raise UsageError("the checkpoint is not one of a sha_rnn model: choose the --arch it was trained with")
        if theirs != ours:
            raise UsageError(
                f"the checkpoint has a vocabulary of {theirs} symbols, but the task has {ours}: "
                "choose the --task (and dictionary) it was trained with"
            )
        return super().load_state_dict(state_dict, strict, model_cfg, args)


def vocabulary_of(state_dict) -> int:
    """Number of symbols that a checkpoint of this model embeds; 0 for another model's."""
    prefix = "decoder.network.embed."
    plain = state_dict.get(f"{prefix}weight")
    if plain is not None:
        return len(plain)
    bands = (name for name in state_dict if name.startswith(f"{prefix}embeddings.") and name.endswith(".0.weight"))
    return sum(len(state_dict[name]) for name in bands)


class SHARNNDecoder(FairseqIncrementalDecoder):
    """fairseq's view of the network: batch-major tokens in, batch-major logits out.

    With an adaptive softmax it is features that come out, as fairseq's `adaptive_loss` and scorer expect. State comes
    with the sample (`stream`), with `incremental_state` in generation, or starts empty.
    """

    carries_state = True

    def __init__(self, dictionary, network: SHARNN, adaptive_softmax: Optional[AdaptiveSoftmax] = None):
        super().__init__(dictionary)
        self.network = network
        self.adaptive_softmax = adaptive_softmax

    def forward(self, prev_output_tokens, encoder_out=None, incremental_state=None, stream=None, **unused):
        """Logits of what comes after each token.

        prev_output_tokens: [B, T]. stream: the chunk's place in its stream and the carrier of its state, or None.
        incremental_state: fairseq's store between steps; only tokens not seen before are run.
        Returns logits [B, T', V] (or features [B, T', D]) and `{"attn": None}` (attention weights are never kept).
        """
        if incremental_state is not None:
            features = self._extend(prev_output_tokens, incremental_state)
        else:
            state = None if stream is None else stream.state(self)
            features, state = self.network(prev_output_tokens.t(), state)
            if stream is not None:
                stream.keep(self, state)
        return self.output_layer(features.transpose(0, 1)), {"attn": None}

    def restore_stream_state(self, saved) -> StreamState:
        """The state that a checkpoint holds, on the model's device."""
        return StreamState.from_dict(saved, next(self.network.parameters()).device)

    def _extend(self, tokens, incremental_state):
        """Run the tokens behind those already consumed; with nothing new by count, the last column is the new one."""
        seen, state = self.get_incremental_state(incremental_state, "stream") or (0, None)
        new = tokens[:, seen:] if tokens.size(1) > seen else tokens[:, -1:]
        features, state = self.network(new.t(), state)
        self.set_incremental_state(incremental_state, "stream", (seen + new.size(1), state))
        return features

    def reorder_incremental_state(self, incremental_state, new_order):
        """Take the lanes that beam search keeps."""
        kept = self.get_incremental_state(incremental_state, "stream")
        if kept is not None and not torch.equal(new_order, torch.arange(kept[1].lanes, device=new_order.device)):
            seen, state = kept
            self.set_incremental_state(incremental_state, "stream", (seen, state.select(new_order)))

    def output_layer(self, features, **unused):
        """Project features [B, T, D] on the vocabulary: [B, T, V]; left as they are for an adaptive softmax."""
        return self.network.logits(features) if self.adaptive_softmax is None else features

    def max_positions(self):
        return _ANY_LENGTH


@register_model_architecture("sha_rnn", "sha_rnn_full")
def sha_rnn_full(args):
    """The paper's full model: a head in every layer."""
    args.attention_layers = getattr(args, "attention_layers", "all")


@register_model_architecture("sha_rnn", "sha_rnn_no_head")
def sha_rnn_no_head(args):
    """The paper's SHA-LSTM without attention."""
    args.attention_layers = getattr(args, "attention_layers", "none")


@register_model_architecture("sha_rnn", "sha_rnn_small")
def sha_rnn_small(args):
    """A quarter of the paper's width: D 256, H 1024."""
    args.decoder_embed_dim = getattr(args, "decoder_embed_dim", 256)
    args.boom_dim = getattr(args, "boom_dim", 1024)


@register_model_architecture("sha_rnn", "sha_rnn_tiny")
def sha_rnn_tiny(args):
    """An eighth of the paper's width: D 128, H 512."""
    args.decoder_embed_dim = getattr(args, "decoder_embed_dim", 128)
    args.boom_dim = getattr(args, "boom_dim", 512)
