"""One layer of the paper's figure 1: LSTM, attention over memory if the layer has a head, Boom."""

from functools import partial
from typing import Any, Callable, List, Optional, Tuple

import torch
from torch import Tensor, nn

from fairseq_sharnn.modules.ablations import FeedForward
from fairseq_sharnn.modules.attention import MemoryAttention
from fairseq_sharnn.modules.boom import Boom
from fairseq_sharnn.modules.layer_norm import LAYER_NORM_EPS, LayerNormFactory
from fairseq_sharnn.modules.memory import LaneMemories, Memory, empty_memory
from fairseq_sharnn.modules.sizes import SHARNNDropout, SHARNNSizes
from fairseq_sharnn.modules.stream_state import LayerState
from fairseq_sharnn.ops.dropout import dropconnect, dropout
from fairseq_sharnn.ops.lstm import lstm
from fairseq_sharnn.ops.step import Matrix


class Block(nn.Module):
    """LSTM -> attention -> Boom. The state of the layer is passed in and returned (spec, "Model")."""

    def __init__(
        self, sizes: SHARNNSizes, rates: SHARNNDropout, attends: bool, layer_norm: LayerNormFactory = nn.LayerNorm
    ):
        """attends: whether this layer has attention. layer_norm: makes each LayerNorm."""
        super().__init__()
        make_norm = partial(layer_norm, sizes.width, eps=LAYER_NORM_EPS)
        self.context, self.dropout, self.dropconnect = sizes.context, rates.hidden, rates.dropconnect
        self.ln_input = make_norm()
        self.lstm = nn.LSTM(sizes.width, sizes.width)
        self.attention: Optional[MemoryAttention] = None
        if attends:
            self.ln_memory = make_norm()
            self.ln_query_input = make_norm()
            self.attention = MemoryAttention(sizes, rates.attention, layer_norm)
        self.ln_boom_input = make_norm()
        self.ln_boom_residual = make_norm()
        self.boom = (Boom if sizes.feed_forward == "boom" else FeedForward)(sizes, rates.boom)

    def forward(self, h: Tensor, state: Optional[LayerState] = None) -> Tuple[Tensor, LayerState]:
        """Run one chunk h [T, B, D] from the state after the previous chunk, None if the streams start.

        Returns h [T, B, D] and the state after the chunk, detached from the graph.
        """
        state = self.empty_state(h) if state is None else state
        h, hidden, cell = self._recur(self.ln_input(h), state)  # [T, B, D], [B, D], [B, D]
        h, memory = self._attend(self._drop(h), state.memory)  # [T, B, D]: no residual around the LSTM
        f = self.ln_boom_input(h)  # [T, B, D]
        h = self.ln_boom_residual(h)  # [T, B, D]: h is replaced by its normalised self
        h = h + self._drop(self.boom(f))  # [T, B, D]
        return h, LayerState(hidden.detach(), cell.detach(), memory)

    def empty_state(self, h: Tensor) -> LayerState:
        """The state of streams that start, for a chunk h [T, B, D]."""
        zeros = h.new_zeros(h.size(1), h.size(2))
        memory = None if self.attention is None else empty_memory(h.size(1), h.size(2), h)
        return LayerState(zeros, zeros, memory)

    def _recur(self, x: Tensor, state: LayerState) -> Tuple[Tensor, Tensor, Tensor]:
        """Run the LSTM over x [T, B, D]. DropConnect draws one mask over the hidden-to-hidden matrix for the chunk."""
        weight_ih, weight_hh, bias_ih, bias_hh = self.lstm.all_weights[0]  # [4D, D] twice, [4D] twice
        x = x.to(weight_ih.dtype)
        weights = (weight_ih, dropconnect(weight_hh, self.dropconnect, self.training), bias_ih, bias_hh)
        trains = self.training or torch.is_grad_enabled()  # weights also learn without dropout, in dynamic evaluation
        return lstm(x, weights, state.hidden.to(x.dtype), state.cell.to(x.dtype), trains)

    def _attend(self, h: Tensor, memory: Optional[Memory]) -> Tuple[Tensor, Optional[Memory]]:
        """Attend from h [T, B, D] over the memory and this chunk. Returns h and the memory after the chunk."""
        if self.attention is None or memory is None:
            return h, None
        if isinstance(memory, LaneMemories):
            return self._attend_apart(h, memory)
        m = self.ln_memory(h)  # [T, B, D]: what this chunk adds to memory
        h = self.ln_query_input(h)  # [T, B, D]: h is replaced by its normalised self
        memory = memory.extended(self._as_kept(m), self.context)  # S + T rows
        h = h + self._drop(self.attention(h, m, *memory.to_attend()))  # [T, B, D]
        return h, memory.last(self.context)

    def _attend_apart(self, h: Tensor, memories: LaneMemories) -> Tuple[Tensor, LaneMemories]:
        """`_attend` for lanes that have read different amounts, one after the other."""
        lanes = [self._attend(lane, memory) for lane, memory in zip(h.split(1, dim=1), memories)]
        return torch.cat([lane for lane, _ in lanes], dim=1), LaneMemories(memory for _, memory in lanes)

    @staticmethod
    def _as_kept(m: Tensor) -> Tensor:
        """The chunk's rows as memory keeps them: [B, T, D], without gradient."""
        rows, kind = m.detach().transpose(0, 1), m.device.type
        # attention would round them under autocast each time it sees them: once is enough, and takes half the room
        return rows.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else rows

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.dropout, self.training)

    def step_weights(self, matrix: Callable[[Tensor], Matrix]) -> Optional[List[Tensor]]:
        """The parameters in the order of ops/csrc/step.cpp; None if a part is not the paper's, or was exchanged.

        matrix: how a weight is read.
        """
        parts: Any = self._modules  # an attribute of a module takes ten times as long to look up as an entry
        lstm, boom, attention = parts["lstm"], parts["boom"], parts.get("attention")
        if not (isinstance(boom, Boom) and isinstance(lstm, nn.LSTM)):
            return None
        expand = boom.expand
        if not (isinstance(expand, nn.Linear) and (attention is None or isinstance(attention.query, nn.Linear))):
            return None
        owned: Any = lstm._parameters.values()
        weight_ih, weight_hh, *biases = owned
        weights = [*parts["ln_input"]._parameters.values(), *matrix(weight_ih), *matrix(weight_hh), *biases]
        if attention is not None:
            for norm in ("ln_memory", "ln_query_input"):
                weights += parts[norm]._parameters.values()
            weight, bias = attention.query._parameters.values()
            weights += (*matrix(weight), bias, *attention.ln_query._parameters.values())
            weights += (attention.query_gate, attention.key_gate, attention.value())
        for norm in ("ln_boom_input", "ln_boom_residual"):
            weights += parts[norm]._parameters.values()
        owned = expand._parameters.values()
        weight, bias = owned
        return [*weights, *matrix(weight), bias]
