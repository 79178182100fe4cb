import pytest
import torch

from fairseq_sharnn.modules.attention import MemoryAttention
from fairseq_sharnn.modules.memory import Memory
from fairseq_sharnn.modules.sizes import SHARNNSizes
from fairseq_sharnn.reference import PlainAttention


def randomised(width: int, heads: int) -> MemoryAttention:
    torch.manual_seed(width + heads)
    attention = MemoryAttention(SHARNNSizes(1, width, 2 * width, heads=heads)).double()
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return attention


@pytest.mark.parametrize(
    "heads, past, length, context", [(1, 9, 5, 20), (3, 9, 5, 11), (2, 0, 4, 8), (1, 6, 7, 7), (1, 6, 7, 3)]
)
def test_equals_the_formulas_written_out(heads, past, length, context):
    """Output and every gradient, with memory cut, empty, or T >= C."""
    attention = randomised(12, heads)
    plain = PlainAttention(12, heads, 0.0).double()
    plain.load_state_dict(attention.state_dict())
    h, m = (torch.randn(length, 2, 12, dtype=torch.float64, requires_grad=True) for _ in range(2))
    old = torch.randn(past, 2, 12, dtype=torch.float64)
    rows = torch.cat([old[max(0, past - max(0, context - length)) :], m])
    seen = Memory.from_rows(old.transpose(0, 1)).extended(m.transpose(0, 1), context).segments
    out = attention(h, m, seen)
    expected = plain(h, rows)
    torch.testing.assert_close(out, expected)
    weights = torch.randn_like(out)
    ours = torch.autograd.grad((out * weights).sum(), [h, m, *attention.parameters()])
    theirs = torch.autograd.grad((expected * weights).sum(), [h, m, *plain.parameters()])
    torch.testing.assert_close(ours, theirs)
