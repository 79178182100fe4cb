"""The LSTM's kernel against torch's LSTM in float64."""

import pytest
import torch

from fairseq_sharnn.ops import kernels
from fairseq_sharnn.ops.lstm import lstm
from tests.unit.ops.oracle import close, needs_kernels


@needs_kernels
@pytest.mark.parametrize("length, lanes, width", [(9, 8, 32), (1, 11, 16), (30, 9, 48)])
def test_lstm_and_its_gradients(threads, length, lanes, width, monkeypatch):
    torch.manual_seed(length)
    exact = torch.nn.LSTM(width, width).double()
    weights = [p.detach().float().requires_grad_() for p in exact.parameters()]
    x = torch.randn(length, lanes, width, requires_grad=True)
    hidden, cell = torch.randn(lanes, width), torch.randn(lanes, width)
    ran = []
    run = kernels.ops.lstm
    monkeypatch.setattr(kernels.ops, "lstm", lambda *inputs: ran.append(1) or run(*inputs))
    out, last_hidden, last_cell = lstm(x, weights, hidden, cell, True)
    assert ran, "the kernel was not used"
    assert last_hidden.untyped_storage().nbytes() == 4 * lanes * width, "the state keeps the whole output alive"
    exact_x = x.detach().double().requires_grad_()
    expected, (h, c) = exact(exact_x, (hidden.double().unsqueeze(0), cell.double().unsqueeze(0)))
    for ours, theirs in ((out, expected), (last_hidden, h[0]), (last_cell, c[0])):
        close(ours, theirs)
    upstream = torch.randn_like(out)
    for _ in range(2):  # the second pass over the graph finds the gates spent
        ours = torch.autograd.grad(out, (x, *weights), upstream, retain_graph=True)
    theirs = torch.autograd.grad(expected, (exact_x, *exact.parameters()), upstream.double())
    for mine, his in zip(ours, theirs):
        close(mine, his)
