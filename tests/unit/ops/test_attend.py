"""Attention over memory: the plain function and the kernel against the formulas, with the masks they drew replayed."""

import math
from contextlib import contextmanager

import pytest
import torch

from fairseq_sharnn.modules.memory import Memory
from fairseq_sharnn.ops import attend as attend_module
from fairseq_sharnn.ops import kernels
from fairseq_sharnn.ops.attend import attend
from tests.unit.ops.oracle import SEED, VALUE_SEED, close, needs_kernels


def exact_attention(q, rows, heads, rate):
    """Softmax attention in float64; `rate` takes the kernel's own masks for SEED."""
    lanes, length, width = q.shape
    total, d = rows.size(1), width // heads
    values = kernels.ops.dropout_factors(lanes * total, width, rate, VALUE_SEED).view(lanes, total, width).double()
    weights = kernels.ops.dropout_factors(lanes * heads * length, total, rate, SEED).double()
    weights = weights.view(lanes, heads, length, total)
    future = torch.ones(length, total, dtype=torch.bool).triu(total - length + 1)
    parts = []
    for head in range(heads):
        columns = slice(head * d, (head + 1) * d)
        scores = (q[..., columns] @ rows[..., columns].transpose(1, 2)).masked_fill(future, -math.inf)
        parts.append((scores.softmax(-1) * weights[:, head]) @ (rows * values)[..., columns])
    return torch.cat(parts, dim=-1)


@needs_kernels
@pytest.mark.parametrize(
    "lanes, length, past, width, heads, rate",
    [
        (3, 40, 700, 48, 2, 0.25),
        (1, 5, 3, 6, 1, 0.0),
        (2, 300, 0, 32, 1, 0.1),
        (1, 33, 301, 36, 3, 0.1),
        (1, 64, 255, 16, 1, 0.5),
        (1, 1, 600, 16, 1, 0.0),
    ],
)
def test_attention_and_its_gradients(threads, lanes, length, past, width, heads, rate):
    """Whatever the tiles, the segments and the split over threads."""
    torch.manual_seed(length)
    q, chunk = (torch.randn(lanes, length, width, dtype=torch.float64, requires_grad=True) for _ in range(2))
    old = torch.randn(lanes, past, width, dtype=torch.float64)
    exact = exact_attention(q, torch.cat([old, chunk], dim=1), heads, rate)
    upstream = torch.randn_like(exact)
    query_grad, chunk_grad = torch.autograd.grad(exact, (q, chunk), upstream)
    segments = (
        torch.cat([old, chunk], dim=1).float().detach().split([min(past, 270), past + length - min(past, 270)], 1)
    )
    query = q.float().detach().transpose(0, 1)
    out, log_sums = kernels.ops.attend(query, segments, heads, rate, SEED)
    above = upstream.float().transpose(0, 1)
    grads = kernels.ops.attend_backward(above, query, segments, out, log_sums, heads, rate, SEED)
    close(out.transpose(0, 1), exact)
    close(grads[0].transpose(0, 1), query_grad)
    close(grads[1].transpose(0, 1), chunk_grad)


@needs_kernels
def test_scores_of_any_size_are_survived():
    """The running maximum: scores of hundreds, growing and falling from tile to tile."""
    rows = torch.linspace(-300, 300, 700).view(1, 700, 1).repeat(2, 1, 16)
    rows[1] = rows[1].flip(0)
    q = torch.ones(2, 3, 16)
    exact = exact_attention(q.double(), rows.double(), 1, 0.0)
    close(kernels.ops.attend(q.transpose(0, 1), [rows], 1, 0.0, 0)[0].transpose(0, 1), exact)


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_autocast_attends_in_its_type_forward_and_backward(rate):
    """Under CUDA's autocast softmax answers in float32: weights saved so would meet values in half precision."""
    torch.manual_seed(0)
    query, chunk = (torch.randn(2, 4, 12, requires_grad=True) for _ in range(2))
    rows = torch.cat([torch.randn(2, 9, 12), chunk.detach()], dim=1)
    with torch.autocast("cpu", torch.bfloat16), softmax_in_float32():
        out = attend(query, chunk, [rows], 2, rate)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert query.grad.dtype == chunk.grad.dtype == torch.float32 and query.grad.isfinite().all()
    if rate == 0.0:
        torch.testing.assert_close(out.float(), attend(query, chunk, [rows], 2, 0.0), rtol=0.05, atol=0.05)


@contextmanager
def softmax_in_float32():
    """What autocast does to softmax on CUDA, where it is on."""
    original = torch.softmax

    def softmax(scores, dim):
        return original(scores.float() if torch.is_autocast_enabled("cpu") else scores, dim=dim)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "softmax", softmax)
        yield


@pytest.mark.parametrize("group", [1, 10**9])
def test_dropout_falls_on_values_and_on_attention_weights(monkeypatch, group):
    """The masks drawn, replayed through plain formulas: same output, same gradients; in groups of lanes and at once."""
    monkeypatch.setattr(attend_module, "_CPU_GROUP_SCORES", group)
    torch.manual_seed(0)
    lanes, length, total, heads, width, rate = 3, 4, 9, 2, 6, 0.25
    drawn = []

    def recording(shape, rate, device):
        drawn.append(torch.rand(shape) >= rate)
        return drawn[-1]

    monkeypatch.setattr(attend_module, "keep_mask", recording)
    q, m = (torch.randn(lanes, length, width, dtype=torch.float64, requires_grad=True) for _ in range(2))
    past = torch.randn(lanes, total - length, width, dtype=torch.float64)
    rows = torch.cat([past, m], dim=1)
    out = attend(q, m, rows.detach().split([2, 6, 1], dim=1), heads, rate)
    grads = torch.autograd.grad(out.pow(2).sum(), (q, m))

    if group == 1:  # drawn lane by lane: values, then each head's weights
        value_mask = torch.cat(drawn[:: heads + 1])
        score_masks = [torch.cat(drawn[1 + j :: heads + 1]) for j in range(heads)]
    else:
        value_mask, *score_masks = drawn
    scale = 1 / (1 - rate)
    future = torch.ones(length, total, dtype=torch.bool).triu(total - length + 1)
    parts = []
    for j in range(heads):
        columns = slice(j * 3, j * 3 + 3)
        weights = (q[..., columns] @ rows[..., columns].transpose(1, 2)).masked_fill(future, -torch.inf).softmax(-1)
        parts.append((weights * score_masks[j] * scale) @ (rows * value_mask * scale)[..., columns])
    expected = torch.cat(parts, dim=-1)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(grads, torch.autograd.grad(expected.pow(2).sum(), (q, m)))


def test_dropout_keeps_the_mean():
    torch.manual_seed(0)
    m = torch.randn(3, 1, 8, dtype=torch.float64).expand(-1, 4000, -1)
    memory = Memory.from_rows(torch.randn(1, 5, 8, dtype=torch.float64).expand(4000, -1, -1))
    q = torch.randn(4000, 3, 8, dtype=torch.float64)[:1].expand(4000, -1, -1)
    chunk = m.transpose(0, 1)
    rows = memory.extended(chunk, 50).segments
    dropped = attend(q, chunk, rows, 1, 0.3).mean(0)
    kept = attend(q[:1], chunk[:1], [piece[:1] for piece in rows], 1, 0.0)[0]
    assert (dropped - kept).abs().max() < 0.1
