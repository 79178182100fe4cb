"""Boom's kernel, and its form for accelerators, against the formula, with the mask that was drawn replayed."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from fairseq_sharnn.ops import boom as boom_module
from fairseq_sharnn.ops import kernels
from fairseq_sharnn.ops.boom import boom, boom_few_passes, boom_plain
from tests.unit.counted import Moved
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


@pytest.fixture
def few_passes(monkeypatch):
    """The form for accelerators, on CPU; the masks that it draws."""
    monkeypatch.setattr(boom_module, "has_few_passes", lambda device: True)
    masks, native = [], torch.native_dropout

    def recorded(x, rate, training):
        dropped, mask = native(x, rate, training)
        masks.append(mask)
        return dropped, mask

    monkeypatch.setattr(torch, "native_dropout", recorded)
    return masks


def parameters(boom_width, dtype=torch.float64):
    torch.manual_seed(boom_width)
    return [
        torch.randn(*shape, dtype=dtype, requires_grad=True) for shape in ((7, 3, 16), (boom_width, 16), (boom_width,))
    ]


@pytest.mark.parametrize("again", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("rate", [0.0, 0.25])
@pytest.mark.parametrize("boom_width", [16, 48])
def test_few_passes_give_the_same_numbers(boom_width, rate, again, few_passes, monkeypatch):
    f, weight, bias = leaves = parameters(boom_width)
    out = checkpoint(boom, *leaves, rate, True, use_reentrant=False) if again else boom(*leaves, rate, True)
    upstream = torch.randn_like(out)
    ours = torch.autograd.grad(out, leaves, upstream)
    assert len(few_passes) == (rate > 0) * (1 + again), "the mask is drawn again in the second run"
    assert all(torch.equal(mask, few_passes[0]) for mask in few_passes)
    monkeypatch.setattr(boom_module, "keep_mask", lambda shape, rate, device: few_passes[0].view(shape))
    exact = boom_plain(f, weight, bias, rate)
    torch.testing.assert_close(out, exact, rtol=1e-12, atol=1e-12)
    theirs = torch.autograd.grad(exact, leaves, upstream)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rate", [0.0, 0.25])
def test_few_passes_under_autocast(rate, few_passes):
    """In the type of autocast, forward and backward; gradients in the type of the parameters."""
    leaves = parameters(48, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out = boom(*leaves, rate, True)
    assert out.dtype == torch.bfloat16
    grads = torch.autograd.grad(out.float().sum(), leaves)
    assert all(grad.dtype == torch.float32 and grad.isfinite().all() for grad in grads)
    if rate == 0.0:
        exact = boom_plain(*leaves, 0.0)
        torch.testing.assert_close(out.float(), exact, rtol=0.05, atol=0.15)


def test_a_third_of_the_bytes_is_moved_at_the_papers_size():
    """By shape only, in fp16 with 16 lanes of 1,024 bytes."""
    moved = {}
    for function in (boom_plain, boom_few_passes):
        with torch.device("meta"):
            leaves = [
                torch.empty(*shape, dtype=torch.float16, requires_grad=True)
                for shape in ((1024, 16, 1024), (4096, 1024), (4096,))
            ]
        with Moved() as counted:
            function(*leaves, 0.1).backward(torch.empty_like(leaves[0]))
        moved[function] = counted.bytes
    assert moved[boom_plain] > 4.4e9
    assert moved[boom_few_passes] < 1.85e9
