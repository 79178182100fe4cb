"""One draw: which tokens it can take, and how often."""

import pytest
import torch

from fairseq_sharnn.portable.sampling import Settings, draw_each
from tests.unit.counted import Waits

PROBS = torch.tensor([0.05, 0.0, 0.5, 0.15, 0.3])


def draw_token(logits, settings, generator):
    return draw_each(logits.unsqueeze(0), settings, [generator])[0]


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


@pytest.mark.parametrize(
    "settings", [Settings(), Settings(temperature=0.7, top_k=9), Settings(top_p=0.6), Settings(temperature=0)]
)
def test_lanes_together_draw_what_each_draws_by_itself(settings):
    logits = torch.randn(5, 40, generator=torch.Generator().manual_seed(3)) * 2
    together = draw_each(logits, settings, [torch.Generator().manual_seed(seed) for seed in range(5)])
    apart = [draw_token(row, settings, torch.Generator().manual_seed(seed)) for seed, row in enumerate(logits)]
    assert together.tolist() == [token.item() for token in apart]


@pytest.mark.parametrize("vocabulary", [5, 256, 5000])
def test_a_draw_is_that_of_multinomial(vocabulary):
    """Texts of a seed stay what they were when `torch.multinomial` drew them."""
    logits = torch.randn(vocabulary, generator=torch.Generator().manual_seed(7)) * 2
    ours, theirs = (torch.Generator().manual_seed(1) for _ in range(2))
    for _ in range(50):
        expected = torch.multinomial(logits.softmax(-1), 1, generator=theirs)[0]
        assert draw_token(logits, Settings(), ours) == expected


@pytest.mark.parametrize("settings", [Settings(), Settings(temperature=0), Settings(top_k=2, top_p=0.9)])
def test_a_lane_that_is_nan_draws_nothing(settings):
    logits = torch.stack([PROBS.log(), torch.full_like(PROBS, float("nan"))])
    places = draw_each(logits, settings, [torch.Generator().manual_seed(1), None])
    assert places[0] >= 0 and places[1] == -1


def test_no_operation_waits():
    with Waits() as waits:
        draw_token(PROBS.log(), Settings(temperature=0.7, top_k=3, top_p=0.8), None)
    assert not waits.found
