import pytest
import torch

from fairseq_sharnn.modules.boom import Boom
from fairseq_sharnn.modules.sizes import SHARNNSizes
from fairseq_sharnn.ops import boom as boom_module


@pytest.mark.parametrize("boom_width", [6, 12, 17])
def test_follows_the_formula_and_its_gradient(boom_width):
    torch.manual_seed(0)
    boom = Boom(SHARNNSizes(1, 6, boom_width)).double()
    f = torch.randn(4, 3, 6, dtype=torch.float64, requires_grad=True)
    a = f @ boom.expand.weight.t() + boom.expand.bias
    z = a * torch.sigmoid(1.702 * a)
    expected = sum(z[..., i * 6 : (i + 1) * 6] for i in range(boom_width // 6))
    torch.testing.assert_close(boom(f), expected)
    weights = torch.randn_like(expected)
    inputs = (f, boom.expand.weight, boom.expand.bias)
    ours = torch.autograd.grad((boom(f) * weights).sum(), inputs)
    plain = torch.autograd.grad((expected * weights).sum(), inputs)
    torch.testing.assert_close(ours, plain)


def test_dropout_falls_on_the_activations(monkeypatch):
    torch.manual_seed(0)
    boom = Boom(SHARNNSizes(1, 4, 8), rate=0.5).double()
    mask = torch.rand(5, 8) < 0.5
    monkeypatch.setattr(boom_module, "keep_mask", lambda shape, rate, device: mask)
    f = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    a = boom.expand(f)
    z = a * torch.sigmoid(1.702 * a) * mask * 2.0
    expected = z[:, :4] + z[:, 4:]
    torch.testing.assert_close(boom(f), expected)
    ours = torch.autograd.grad(boom(f).pow(2).sum(), (f, boom.expand.weight))
    torch.testing.assert_close(ours, torch.autograd.grad(expected.pow(2).sum(), (f, boom.expand.weight)))
    boom.eval()
    torch.testing.assert_close(boom(f), (a * torch.sigmoid(1.702 * a)).unflatten(-1, (2, 4)).sum(-2))
