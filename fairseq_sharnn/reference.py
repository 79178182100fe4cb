"""SHA-RNN as the paper writes it: read this first.

The network of Merity, "Single Headed Attention RNN" (arXiv 1911.11423), in plain torch: masks, concatenation, gates on
the memory. It is slow and needs much memory, and it is the oracle for the package's numbers: tests and
`benchmarks.loss_compare` compare the fast network (`modules/`, `ops/`) with this one. It shares nothing with the package
but the names of parameters, so a `state_dict` of one loads into the other.

Where each idea has its own file in the package: the block in modules/block.py, attention over memory (section 4.1) in
modules/attention.py, Boom (4.2) in modules/boom.py, the over-parameterised vector (4.3) in modules/overparameterized.py,
the memory in modules/memory.py, the optimizer (4.4) in optim/lamb.py.

Symbols: V vocabulary, D width, H Boom width, B streams, T tokens in a chunk, S rows of memory, C context.
"""

import math
from typing import List, Optional, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LayerState = Tuple[Tensor, Tensor, Optional[Tensor]]  # hidden and cell [B, D], memory [S, B, D]
State = List[LayerState]


class PlainVector(nn.Module):
    """The over-parameterised static vector: o(g) = σ(f) ⊙ tanh(c), [c, f] = W σ(g) + b."""

    def __init__(self, width: int):
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(width))
        self.expand = nn.Linear(width, 2 * width)

    def forward(self) -> Tensor:
        c, f = self.expand(torch.sigmoid(self.gate)).chunk(2)
        return torch.sigmoid(f) * torch.tanh(c)


class PlainAttention(nn.Module):
    """Attention: the keys and values are the memory's rows under static gates. Only the query has a matrix."""

    def __init__(self, width: int, heads: int, rate: float):
        super().__init__()
        self.heads, self.rate = heads, rate
        self.query = nn.Linear(width, width)
        self.ln_query = nn.LayerNorm(width, eps=1e-12)
        self.query_gate = nn.Parameter(torch.zeros(width))
        self.key_gate = nn.Parameter(torch.zeros(width))
        self.value = PlainVector(width)

    def forward(self, h: Tensor, rows: Tensor) -> Tensor:
        """h: [T, B, D]; rows: [S + T, B, D] -> [T, B, D]"""
        length, total = h.size(0), rows.size(0)
        q = self._drop(torch.sigmoid(self.query_gate) * self.ln_query(self.query(h)))  # [T, B, D]
        k = torch.sigmoid(self.key_gate) * rows  # [S + T, B, D]: no matrix
        v = self._drop(self.value() * rows)  # [S + T, B, D]: no matrix
        q, k, v = self._heads(q), self._heads(k), self._heads(v)  # [B, n, T, d], [B, n, S + T, d] twice
        scores = q @ k.transpose(2, 3) / math.sqrt(q.size(3))  # [B, n, T, S + T]
        future = torch.ones(length, total, dtype=torch.bool, device=h.device).triu(total - length + 1)
        scores = scores.masked_fill(future, -math.inf)
        out = self._drop(torch.softmax(scores, dim=-1)) @ v  # [B, n, T, d]
        return out.permute(2, 0, 1, 3).flatten(2)  # [T, B, D]: no output projection

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.rate, self.training)

    def _heads(self, x: Tensor) -> Tensor:
        """[rows, B, D] -> [B, n, rows, d]: head j has the columns j·d to (j + 1)·d."""
        return x.unflatten(2, (self.heads, -1)).permute(1, 2, 0, 3)


class PlainBoom(nn.Module):
    """Boom: widen to H, activate, and sum the chunks of D columns back to width D. There is no second matrix."""

    def __init__(self, width: int, boom_width: int, rate: float):
        super().__init__()
        self.width, self.rate = width, rate
        self.expand = nn.Linear(width, boom_width)

    def forward(self, f: Tensor) -> Tensor:
        """f: [T, B, D] -> [T, B, D]"""
        a = self.expand(f)  # [T, B, H]
        z = F.dropout(a * torch.sigmoid(1.702 * a), self.rate, self.training)
        folds = z.size(-1) // self.width
        return z[..., : folds * self.width].unflatten(-1, (folds, self.width)).sum(-2)


