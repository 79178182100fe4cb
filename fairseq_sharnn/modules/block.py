"""One layer of the paper's figure 1: LSTM, attention over memory where the layer has a head, Boom."""

from typing import Optional, Tuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fairseq_sharnn.modules.attention import LayerNormFactory, MemoryAttention
from fairseq_sharnn.modules.boom import Boom
from fairseq_sharnn.modules.dropout import check_rate, dropout, keep_mask, keep_scale
from fairseq_sharnn.modules.stream_state import LayerState, empty_memory

LAYER_NORM_EPS = 1e-12


class Block(nn.Module):
    """LSTM -> attention -> Boom, with the state of the layer passed in and returned (spec, "Model").

    Args:
        width: D, the width of embedding and LSTM.
        boom_width: H, the width inside the Boom layer, at least D.
        heads: number of attention heads, or 0 for a layer that does not attend.
        context: C, the most rows a query can see: memory and this chunk together.
        dropout, attention_dropout, boom_dropout: rates after LSTM and sub-layers, inside attention, inside Boom.
        dropconnect: rate on the LSTM's hidden-to-hidden matrix, one mask a chunk.
        layer_norm: makes each LayerNorm (apex's fused one on CUDA, for instance).

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
            self.attention = MemoryAttention(width, heads, attention_dropout, layer_norm)
        self.ln_boom_input = layer_norm(width, eps=LAYER_NORM_EPS)
        self.ln_boom_residual = layer_norm(width, eps=LAYER_NORM_EPS)
        self.boom = Boom(width, boom_width, boom_dropout)

    def forward(self, h: Tensor, state: Optional[LayerState]) -> Tuple[Tensor, LayerState]:
        """h: [T, B, D]; state: of the previous chunk, None where the streams start. Returns h and the new state."""
        run = self._run_checkpointed if self.checkpoint_activations and torch.is_grad_enabled() else _run
        h, m, hidden, cell = run(self._recurrent_half, h, state)
        memory = rows = None
        if self.attention is not None:
            memory = empty_memory(m.size(1), m.size(2), m) if state is None else state.memory
            memory = memory.extended(m.transpose(0, 1), self.context)
            rows = memory.rows
            memory = memory.last(self.context)
        h = run(self._mixing_half, h, m, rows)
        return h, LayerState(hidden.detach().squeeze(0), cell.detach().squeeze(0), memory)

    def _recurrent_half(self, h: Tensor, state: Optional[LayerState]):
        """Up to what goes into memory: the LSTM's output, the rows m [T, B, D] if the layer attends, hidden, cell."""
        h, (hidden, cell) = self._recur(self.ln_input(h), state)
        h = dropout(h, self.dropout, self.training)
        return h, None if self.attention is None else self.ln_memory(h), hidden, cell

    def _mixing_half(self, h: Tensor, m: Optional[Tensor], rows: Optional[Tensor]) -> Tensor:
        """Attention over rows [B, S + T, D], and Boom."""
        if self.attention is not None:
            h = self.ln_query_input(h)
            h = h + dropout(self.attention(h, m, rows), self.dropout, self.training)
        f = self.ln_boom_input(h)
        h = self.ln_boom_residual(h)
        return h + dropout(self.boom(f), self.dropout, self.training)

    @staticmethod
    def _run_checkpointed(half, *inputs):
        """Keep the inputs alone and compute the rest again, with the same dropout masks, in the backward pass."""
        return checkpoint(half, *inputs, use_reentrant=False)

    def _recur(self, x: Tensor, state: Optional[LayerState]) -> Tuple[Tensor, Tuple[Tensor, Tensor]]:
        """Run the LSTM over x [T, B, D]; DropConnect draws one mask over the hidden-to-hidden matrix a call."""
        x = x.to(self.lstm.weight_hh_l0.dtype)
        if state is None:
            zeros = x.new_zeros(1, x.size(1), x.size(2))
            start = (zeros, zeros)
        else:
            start = (state.hidden.unsqueeze(0).to(x.dtype), state.cell.unsqueeze(0).to(x.dtype))
        if not self.training or self.dropconnect == 0.0:
            return self.lstm(x, start)
        weight = self.lstm.weight_hh_l0
        mask = keep_mask(weight.shape, self.dropconnect, weight.device)
        weight = weight * mask * keep_scale(self.dropconnect, weight.device)
        weights = [self.lstm.weight_ih_l0, weight, self.lstm.bias_ih_l0, self.lstm.bias_hh_l0]
        out, hidden, cell = torch._VF.lstm(x, start, weights, True, 1, 0.0, self.training, False, False)
        return out, (hidden, cell)


def _run(half, *inputs):
    return half(*inputs)
