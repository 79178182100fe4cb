"""`--arch transformer_xl`: a Transformer that carries memory from chunk to chunk, built on x-transformers.

The memory is that of Transformer-XL (Dai et al., arXiv 1901.02860): each layer attends to the inputs that it had in the
chunks before, without gradient. The rest is what is usual in language models today: RMSNorm before each half of a layer,
rotary positions, and SwiGLU in the feed-forward half. Rotary positions depend on distances only, so they fit memory.
"""

from dataclasses import dataclass, field
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.models import FairseqLanguageModel, register_model
from torch import Tensor, nn

from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.models.decoder import StreamDecoder


@dataclass
class TransformerXLConfig(FairseqDataclass):
    decoder_embed_dim: int = field(default=512, metadata={"help": "width of the embedding and of each layer"})
    decoder_ffn_embed_dim: int = field(default=2048, metadata={"help": "width inside the feed-forward layers (SwiGLU)"})
    decoder_layers: int = field(default=6, metadata={"help": "number of layers"})
    decoder_attention_heads: int = field(
        default=8, metadata={"help": "heads in each layer; four times their number divides --decoder-embed-dim"}
    )
    context_length: int = field(
        default=1024,
        metadata={
            "help": "the most bytes that one layer attends to, memory and current chunk together; above "
            "--tokens-per-sample"
        },
    )
    dropout: float = field(default=0.1, metadata={"help": "dropout rate after embedding, attention and feed-forward"})
    attention_dropout: float = field(default=0.0, metadata={"help": "dropout rate on attention weights"})


class Memories(NamedTuple):
    """State of B lanes after a chunk: for each layer its latest inputs [B, M, D], oldest first, detached."""

    layers: Tuple[Tensor, ...]

    @property
    def lanes(self) -> int:
        return self.layers[0].size(0)

    @property
    def length(self) -> int:
        """M, the bytes that are remembered."""
        return self.layers[0].size(1)

    def last(self, count: int) -> "Memories":
        """The newest `count` bytes (all, if there are fewer)."""
        first = max(0, self.length - max(0, count))
        return Memories(tuple(layer[:, first:] for layer in self.layers))

    def select(self, lanes: Tensor) -> "Memories":
        """Take the given lanes, in the given order."""
        return Memories(tuple(layer.index_select(0, lanes.to(layer.device)) for layer in self.layers))

    def to_dict(self) -> Dict[str, List[Tensor]]:
        """Plain tensors on CPU for a checkpoint."""
        return {"memories": [layer.cpu().clone() for layer in self.layers]}

    @classmethod
    def from_dict(cls, saved: Dict[str, List[Tensor]], device: torch.device) -> "Memories":
        """The state that `to_dict` saved, on `device`."""
        return cls(tuple(layer.to(device) for layer in saved["memories"]))


class Sizes(NamedTuple):
    """What the streaming task asks of a network. context: memory and current chunk together, in bytes."""

    context: int


class XLNetwork(nn.Module):
    """x-transformers' decoder, with the memory's length given by the context: C − T bytes for a chunk of T."""

    def __init__(self, cfg: TransformerXLConfig, vocabulary: int):
        super().__init__()
        library = _x_transformers()
        self.sizes = Sizes(cfg.context_length)
        head = cfg.decoder_embed_dim // cfg.decoder_attention_heads
        self.transformer = library.TransformerWrapper(
            num_tokens=vocabulary,
            max_seq_len=0,  # no absolute positions
            max_mem_len=max(1, cfg.context_length - 1),
            tie_embedding=True,
            emb_dropout=cfg.dropout,
            attn_layers=library.Decoder(
                dim=cfg.decoder_embed_dim,
                depth=cfg.decoder_layers,
                heads=cfg.decoder_attention_heads,
                attn_dim_head=head,
                rotary_pos_emb=True,
                rotary_emb_dim=head,
                use_rmsnorm=True,
                ff_mult=(cfg.decoder_ffn_embed_dim + 0.5) / cfg.decoder_embed_dim,  # the library rounds down
                ff_glu=True,
                ff_swish=True,
                ff_no_bias=True,
                attn_flash=True,
                attn_dropout=cfg.attention_dropout,
                ff_dropout=cfg.dropout,
                verbose=False,
            ),
        )

    def forward(self, tokens: Tensor, state: Optional[Memories]) -> Tuple[Tensor, Memories]:
        """Features [T, B, D] of tokens [T, B], and the state after them."""
        past = None if state is None else state.last(self.sizes.context - tokens.size(0))
        mems = None if past is None or past.length == 0 else list(past.layers)
        features, mems = self.transformer(tokens.t(), mems=mems, return_mems=True, return_embeddings=True)
        return features.transpose(0, 1), Memories(tuple(mems))

    def logits(self, features: Tensor) -> Tensor:
        """Logits [..., V] of what comes after features [..., D]."""
        return self.transformer.to_logits(features)


class XLDecoder(StreamDecoder):
    """fairseq's view of the network. Its state travels with the sample and in checkpoints, as SHA-RNN's does."""

    network: XLNetwork

    def output_layer(self, features: Tensor, **unused: Any) -> Tensor:
        return self.network.logits(features)

    def logits(self, features: Tensor) -> Tensor:
        return self.network.logits(features)

    def restore_stream_state(self, saved: Dict[str, Any]) -> Memories:
        """The state that a checkpoint holds, on the model's device."""
        return Memories.from_dict(saved, next(self.network.parameters()).device)


@register_model("transformer_xl", dataclass=TransformerXLConfig)
class TransformerXLLanguageModel(FairseqLanguageModel):
    """A Transformer with memory for fairseq's trainer and scorer."""

    @classmethod
    def build_model(cls, cfg: TransformerXLConfig, task) -> "TransformerXLLanguageModel":
        """Build the model for a task's dictionary. Raises UsageError, naming the option that does not fit."""
        if cfg.decoder_embed_dim % (4 * cfg.decoder_attention_heads):
            raise UsageError(
                f"--decoder-embed-dim {cfg.decoder_embed_dim} is not a multiple of {4 * cfg.decoder_attention_heads}, "
                "four times --decoder-attention-heads"
            )
        dictionary = task.target_dictionary
        return cls(XLDecoder(dictionary, XLNetwork(cfg, len(dictionary))))


def _x_transformers() -> Any:
    """The library. Raises UsageError with one line where it is not installed."""
    try:
        import x_transformers
    except ImportError:
        raise UsageError(
            "--arch transformer_xl needs the package x-transformers: pip install 'fairseq-sharnn[experiments]'"
        ) from None
    return x_transformers
