"""A full feed-forward layer, what the Boom layer is compared with (paper, section 4.2)."""

import torch
from torch import Tensor, nn

from fairseq_sharnn.modules.dropout import check_rate, dropout


class FeedForward(nn.Module):
    """out = W_2 drop(gelu(W_1 f + b_1)) + b_2 with Boom's activation gelu(x) = x ⊙ σ(1.702 x): [..., D] -> [..., D].

    Two matrices where Boom has one: at half of Boom's inner width H it has the same number of weights and of
    multiplications. Raises ValueError when H is below 1.
    """

    def __init__(self, width: int, inner_width: int, dropout: float = 0.0):
        super().__init__()
        if inner_width < 1:
            raise ValueError(f"the feed-forward layer's inner width must be at least 1, but it is {inner_width}")
        self.expand = nn.Linear(width, inner_width)
        self.contract = nn.Linear(inner_width, width)
        self.dropout = check_rate("boom dropout", dropout)

    def forward(self, f: Tensor) -> Tensor:
        a = self.expand(f)  # [..., H]
        z = dropout(a * torch.sigmoid(1.702 * a), self.dropout, self.training)
        return self.contract(z)
