import pytest
import torch

from fairseq_sharnn.modules.dropout import check_rate, dropout, keep_mask, keep_scale

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


@pytest.mark.parametrize("rate", [-0.1, 1.0, 2.0, float("nan")])
def test_rates_out_of_range_are_named(rate):
    with pytest.raises(ValueError, match="hidden dropout must be in"):
        check_rate("hidden dropout", rate)
