"""One layer of the paper's figure 1: LSTM, attention over memory where the layer has a head, Boom."""

from typing import Optional, Tuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fairseq_sharnn.modules.attention import LayerNormFactory, MemoryAttention
from fairseq_sharnn.modules.boom import Boom
from fairseq_sharnn.modules.dropout import check_rate, dropout, keep_mask, keep_scale
from fairseq_sharnn.modules.feed_forward import FeedForward
from fairseq_sharnn.modules.lstm import lstm
from fairseq_sharnn.modules.memory import empty_memory
from fairseq_sharnn.modules.stream_state import LayerState
from fairseq_sharnn.ops import kernels

LAYER_NORM_EPS = 1e-12
FEED_FORWARD = {"boom": Boom, "full": FeedForward}


class Block(nn.Module):
    """LSTM -> attention -> Boom, with the state of the layer passed in and returned (spec, "Model").

    Args:
        width: D, the width of embedding and LSTM.
        boom_width: H, the width inside the Boom layer, at least D; inside the full feed-forward layer, any.
        heads: number of attention heads, or 0 for a layer that does not attend.
        context: C, the most rows a query can see: memory and this chunk together.
        dropout, attention_dropout, boom_dropout: rates after LSTM and sub-layers, inside attention, inside Boom.
        dropconnect: rate on the LSTM's hidden-to-hidden matrix, one mask a chunk.
        layer_norm: makes each LayerNorm (apex's fused one on CUDA, for instance).
        static_vectors, feed_forward: the paper's parts, or what the ablations put in their place.

    Set `checkpoint_activations` to trade a second forward pass for memory. It goes around the two halves of a layer
    but not around the memory between them, which must be written once.
    """

    checkpoint_activations = False

    def __init__(
        self,
        width: int,
        boom_width: int,
        heads: int,
        context: int,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        boom_dropout: float = 0.0,
        dropconnect: float = 0.0,
        layer_norm: LayerNormFactory = nn.LayerNorm,
        static_vectors: str = "overparameterized",
        feed_forward: str = "boom",
    ):
        super().__init__()
        self.context = context
        self.dropout = check_rate("dropout", dropout)
        self.dropconnect = check_rate("dropconnect", dropconnect)
        self.ln_input = layer_norm(width, eps=LAYER_NORM_EPS)
        self.lstm = nn.LSTM(width, width)
        self.attention: Optional[MemoryAttention] = None
        if heads > 0:
            self.ln_memory = layer_norm(width, eps=LAYER_NORM_EPS)
            self.ln_query_input = layer_norm(width, eps=LAYER_NORM_EPS)
            self.attention = MemoryAttention(width, heads, attention_dropout, layer_norm, static_vectors)
        self.ln_boom_input = layer_norm(width, eps=LAYER_NORM_EPS)
        self.ln_boom_residual = layer_norm(width, eps=LAYER_NORM_EPS)
        self.boom = FEED_FORWARD[feed_forward](width, boom_width, boom_dropout)

    def forward(self, h: Tensor, state: Optional[LayerState]) -> Tuple[Tensor, LayerState]:
        """h: [T, B, D]; state: of the previous chunk, None where the streams start. Returns h and the new state."""
        if self._is_single_step(h):
            return self._step(h, state)
        run = self._run_checkpointed if self.checkpoint_activations and torch.is_grad_enabled() else _run
        h, m, hidden, cell = run(self._recurrent_half, h, state)
        segments, memory = self._remember(m, state)
        h = run(self._mixing_half, h, m, segments)
        return h, LayerState(hidden.detach(), cell.detach(), memory)

    def _remember(self, m: Optional[Tensor], state: Optional[LayerState]):
        """Add the chunk's rows m [T, B, D] to the memory: the segments its queries see, and the memory after it."""
        if m is None:
            return (), None
        rows, kind = m.detach().transpose(0, 1), m.device.type
        if torch.is_autocast_enabled(kind):
            # attention would round them each time it sees them: once is enough, and takes half the room
            rows = rows.to(torch.get_autocast_dtype(kind))
        memory = empty_memory(m.size(1), m.size(2), rows) if state is None else state.memory
        memory = memory.extended(rows, self.context)
        return memory.segments, memory.last(self.context)

    def _is_single_step(self, h: Tensor) -> bool:
        """Whether h [T, B, D] is one step of few lanes in inference, for which the CPU has kernels of its own (for Boom)."""
        single = len(h) == 1 and h.size(1) <= kernels.FEW_LANES and not self.training and not torch.is_grad_enabled()
        return single and isinstance(self.boom, Boom) and kernels.usable(h, self.lstm.weight_ih_l0)

    def _step(self, h: Tensor, state: Optional[LayerState]) -> Tuple[Tensor, LayerState]:
        """`forward` for one step [1, B, D] of few lanes: layer norms together with the products they feed."""
        h, norm = h[0], self.ln_input
        hidden, cell = (
            (torch.zeros_like(h),) * 2 if state is None else (state.hidden.to(h.dtype), state.cell.to(h.dtype))
        )
        weights = (self.lstm.weight_ih_l0, self.lstm.weight_hh_l0, self.lstm.bias_ih_l0, self.lstm.bias_hh_l0)
        hidden, cell = kernels.ops.lstm_step(h, norm.weight, norm.bias, *weights, hidden, cell)
        h, memory = hidden, None
        if self.attention is not None:
            m = self.ln_memory(h).unsqueeze(0)
            segments, memory = self._remember(m, state)
            h = self.ln_query_input(h)
            h = h + self.attention(h.unsqueeze(0), m, segments)[0]
        norm, residual, expand = self.ln_boom_input, self.ln_boom_residual, self.boom.expand
        h = kernels.ops.boom_step(h, norm.weight, norm.bias, residual.weight, residual.bias, expand.weight, expand.bias)
        return h.unsqueeze(0), LayerState(hidden, cell, memory)

    def _recurrent_half(self, h: Tensor, state: Optional[LayerState]):
        """Up to what goes into memory: the LSTM's output, the rows m [T, B, D] if the layer attends, hidden, cell."""
        h, hidden, cell = self._recur(self.ln_input(h), state)
        h = dropout(h, self.dropout, self.training)
        return h, None if self.attention is None else self.ln_memory(h), hidden, cell

    def _mixing_half(self, h: Tensor, m: Optional[Tensor], segments: Tuple[Tensor, ...]) -> Tensor:
        """Attention over the memory's segments, this chunk in it, and Boom."""
        if self.attention is not None:
            h = self.ln_query_input(h)
            h = h + dropout(self.attention(h, m, segments), self.dropout, self.training)
        f = self.ln_boom_input(h)
        h = self.ln_boom_residual(h)
        return h + dropout(self.boom(f), self.dropout, self.training)

    @staticmethod
    def _run_checkpointed(half, *inputs):
        """Keep the inputs alone and compute the rest again, with the same dropout masks, in the backward pass."""
        return checkpoint(half, *inputs, use_reentrant=False)

    def _recur(self, x: Tensor, state: Optional[LayerState]) -> Tuple[Tensor, Tensor, Tensor]:
        """Run the LSTM over x [T, B, D]; DropConnect draws one mask over the hidden-to-hidden matrix a call."""
        parameters = self.lstm
        weight = parameters.weight_hh_l0
        x = x.to(weight.dtype)
        if state is None:
            hidden = cell = x.new_zeros(x.size(1), x.size(2))
        else:
            hidden, cell = state.hidden.to(x.dtype), state.cell.to(x.dtype)
        if self.training and self.dropconnect > 0.0:
            mask = keep_mask(weight.shape, self.dropconnect, weight.device)
            weight = weight * mask * keep_scale(self.dropconnect, weight.device)
        weights = (parameters.weight_ih_l0, weight, parameters.bias_ih_l0, parameters.bias_hh_l0)
        if weight is parameters.weight_hh_l0 and x.is_cuda:  # cuDNN's own flat weights
            out, (hidden, cell) = parameters(x, (hidden.unsqueeze(0), cell.unsqueeze(0)))
            return out, hidden.squeeze(0), cell.squeeze(0)
        return lstm(x, weights, hidden, cell, self.training)


def _run(half, *inputs):
    return half(*inputs)
