import pytest
import torch

from fairseq_sharnn.ops import kernels
from fairseq_sharnn.ops.dropout import dropconnect, dropout, keep_mask, keep_scale
from tests.unit.ops.oracle import SEED, needs_kernels

CPU = torch.device("cpu")


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_mask_keeps_the_asked_share_and_the_scale_keeps_the_mean(rate):
    torch.manual_seed(0)
    kept = keep_mask((1000, 1000), rate, CPU).double()
    assert kept.mean().item() == pytest.approx(1 - rate, abs=2e-3)
    assert kept.mean().item() * keep_scale(rate, CPU) == pytest.approx(1.0, abs=1e-2)


def test_mask_decisions_are_independent_between_neighbours():
    torch.manual_seed(0)
    kept = keep_mask((1 << 20,), 0.5, CPU).double() - 0.5
    for lag in (1, 2, 3, 4, 8):  # four decisions share a word
        assert abs((kept[lag:] * kept[:-lag]).mean().item()) < 2e-3


def test_mask_of_odd_size_follows_the_seed():
    torch.manual_seed(3)
    first = keep_mask((7, 3), 0.3, CPU)
    second = keep_mask((7, 3), 0.3, CPU)
    torch.manual_seed(3)
    assert torch.equal(first, keep_mask((7, 3), 0.3, CPU))
    assert first.shape == (7, 3)
    assert not torch.equal(first, second)


def test_dropout_scales_kept_entries_and_their_gradient():
    torch.manual_seed(0)
    x = torch.randn(50, 40, dtype=torch.float64, requires_grad=True)
    y = dropout(x, 0.25, training=True)
    y.sum().backward()
    kept = y != 0
    assert 0.6 < kept.double().mean() < 0.9
    torch.testing.assert_close(y[kept], x[kept] * keep_scale(0.25, CPU))
    torch.testing.assert_close(x.grad, kept * torch.tensor(keep_scale(0.25, CPU), dtype=torch.float64))


def test_dropout_is_identity_in_evaluation():
    x = torch.randn(4, 4)
    assert dropout(x, 0.5, training=False) is x
    assert dropout(x, 0.0, training=True) is x
    assert dropconnect(x, 0.5, training=False) is x


@needs_kernels
def test_dropout_is_its_own_backward(monkeypatch):
    monkeypatch.setattr(kernels, "draw_seed", lambda: SEED)
    x = torch.randn(13, 37, requires_grad=True)
    kept = kernels.ops.dropout_factors(13, 37, 0.3, SEED)
    y = dropout(x, 0.3, True)
    assert torch.equal(y, x * kept)
    (grad,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert torch.equal(grad, kept)


@needs_kernels
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_masks_keep_the_asked_share_independently(rate):
    kept = kernels.ops.dropout_factors(2000, 1000, rate, SEED)
    assert kept.mean().item() == pytest.approx(1.0, abs=0.01)  # scaled by 1 / P(kept)
    decisions = (kept > 0).double()
    assert decisions.mean().item() == pytest.approx(1 - rate, abs=2e-3)
    centred = decisions - decisions.mean()
    spread = centred.square().mean()
    for shifted in (centred.roll(lag, 1) for lag in (1, 2, 7, 8, 16)):
        assert abs((centred * shifted).mean() / spread) < 5e-3
    assert abs((centred[1:] * centred[:-1]).mean() / spread) < 5e-3
    other = (kernels.ops.dropout_factors(2000, 1000, rate, SEED + 1) > 0).double()
    assert abs((centred * (other - other.mean())).mean() / spread) < 5e-3


@needs_kernels
def test_seeds_come_from_torchs_generator():
    torch.manual_seed(5)
    first = kernels.draw_seed()
    assert first != kernels.draw_seed()
    torch.manual_seed(5)
    assert kernels.draw_seed() == first
