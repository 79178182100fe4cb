"""Single-headed attention over memory (paper, section 4.1)."""

import math
from typing import Sequence, Union

import torch
from torch import Tensor, nn

from fairseq_sharnn.modules.ablations import PlainVector
from fairseq_sharnn.modules.layer_norm import LAYER_NORM_EPS, LayerNormFactory
from fairseq_sharnn.modules.overparameterized import OverparameterizedVector
from fairseq_sharnn.modules.sizes import SHARNNSizes
from fairseq_sharnn.ops.attend import attend
from fairseq_sharnn.ops.dropout import dropout


class MemoryAttention(nn.Module):
    """Attention whose keys and values are the memory's rows themselves, under static gates (spec, "Attention").

        q = drop(σ(g_q) ⊙ LN(W_q h + b_q));  k = σ(g_k) ⊙ M;  v = drop(o(g_v) ⊙ M);  out = drop(softmax(q kᵀ / √d)) v

    No matrix product is done on keys or values: this makes long memories cheap. The gates on them are vectors, so they
    need not be applied to the memory either: q·(σ(g_k) ⊙ m) = (σ(g_k) ⊙ q)·m, and Σ a (o ⊙ m) = o ⊙ Σ a m.
    """

    def __init__(self, sizes: SHARNNSizes, rate: float = 0.0, layer_norm: LayerNormFactory = nn.LayerNorm):
        """rate: of the dropout on queries, values and attention weights. layer_norm: makes the LayerNorm."""
        super().__init__()
        self.heads = sizes.heads
        self.scale = 1.0 / math.sqrt(sizes.width // sizes.heads)
        self.dropout = rate
        self.query = nn.Linear(sizes.width, sizes.width)
        self.ln_query = layer_norm(sizes.width, eps=LAYER_NORM_EPS)
        self.query_gate = nn.Parameter(torch.zeros(sizes.width))
        self.key_gate = nn.Parameter(torch.zeros(sizes.width))
        static_vector = OverparameterizedVector if sizes.static_vectors == "overparameterized" else PlainVector
        self.value = static_vector(sizes.width)

    def forward(self, h: Tensor, m: Tensor, rows: Sequence[Tensor], unseen: Union[int, Tensor] = 0) -> Tensor:
        """Attend from h [T, B, D] over `rows`: the memory, and this chunk's m [T, B, D] as its last T rows.

        rows: the S + T rows in consecutive pieces [B, n, D]. m receives the gradient of its rows. unseen: how many rows
        too many there are at the front, or which rows [B, 1, R] a lane does not see. Returns [T, B, D].
        """
        # dropout comes after the gates: it only scales elements, so the order makes no difference
        gates = torch.sigmoid(self.query_gate) * torch.sigmoid(self.key_gate) * self.scale  # [D]
        q = dropout(gates * self.ln_query(self.query(h)), self.dropout, self.training)  # [T, B, D]
        rate = self.dropout if self.training else 0.0
        mixed = attend(q.transpose(0, 1), m.transpose(0, 1), rows, self.heads, rate, unseen)  # [B, T, D]
        return mixed.transpose(0, 1) * self.value()  # [T, B, D]
