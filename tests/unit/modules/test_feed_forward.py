import pytest
import torch

from fairseq_sharnn.modules.boom import Boom
from fairseq_sharnn.modules.feed_forward import FeedForward


@pytest.mark.parametrize("inner", [3, 16])
def test_follows_the_formula(inner):
    torch.manual_seed(0)
    layer = FeedForward(8, inner).double()
    f = torch.randn(5, 2, 8, dtype=torch.float64)
    a = f @ layer.expand.weight.t() + layer.expand.bias
    expected = (a * torch.sigmoid(1.702 * a)) @ layer.contract.weight.t() + layer.contract.bias
    torch.testing.assert_close(layer(f), expected)


def test_dropout_in_training_alone():
    torch.manual_seed(0)
    layer, f = FeedForward(8, 64, dropout=0.5), torch.randn(3, 8)
    assert not torch.equal(layer(f), layer(f))
    layer.eval()
    assert torch.equal(layer(f), layer(f))


def test_half_of_booms_width_costs_the_same():
    weights = [
        sum(p.numel() for p in layer.parameters() if p.dim() == 2) for layer in (FeedForward(8, 32), Boom(8, 64))
    ]
    assert weights[0] == weights[1] == 8 * 64


def test_inner_width_of_zero_is_refused():
    with pytest.raises(ValueError, match="inner width must be at least 1, but it is 0"):
        FeedForward(8, 0)
