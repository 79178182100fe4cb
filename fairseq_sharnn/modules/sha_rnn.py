"""The whole network, in torch only: embedding, blocks, tied output projection (spec, "Model")."""

import math
from typing import Any, Dict, List, Optional, Tuple

import torch
from torch import Tensor, nn

from fairseq_sharnn.modules.block import Block
from fairseq_sharnn.modules.layer_norm import LayerNormFactory
from fairseq_sharnn.modules.memory import LaneMemories
from fairseq_sharnn.modules.recompute import recomputed
from fairseq_sharnn.modules.single_step import GatheredWeights, narrowed_matrices, single_step, step_weights
from fairseq_sharnn.modules.sizes import SHARNNDropout, SHARNNSizes
from fairseq_sharnn.modules.stream_state import StreamState
from fairseq_sharnn.ops.dropout import dropout
from fairseq_sharnn.ops.step import Matrix, is_single_step, project, takes

__all__ = ["SHARNN", "SHARNNDropout", "SHARNNSizes", "StreamNetwork"]


class StreamNetwork(nn.Module):
    """From tokens to features, over B parallel streams, one chunk of T tokens at a time.

    State is explicit: `forward` takes the state after the previous chunk and returns the state after this one. A subclass
    brings `embed` (ids [...] to [..., D]) and an output; it calls `make_blocks` where the blocks' parameters belong in its
    order of parameters.
    """

    embed: nn.Module
    blocks: Any  # nn.ModuleList of Block

    def __init__(self, sizes: SHARNNSizes, rates: SHARNNDropout, checkpoint_activations: bool):
        """checkpoint_activations: compute activations again in the backward pass instead of keeping them."""
        super().__init__()
        self.sizes, self.rates = sizes, rates
        self.checkpoint_activations = checkpoint_activations
        self._narrow: Dict[Tensor, Matrix] = {}  # the weights that single steps read in fewer bits
        self._gathered = GatheredWeights()  # what single steps read

    def make_blocks(self, layer_norm: LayerNormFactory) -> nn.ModuleList:
        """The layers, with PyTorch's initial values. layer_norm: makes each LayerNorm (on CUDA apex's fused one)."""
        layers = range(self.sizes.layers)
        return nn.ModuleList(
            Block(self.sizes, self.rates, layer in self.sizes.attention_layers, layer_norm) for layer in layers
        )

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw initial values as published (spec, "Initial values"). LSTMs and LayerNorms keep PyTorch's."""
        deviation = 0.1 / math.sqrt(self.sizes.width)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                module.weight.normal_(0.0, deviation)
            if isinstance(module, nn.Linear):
                module.bias.zero_()

    def forward(self, tokens: Tensor, state: Optional[StreamState] = None) -> Tuple[Tensor, StreamState]:
        """Features of the next token after each of `tokens` [T, B], and the state after the chunk.

        state: after the previous chunk, None if the streams start. Returns features [T, B, D], ready for the output
        projection. Raises ValueError if the state has another number of lanes.
        """
        if state is not None and state.lanes != tokens.size(1):
            raise ValueError(f"the state has {state.lanes} lanes, but the chunk has {tokens.size(1)}")
        h = dropout(self.embed(tokens), self.rates.input, self.training)  # [T, B, D]
        weights = self._step_weights(h, state)
        if weights is not None:
            start = [block.empty_state(h) for block in self.blocks] if state is None else state.layers
            return single_step(h, weights, start, self.sizes.heads, self.sizes.context)
        recompute = self.checkpoint_activations and torch.is_grad_enabled()
        layers = []
        for number, block in enumerate(self.blocks):
            before = None if state is None else state.layers[number]
            h, after = recomputed(block, h, before) if recompute else block(h, before)  # [T, B, D]
            layers.append(after)
        return dropout(h, self.rates.output, self.training), StreamState(tuple(layers))

    def _step_weights(self, h: Tensor, state: Optional[StreamState]) -> Optional[List[Tensor]]:
        """What the operator of a single step takes, or None if h [T, B, D] or the network is not for it."""
        if not is_single_step(h, self.training):
            return None
        memories = () if state is None else (layer.memory for layer in state.layers)
        if any(isinstance(memory, LaneMemories) and None in memory for memory in memories):
            return None  # lanes of nothing
        weights = self._gathered.of(self.blocks, self._narrow)
        return weights if weights is not None and takes(h, weights[0]) else None

    def steps_apart(self) -> bool:
        """Whether a single step in inference computes each lane by itself: its numbers do not depend on other lanes."""
        return takes(self.blocks[0].ln_input.weight) and step_weights(self.blocks, self._narrow) is not None

    @torch.no_grad()
    def narrow(self, kind: str) -> None:
        """Round the layers' matrices to `bfloat16`, or to `int8` with a scale a row, for inference.

        Chunks compute with the rounded values in float32. Single steps also read fewer bytes. The parameters keep the
        rounded values, and take no gradient from here on. `train()` and loading parameters end the narrow reading.
        """
        self._narrow = narrowed_matrices(self.blocks, kind)
        for weight in self._narrow:
            weight.requires_grad_(False)

    def train(self, mode: bool = True) -> "StreamNetwork":
        if mode:
            self._narrow = {}
        return super().train(mode)

    def _load_from_state_dict(self, *args, **kwargs):
        self._narrow = {}
        return super()._load_from_state_dict(*args, **kwargs)

    @torch.no_grad()
    def collapse(self) -> None:
        """Store each over-parameterised vector as a plain one, for inference. `train()` undoes it."""
        for block in self.blocks:
            if block.attention is not None:
                block.attention.value.collapse()


class SHARNN(StreamNetwork):
    """The paper's network. The output projection is the embedding's own matrix, with a bias."""

    embed: nn.Embedding

    def __init__(
        self,
        sizes: SHARNNSizes,
        rates: SHARNNDropout = SHARNNDropout(),
        layer_norm: LayerNormFactory = nn.LayerNorm,
        checkpoint_activations: bool = False,
    ):
        super().__init__(sizes, rates, checkpoint_activations)
        self.embed = nn.Embedding(sizes.vocab, sizes.width)
        self.output_bias = nn.Parameter(torch.zeros(sizes.vocab))
        self.blocks = self.make_blocks(layer_norm)
        self.reset_parameters()

    def logits(self, features: Tensor) -> Tensor:
        """Project features [..., D] on the vocabulary: h Eᵀ + b [..., V]."""
        return project(features, self.embed.weight, self.output_bias)
