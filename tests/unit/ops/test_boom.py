"""Boom's kernel against the formula in float64, with the mask it drew replayed."""

import pytest
import torch

from fairseq_sharnn.ops import kernels
from fairseq_sharnn.ops.boom import boom
from tests.unit.ops.oracle import SEED, close, needs_kernels


@needs_kernels
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("boom_width", [32, 48, 57])
def test_boom_and_its_gradients(boom_width, rate, monkeypatch):
    torch.manual_seed(boom_width)
    monkeypatch.setattr(kernels, "draw_seed", lambda: SEED)
    f, weight, bias = (
        torch.randn(*shape, requires_grad=True) for shape in ((7, 3, 16), (boom_width, 16), (boom_width,))
    )
    used = boom_width // 16 * 16
    out = boom(f, weight[:used], bias[:used], rate, True)
    exact_f, exact_weight, exact_bias = (x.detach().double().requires_grad_() for x in (f, weight, bias))
    a = torch.nn.functional.linear(exact_f, exact_weight, exact_bias)[..., :used]
    kept = kernels.ops.dropout_factors(21, used, rate, SEED).view(7, 3, used).double()
    exact = (a * torch.sigmoid(1.702 * a) * kept).unflatten(-1, (-1, 16)).sum(-2)
    close(out, exact)
    upstream = torch.randn_like(out)
    for _ in range(2):  # the second pass over the graph finds the activations spent
        ours = torch.autograd.grad(out, (f, weight, bias), upstream, retain_graph=True)
    for mine, theirs in zip(ours, torch.autograd.grad(exact, (exact_f, exact_weight, exact_bias), upstream.double())):
        close(mine, theirs)
