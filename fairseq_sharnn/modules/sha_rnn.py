"""The whole network in torch alone: embedding, blocks, tied output projection (spec, "Model")."""

import math
from dataclasses import dataclass
from typing import Optional, Tuple

import torch
from torch import Tensor, nn

from fairseq_sharnn.modules.attention import LayerNormFactory
from fairseq_sharnn.modules.block import Block
from fairseq_sharnn.modules.dropout import check_rate, dropout
from fairseq_sharnn.modules.stream_state import StreamState


@dataclass(frozen=True)
class SHARNNSizes:
    """What a SHA-RNN is made of; the defaults are the paper's single-headed model.

    vocab: V; width: D, of embedding and LSTM; boom_width: H >= D; layers: L; attention_layers: 0-based numbers of the
    layers that attend; heads: in each of them, a divisor of D; context: C, the most rows a query sees; static_vectors:
    `overparameterized` or `plain`; feed_forward: `boom`, or `full` for one of two matrices with boom_width inside.
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


@dataclass(frozen=True)
class SHARNNDropout:
    """Dropout rates by site (spec, "Dropout sites"); 0.1 at each of them but DropConnect in the published runs."""

    input: float = 0.1
    hidden: float = 0.1
    attention: float = 0.1
    boom: float = 0.1
    output: float = 0.1
    dropconnect: float = 0.0


class SHARNN(nn.Module):
    """SHA-RNN over B parallel streams, a chunk of T tokens at a time.

    State is explicit: `forward` takes the state after the previous chunk and returns the state after this one.
    embed: another embedding, ids [...] to [..., D], whose output projection is its owner's: it keeps its initial values,
    and there are no `logits`. Raises ValueError when the sizes do not fit each other.
    """

    def __init__(
        self,
        sizes: SHARNNSizes,
        rates: SHARNNDropout = SHARNNDropout(),
        layer_norm: LayerNormFactory = nn.LayerNorm,
        embed: Optional[nn.Module] = None,
    ):
        super().__init__()
        if sizes.layers < 1:
            raise ValueError(f"a model needs at least 1 layer, not {sizes.layers}")
        if sizes.context < 1:
            raise ValueError(f"the context length must be at least 1, not {sizes.context}")
        self.sizes = sizes
        self.input_dropout = check_rate("input dropout", rates.input)
        self.output_dropout = check_rate("output dropout", rates.output)
        if embed is None:
            self.embed = nn.Embedding(sizes.vocab, sizes.width)
            self.output_bias = nn.Parameter(torch.zeros(sizes.vocab))
        self.blocks = nn.ModuleList(
            Block(
                sizes.width,
                sizes.boom_width,
                sizes.heads if layer in sizes.attention_layers else 0,
                sizes.context,
                rates.hidden,
                rates.attention,
                rates.boom,
                rates.dropconnect,
                layer_norm,
                sizes.static_vectors,
                sizes.feed_forward,
            )
            for layer in range(sizes.layers)
        )
        self.reset_parameters()
        if embed is not None:
            self.embed = embed

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw initial values as published (spec, "Initial values"): LSTMs and LayerNorms keep PyTorch's defaults."""
        deviation = 0.1 / math.sqrt(self.sizes.width)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                module.weight.normal_(0.0, deviation)
            if isinstance(module, nn.Linear):
                module.bias.zero_()

    def forward(self, tokens: Tensor, state: Optional[StreamState] = None) -> Tuple[Tensor, StreamState]:
        """Features of the next token after each of `tokens` [T, B], and the state after the chunk.

        state: after the previous chunk, None where the streams start. Returns features [T, B, D], already dropped out,
        ready for `logits`. Raises ValueError when the state is of another number of lanes.
        """
        if state is not None and state.lanes != tokens.size(1):
            raise ValueError(f"the state has {state.lanes} lanes, but the chunk has {tokens.size(1)}")
        h = dropout(self.embed(tokens), self.input_dropout, self.training)  # [T, B, D]
        layers = []
        for number, block in enumerate(self.blocks):
            h, layer_state = block(h, None if state is None else state.layers[number])
            layers.append(layer_state)
        return dropout(h, self.output_dropout, self.training), StreamState(tuple(layers))

    def logits(self, features: Tensor) -> Tensor:
        """Project features [..., D] on the vocabulary with the embedding's own matrix: [..., V]."""
        return nn.functional.linear(features, self.embed.weight, self.output_bias)

    @torch.no_grad()
    def collapse(self) -> None:
        """Store each over-parameterised vector as a plain one, for inference; `train()` undoes it."""
        for block in self.blocks:
            if block.attention is not None:
                block.attention.value.collapse()
