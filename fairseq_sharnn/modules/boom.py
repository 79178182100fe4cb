"""The Boom layer (paper, section 4.2): a feed-forward layer without its second matrix."""

from torch import Tensor, nn

from fairseq_sharnn.modules.sizes import SHARNNSizes
from fairseq_sharnn.ops.boom import boom


class Boom(nn.Module):
    """Widen to H, activate, and sum the H // D consecutive chunks of D columns back to width D (spec, "Boom").

    z = drop(gelu(W_b f + b_b)), gelu(x) = x ⊙ σ(1.702 x). Columns past (H // D)·D are dropped.
    """

    def __init__(self, sizes: SHARNNSizes, rate: float = 0.0):
        """rate: of the dropout on the activations."""
        super().__init__()
        self.used = sizes.boom_width // sizes.width * sizes.width
        self.expand = nn.Linear(sizes.width, sizes.boom_width)
        self.dropout = rate

    def forward(self, f: Tensor) -> Tensor:
        """f: [..., D] -> [..., D]"""
        weight: Tensor = self.expand.weight  # [H, D]
        bias: Tensor = self.expand.bias  # [H]
        if self.used < weight.size(0):
            weight, bias = weight[: self.used], bias[: self.used]
        return boom(f, weight, bias, self.dropout, self.training)
