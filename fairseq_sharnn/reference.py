"""SHA-RNN written out plainly from the formulas: masks, concatenation, gates on memory.

The yardstick for speed and memory, and a second oracle for the numbers: tests use it where golden
tensors do not reach. It shares nothing with the package but the names of parameters, so that one's `state_dict` loads
into the other.
"""

import math
from typing import List, Optional, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

State = List[Tuple[Tensor, Tensor, Optional[Tensor]]]  # per layer: hidden and cell [B, D], memory [S, B, D]


class PlainVector(nn.Module):
    """o(g) = σ(f) ⊙ tanh(c), [c, f] = W σ(g) + b."""

    def __init__(self, width: int):
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(width))
        self.expand = nn.Linear(width, 2 * width)

    def forward(self) -> Tensor:
        c, f = self.expand(torch.sigmoid(self.gate)).chunk(2)
        return torch.sigmoid(f) * torch.tanh(c)


class PlainAttention(nn.Module):
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
        drop = lambda x: F.dropout(x, self.rate, self.training)  # noqa: E731
        q = drop(torch.sigmoid(self.query_gate) * self.ln_query(self.query(h)))
        k = torch.sigmoid(self.key_gate) * rows
        v = drop(self.value() * rows)
        length, total = h.size(0), rows.size(0)
        split = lambda x: x.unflatten(2, (self.heads, -1)).permute(1, 2, 0, 3)  # noqa: E731  [B, n, rows, d]
        q, k, v = split(q), split(k), split(v)
        scores = q @ k.transpose(2, 3) / math.sqrt(q.size(3))  # [B, n, T, S + T]
        hidden = torch.ones(length, total, dtype=torch.bool, device=h.device).triu(total - length + 1)
        scores = scores.masked_fill(hidden, -math.inf)
        out = drop(torch.softmax(scores, dim=-1)) @ v  # [B, n, T, d]
        return out.permute(2, 0, 1, 3).flatten(2)


class PlainBoom(nn.Module):
    def __init__(self, width: int, boom_width: int, rate: float):
        super().__init__()
        self.width, self.rate = width, rate
        self.expand = nn.Linear(width, boom_width)

    def forward(self, f: Tensor) -> Tensor:
        a = self.expand(f)
        z = F.dropout(a * torch.sigmoid(1.702 * a), self.rate, self.training)
        folds = z.size(-1) // self.width
        return z[..., : folds * self.width].unflatten(-1, (folds, self.width)).sum(-2)


class PlainBlock(nn.Module):
    def __init__(self, width, boom_width, heads, context, rate, attention_rate, boom_rate):
        super().__init__()
        self.context, self.rate = context, rate
        self.ln_input = nn.LayerNorm(width, eps=1e-12)
        self.lstm = nn.LSTM(width, width)
        self.attention = None
        if heads:
            self.ln_memory = nn.LayerNorm(width, eps=1e-12)
            self.ln_query_input = nn.LayerNorm(width, eps=1e-12)
            self.attention = PlainAttention(width, heads, attention_rate)
        self.ln_boom_input = nn.LayerNorm(width, eps=1e-12)
        self.ln_boom_residual = nn.LayerNorm(width, eps=1e-12)
        self.boom = PlainBoom(width, boom_width, boom_rate)

    def forward(self, h, state):
        start = None if state is None else (state[0].unsqueeze(0), state[1].unsqueeze(0))
        h, (hidden, cell) = self.lstm(self.ln_input(h), start)
        h = F.dropout(h, self.rate, self.training)
        memory = None
        if self.attention is not None:
            m = self.ln_memory(h)
            h = self.ln_query_input(h)
            kept = max(0, self.context - h.size(0))
            past = m[:0] if state is None else state[2][max(0, state[2].size(0) - kept) :]
            rows = torch.cat([past, m])
            memory = rows[max(0, rows.size(0) - self.context) :].detach()
            h = h + F.dropout(self.attention(h, rows), self.rate, self.training)
        f = self.ln_boom_input(h)
        h = self.ln_boom_residual(h)
        h = h + F.dropout(self.boom(f), self.rate, self.training)
        return h, (hidden[0].detach(), cell[0].detach(), memory)


class PlainSHARNN(nn.Module):
    """Takes the same sizes and dropout rates as `fairseq_sharnn.modules.sha_rnn.SHARNN` (DropConnect left out)."""

    def __init__(self, sizes, rates):
        super().__init__()
        self.rates = rates
        self.embed = nn.Embedding(sizes.vocab, sizes.width)
        self.output_bias = nn.Parameter(torch.zeros(sizes.vocab))
        self.blocks = nn.ModuleList(
            PlainBlock(
                sizes.width,
                sizes.boom_width,
                sizes.heads if layer in sizes.attention_layers else 0,
                sizes.context,
                rates.hidden,
                rates.attention,
                rates.boom,
            )
            for layer in range(sizes.layers)
        )

    def forward(self, tokens: Tensor, state: Optional[State] = None) -> Tuple[Tensor, State]:
        """tokens: [T, B] -> features [T, B, D], state after the chunk."""
        h = F.dropout(self.embed(tokens), self.rates.input, self.training)
        after = []
        for number, block in enumerate(self.blocks):
            h, layer_state = block(h, None if state is None else state[number])
            after.append(layer_state)
        return F.dropout(h, self.rates.output, self.training), after

    def logits(self, features: Tensor) -> Tensor:
        return F.linear(features, self.embed.weight, self.output_bias)
