import pytest
import torch

from fairseq_sharnn.modules.ablations import FeedForward, PlainVector
from fairseq_sharnn.modules.boom import Boom
from fairseq_sharnn.modules.overparameterized import OverparameterizedVector
from fairseq_sharnn.modules.sizes import SHARNNSizes


def sizes(inner: int) -> SHARNNSizes:
    return SHARNNSizes(1, 8, inner, feed_forward="full")


@pytest.mark.parametrize("inner", [3, 16])
def test_follows_the_formula(inner):
    torch.manual_seed(0)
    layer = FeedForward(sizes(inner)).double()
    f = torch.randn(5, 2, 8, dtype=torch.float64)
    a = f @ layer.expand.weight.t() + layer.expand.bias
    expected = (a * torch.sigmoid(1.702 * a)) @ layer.contract.weight.t() + layer.contract.bias
    torch.testing.assert_close(layer(f), expected)


def test_dropout_only_in_training():
    torch.manual_seed(0)
    layer, f = FeedForward(sizes(64), rate=0.5), torch.randn(3, 8)
    assert not torch.equal(layer(f), layer(f))
    layer.eval()
    assert torch.equal(layer(f), layer(f))


def test_half_of_booms_width_costs_the_same():
    weights = [
        sum(p.numel() for p in layer.parameters() if p.dim() == 2)
        for layer in (FeedForward(sizes(32)), Boom(SHARNNSizes(1, 8, 64)))
    ]
    assert weights[0] == weights[1] == 8 * 64


def test_a_plain_vector_starts_as_the_over_parameterised_one_and_is_one_vector():
    torch.manual_seed(3)
    rich = OverparameterizedVector(64)
    torch.manual_seed(3)
    plain = PlainVector(64)
    plain.collapse()
    assert [name for name, _ in plain.named_parameters()] == ["gate"]
    torch.testing.assert_close(plain(), rich(), rtol=0, atol=0)
    assert plain().std() > 0.01
    plain().sum().backward()
    assert torch.equal(plain.gate.grad, torch.ones(64))  # no sigmoid in the way
