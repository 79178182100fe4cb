"""One draw: which tokens it can take, and how often."""

import pytest
import torch

from fairseq_sharnn.portable import sampling
from fairseq_sharnn.portable.sampling import Settings, draw_token
from tests.unit.counted import Waits

PROBS = torch.tensor([0.05, 0.0, 0.5, 0.15, 0.3])


@pytest.fixture(params=[False, True], ids=["on CPU", "as on an accelerator"], autouse=True)
def without_waiting(request, monkeypatch):
    monkeypatch.setattr(sampling, "draws_without_waiting", lambda device: request.param)
    return request.param


def frequencies(settings: Settings, draws: int = 4000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    drawn = [draw_token(PROBS.log(), settings, generator).item() for _ in range(draws)]
    return torch.bincount(torch.tensor(drawn), minlength=len(PROBS)) / draws


@pytest.mark.parametrize(
    "settings, expected",
    [
        (Settings(), PROBS),
        (Settings(temperature=0.5), PROBS**2 / (PROBS**2).sum()),
        (Settings(top_k=2), torch.tensor([0, 0, 0.625, 0, 0.375])),
        (Settings(top_p=0.8), torch.tensor([0, 0, 0.625, 0, 0.375])),
        (Settings(top_p=0.81), torch.tensor([0, 0, 0.5, 0.15, 0.3]) / 0.95),
        (Settings(top_p=1e-6), torch.tensor([0, 0, 1.0, 0, 0])),
    ],
)
def test_tokens_are_drawn_as_often_as_their_probabilities_say(settings, expected):
    """Over 4,000 draws: within four standard deviations, and never a token that is excluded."""
    found = frequencies(settings)
    assert ((found - expected).abs() <= 4 * (expected * (1 - expected) / 4000).sqrt()).all()


def test_a_seed_repeats_the_draw():
    draws = [draw_token(PROBS.log(), Settings(), torch.Generator().manual_seed(seed)).item() for seed in range(40)]
    assert draws == [
        draw_token(PROBS.log(), Settings(), torch.Generator().manual_seed(seed)).item() for seed in range(40)
    ]
    assert len(set(draws)) > 1


def test_no_operation_waits(without_waiting):
    with Waits() as waits:
        draw_token(PROBS.log(), Settings(temperature=0.7, top_k=3, top_p=0.8), None)
    assert waits.found == ([] if without_waiting else ["multinomial"])
