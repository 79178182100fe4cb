"""What the ablations put in the place of the paper's parts. The paper's model uses nothing from this file."""

from torch import Tensor, nn

from fairseq_sharnn.modules.overparameterized import OverparameterizedVector
from fairseq_sharnn.modules.sizes import SHARNNSizes
from fairseq_sharnn.ops.boom import gelu
from fairseq_sharnn.ops.dropout import dropout


class FeedForward(nn.Module):
    """A full feed-forward layer with Boom's activation: out = W_2 drop(gelu(W_1 f + b_1)) + b_2.

    It has two matrices where Boom has one. At half of Boom's inner width H it has the same number of weights and of
    multiplications (paper, section 4.2).
    """

    def __init__(self, sizes: SHARNNSizes, rate: float = 0.0):
        """rate: of the dropout on the activations."""
        super().__init__()
        self.expand = nn.Linear(sizes.width, sizes.boom_width)
        self.contract = nn.Linear(sizes.boom_width, sizes.width)
        self.dropout = rate

    def forward(self, f: Tensor) -> Tensor:
        """f: [..., D] -> [..., D]"""
        z = dropout(gelu(self.expand(f)), self.dropout, self.training)  # [..., H]
        return self.contract(z)


class PlainVector(nn.Module):
    """A learned static vector without a network: o = g [D].

    It starts with the value that an over-parameterised vector drawn in its place has. So two models that differ only in
    this start as the same function. (At 0, attention would be silent at first, and LAMB's trust ratio would have no norm.)
    """

    def __init__(self, width: int):
        super().__init__()
        self.gate = nn.Parameter(OverparameterizedVector(width)().detach().clone())  # g: [D]

    def forward(self) -> Tensor:
        """Return o [D]."""
        return self.gate

    def collapse(self) -> None:
        """Do nothing: it is one vector already."""
