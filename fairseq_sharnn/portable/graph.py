"""The network as one function of tensors, for ONNX: token ids and the whole state in, log probabilities and state out.

The same formulas as in `modules` (spec, "Model"), written without Python objects and without branches on values. The
tests compare every log probability with the model's own.
"""

from typing import List, NamedTuple, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairseq_sharnn.modules.attention import MemoryAttention
from fairseq_sharnn.modules.block import Block
from fairseq_sharnn.modules.boom import Boom
from fairseq_sharnn.ops.boom import gelu
from fairseq_sharnn.portable.network import PortableNetwork


class GraphState(NamedTuple):
    """State of B lanes after what they read.

    hidden, cell: of the LSTMs [L, B, D]. memory: of the A layers that attend [A, B, M, D], the newest row last. filled
    [B] (int64): how many of a lane's last rows are its own, at most M. Streams start with zeros and M = 0; M grows up to
    the context C.
    """

    hidden: Tensor
    cell: Tensor
    memory: Tensor
    filled: Tensor


class Graph(nn.Module):
    """One chunk of T tokens, T below the context. step: T is 1, and the LSTM is written out as two products."""

    def __init__(self, module: PortableNetwork, step: bool):
        super().__init__()
        self.module, self.step = module, step
        sizes = module.network.sizes
        self.context, self.heads, self.width = sizes.context, sizes.heads, sizes.width

    def start(self, lanes: int) -> GraphState:
        """The state of streams that start."""
        layers, attending = len(self.module.network.blocks), len(self.module.network.sizes.attention_layers)
        zeros = torch.zeros(layers, lanes, self.width)
        memory = torch.zeros(attending, lanes, 0, self.width)
        return GraphState(zeros, zeros.clone(), memory, torch.zeros(lanes, dtype=torch.int64))

    def forward(self, tokens: Tensor, hidden: Tensor, cell: Tensor, memory: Tensor, filled: Tensor):
        """tokens [T, B] -> log p [T, B, V] of what comes after each, and the state after the chunk."""
        h = self.module.network.embed(tokens)  # [T, B, D]
        length = tokens.shape[0]
        hiddens: List[Tensor] = []
        cells: List[Tensor] = []
        memories: List[Tensor] = []
        for number, block in enumerate(self.module.network.blocks):
            h, after, cell_after = self._lstm(block, block.ln_input(h), hidden[number], cell[number])
            hiddens.append(after)
            cells.append(cell_after)
            if block.attention is not None:
                # spec, "Memory": cut to the last C - T rows, then the chunk's own rows behind them
                kept = memory[len(memories)][:, length - self.context :]
                rows = torch.cat([kept, block.ln_memory(h).transpose(0, 1)], dim=1)  # [B, S + T, D]
                h = block.ln_query_input(h)
                h = h + self._attend(block.attention, h, rows, filled)
                memories.append(rows)
            f = block.ln_boom_input(h)
            h = block.ln_boom_residual(h) + _mix(block, f)
        flat = h.reshape(-1, self.width)
        log_probs = self.module.output.log_probs(flat).reshape(tokens.shape[0], tokens.shape[1], -1)
        memory = torch.stack(memories) if memories else memory
        filled = torch.clamp(filled + length, max=self.context)
        return log_probs, torch.stack(hiddens), torch.stack(cells), memory, filled

    def _lstm(self, block: Block, x: Tensor, hidden: Tensor, cell: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        lstm = block.lstm
        if not self.step:
            out, (hidden, cell) = lstm(x, (hidden.unsqueeze(0), cell.unsqueeze(0)))
            return out, hidden.squeeze(0), cell.squeeze(0)
        weight_ih, weight_hh, bias_ih, bias_hh = lstm.all_weights[0]
        gates = F.linear(x[0], weight_ih, bias_ih) + F.linear(hidden, weight_hh, bias_hh)
        enter, forget, candidate, reveal = gates.split(self.width, dim=-1)
        cell = forget.sigmoid() * cell + enter.sigmoid() * candidate.tanh()
        hidden = reveal.sigmoid() * cell.tanh()
        return hidden.unsqueeze(0), hidden, cell

    def _attend(self, attention: MemoryAttention, h: Tensor, rows: Tensor, filled: Tensor) -> Tensor:
        """Attention of h [T, B, D] over rows [B, S + T, D], of which the first may belong to nobody: [T, B, D]."""
        gates = attention.query_gate.sigmoid() * attention.key_gate.sigmoid() * attention.scale
        query = (gates * attention.ln_query(attention.query(h))).transpose(0, 1)  # [B, T, D]
        length, count = h.shape[0], rows.shape[1]
        place = torch.arange(count)
        newest = torch.arange(length) + (count - length)  # the row of each query itself
        first = (count - length) - filled  # [B]
        visible = (place[None, None, :] <= newest[None, :, None]) & (place[None, None, :] >= first[:, None, None])
        head = self.width // self.heads
        mixed = []
        for start in range(0, self.width, head):
            columns = rows[:, :, start : start + head]
            scores = query[:, :, start : start + head] @ columns.transpose(1, 2)  # [B, T, S + T]
            mixed.append(scores.masked_fill(~visible, float("-inf")).softmax(-1) @ columns)
        return torch.cat(mixed, dim=-1).transpose(0, 1) * attention.value()


def _mix(block: Block, f: Tensor) -> Tensor:
    """Boom, or the full feed-forward layer of an ablation: [T, B, D] to [T, B, D]."""
    layer = block.boom
    if not isinstance(layer, Boom):
        return layer(f)
    a = gelu(F.linear(f, layer.expand.weight[: layer.used], layer.expand.bias[: layer.used]))
    return a.reshape(f.shape[0], f.shape[1], -1, f.shape[2]).sum(2)