class PlainBlock(nn.Module):
    """One layer of figure 1: LSTM, attention over memory if the layer has heads, Boom."""

    def __init__(self, sizes, rates, heads: int):
        super().__init__()
        width = sizes.width
        self.context, self.rate = sizes.context, rates.hidden
        self.ln_input = nn.LayerNorm(width, eps=1e-12)
        self.lstm = nn.LSTM(width, width)
        self.attention = None
        if heads:
            self.ln_memory = nn.LayerNorm(width, eps=1e-12)
            self.ln_query_input = nn.LayerNorm(width, eps=1e-12)
            self.attention = PlainAttention(width, heads, rates.attention)
        self.ln_boom_input = nn.LayerNorm(width, eps=1e-12)
        self.ln_boom_residual = nn.LayerNorm(width, eps=1e-12)
        self.boom = PlainBoom(width, sizes.boom_width, rates.boom)

    def forward(self, h: Tensor, state: Optional[LayerState]) -> Tuple[Tensor, LayerState]:
        """h: [T, B, D]; state: after the previous chunk, None at the start. Returns h and the state after the chunk."""
        start = None if state is None else (state[0].unsqueeze(0), state[1].unsqueeze(0))
        h, (hidden, cell) = self.lstm(self.ln_input(h), start)  # [T, B, D], [1, B, D] twice
        h = self._drop(h)  # no residual around the LSTM
        memory = None
        if self.attention is not None:
            m = self.ln_memory(h)  # [T, B, D]: what this chunk adds to memory
            h = self.ln_query_input(h)  # h is replaced by its normalised self
            rows = torch.cat([self._kept(state, m), m])  # [S + T, B, D]
            memory = rows[max(0, rows.size(0) - self.context) :].detach()  # no gradient into earlier chunks
            h = h + self._drop(self.attention(h, rows))
        f = self.ln_boom_input(h)
        h = self.ln_boom_residual(h)  # again replaced
        h = h + self._drop(self.boom(f))
        return h, (hidden[0].detach(), cell[0].detach(), memory)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.rate, self.training)

    def _kept(self, state: Optional[LayerState], m: Tensor) -> Tensor:
        """The memory's last C − T rows, so that no query of this chunk sees more than C."""
        if state is None or state[2] is None:
            return m[:0]
        return state[2][max(0, state[2].size(0) - max(0, self.context - m.size(0))) :]


class PlainSHARNN(nn.Module):
    """The network: embedding, layers, and an output projection that is the embedding's own matrix with a bias.

    sizes, rates: those of `fairseq_sharnn.modules.sha_rnn.SHARNN`. DropConnect and the ablations are left out.
    """

    def __init__(self, sizes, rates):
        super().__init__()
        self.rates = rates
        self.embed = nn.Embedding(sizes.vocab, sizes.width)
        self.output_bias = nn.Parameter(torch.zeros(sizes.vocab))
        heads = [sizes.heads if layer in sizes.attention_layers else 0 for layer in range(sizes.layers)]
        self.blocks = nn.ModuleList(PlainBlock(sizes, rates, number) for number in heads)

    def forward(self, tokens: Tensor, state: Optional[State] = None) -> Tuple[Tensor, State]:
        """tokens: [T, B] -> features [T, B, D], state after the chunk."""
        h = F.dropout(self.embed(tokens), self.rates.input, self.training)  # [T, B, D]
        after = []
        for number, block in enumerate(self.blocks):
            h, layer_state = block(h, None if state is None else state[number])
            after.append(layer_state)
        return F.dropout(h, self.rates.output, self.training), after

    def logits(self, features: Tensor) -> Tensor:
        """features: [..., D] -> h Eᵀ + b [..., V]"""
        return F.linear(features, self.embed.weight, self.output_bias)
