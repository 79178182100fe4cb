"""Dynamic evaluation's core: each rule against its plain formula, and weights that come back bit by bit."""

import math

import pytest
import torch
from torch import nn

from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.evaluation.dynamic import DynamicSettings, Learner
from fairseq_sharnn.modules.sha_rnn import SHARNN, SHARNNDropout, SHARNNSizes

SIZES = SHARNNSizes(vocab=12, width=16, boom_width=32, layers=2, attention_layers=(0,), heads=1, context=40)
CLIP = 0.05  # below the norms that occur here, so that it acts


class Few(nn.Module):
    """Two tensors, one of which a loss may leave out."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.first = nn.Parameter(torch.randn(4, 3, generator=generator, dtype=torch.float64))
        self.second = nn.Parameter(torch.randn(5, generator=generator, dtype=torch.float64))


def losses(model: Few, number: int) -> torch.Tensor:
    """The loss of chunk `number`: not a quadratic form, so gradients depend on the weights."""
    inputs = torch.linspace(-1.0, 1.0 + number, 4, dtype=torch.float64)
    return (torch.tanh(inputs @ model.first).square().sum() + torch.sin(model.second * (number + 1)).sum()) / 7


def flat(tensors) -> torch.Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def by_formula(settings: DynamicSettings, chunks: int):
    """The weights after each chunk, by the formulas in the module's docstring on one flat vector."""
    model = Few()
    trained = weights = flat(model.parameters())
    means = squares = sums = torch.zeros_like(weights)
    for k in range(1, chunks + 1):
        model.first.data, model.second.data = weights[:12].view(4, 3).clone(), weights[12:].clone()
        g = flat(torch.autograd.grad(losses(model, k), list(model.parameters())))
        g = g * min(1.0, settings.clip / float(g.norm())) if settings.clip else g
        pull = torch.full_like(g, settings.decay)
        if settings.optimizer == "sgd":
            u = g
        elif settings.optimizer == "rms":
            sums = sums + g**2
            root = torch.sqrt(sums / k)
            u, pull = g / (root + 1e-6), torch.clamp(settings.decay * root / root.mean(), max=1.0)
        else:
            means, squares = 0.9 * means + 0.1 * g, 0.999 * squares + 0.001 * g**2
            u = means / (1 - 0.9**k) / (torch.sqrt(squares / (1 - 0.999**k)) + 1e-6)
        weights = weights - settings.lr * u + pull * (trained - weights)
        yield weights


@pytest.mark.parametrize("clip", [0.0, CLIP])
@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("optimizer", ["adam", "rms", "sgd"])
def test_each_rule_is_its_formula(optimizer, decay, clip):
    settings = DynamicSettings(0.02, optimizer, decay, clip)
    model = Few()
    before = flat(model.parameters())
    with Learner(model, settings) as learner:
        for k, expected in enumerate(by_formula(settings, 6), 1):
            learner.learn(losses(model, k))
            assert torch.allclose(flat(model.parameters()), expected, rtol=0, atol=1e-13)
        assert (learner.steps, learner.skipped) == (6, 0)
        assert not torch.equal(flat(model.parameters()), before)
    assert torch.equal(flat(model.parameters()), before)


def test_adam_is_that_of_torch():
    mine, theirs = Few(), Few()
    optimizer = torch.optim.Adam(theirs.parameters(), lr=0.01, eps=1e-6)
    with Learner(mine, DynamicSettings(0.01, "adam", 0.0, CLIP)) as learner:
        for k in range(1, 6):
            optimizer.zero_grad()
            losses(theirs, k).backward()
            nn.utils.clip_grad_norm_(theirs.parameters(), CLIP)
            optimizer.step()
            learner.learn(losses(mine, k))
        assert torch.allclose(flat(mine.parameters()), flat(theirs.parameters()), rtol=0, atol=1e-6)


def network(dtype: torch.dtype = torch.float32) -> SHARNN:
    torch.manual_seed(5)
    return SHARNN(SIZES, SHARNNDropout(0.5, 0.5, 0.5, 0.5, 0.5, 0.5)).to(dtype)


def loss_of(model: SHARNN, tokens: torch.Tensor) -> torch.Tensor:
    features, _ = model(tokens)
    return nn.functional.cross_entropy(model.logits(features).float().flatten(0, 1), tokens.flatten())


@pytest.mark.parametrize("length", [1, 9])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_collapsed_network_learns_expanded_and_comes_back(dtype, length):
    model = network(dtype).eval()
    model.requires_grad_(False)
    model.collapse()
    vector = model.blocks[0].attention.value
    tokens = torch.arange(4 * length).view(length, 4) % 12
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    output, collapsed = model(tokens)[0], vector().clone()
    with Learner(model, DynamicSettings(0.01)) as learner:
        first = loss_of(model, tokens)
        learner.learn(first)
        assert not vector.collapsed and not model.training
        after = dict(model.named_parameters())
        assert all(not torch.equal(after[name], before[name]) for name in before if "value" in name), (
            "W_o, b_o, g learn"
        )
        assert loss_of(model, tokens) < first
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert vector.collapsed and torch.equal(vector(), collapsed) and torch.equal(model(tokens)[0], output)
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in model.parameters())


def test_dropout_is_off_and_gradients_are_those_of_the_formula():
    """Evaluation mode changes which kernels run; the gradient must not change."""
    model, plain = network(torch.float64), network(torch.float64)
    plain = SHARNN(SIZES, SHARNNDropout(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)).double()
    plain.load_state_dict(model.state_dict())
    tokens = torch.arange(36).view(9, 4) % 12
    expected = torch.autograd.grad(loss_of(plain.train(), tokens), list(plain.parameters()))
    before = flat(model.parameters())
    with Learner(model, DynamicSettings(1.0, "sgd", clip=0.0)) as learner:
        learner.learn(loss_of(model, tokens))
        assert torch.allclose(before - flat(model.parameters()), flat(expected), rtol=1e-9, atol=1e-12)
    assert model.training


def test_weights_come_back_after_an_exception():
    model = network()
    before = flat(model.parameters())
    with pytest.raises(KeyError), Learner(model, DynamicSettings(0.1)) as learner:
        learner.learn(loss_of(model, torch.arange(8).view(2, 4)))
        raise KeyError
    assert torch.equal(flat(model.parameters()), before)


def test_half_precision_learns_small_steps():
    """Steps below the precision of the weights add up in their copy in float32."""
    model = network(torch.bfloat16)
    before = flat(model.parameters()).float()
    tokens = torch.arange(36).view(9, 4) % 12
    with Learner(model, DynamicSettings(1e-4)) as learner:
        for _ in range(30):
            learner.learn(loss_of(model, tokens))
        changed = flat(model.parameters()).float() - before
    assert float(changed.abs().max()) > 0.0015, "30 steps of 1e-4 in one direction move weights by about 3e-3"


def test_a_gradient_that_is_not_finite_changes_nothing():
    model = Few()
    before = flat(model.parameters())
    with Learner(model, DynamicSettings(0.1)) as learner:
        learner.learn(losses(model, 1) * math.nan)
        assert (learner.steps, learner.skipped) == (0, 1) and torch.equal(flat(model.parameters()), before)


@pytest.mark.parametrize(
    ("values", "option"),
    [
        ({"lr": -1.0}, "--dynamic-lr"),
        ({"lr": math.nan}, "--dynamic-lr"),
        ({"lr": math.inf}, "--dynamic-lr"),
        ({"decay": -0.1}, "--dynamic-decay"),
        ({"decay": 1.1}, "--dynamic-decay"),
        ({"clip": -1.0}, "--dynamic-clip"),
        ({"optimizer": "lamb"}, "--dynamic-optimizer"),
    ],
)
def test_settings_out_of_range(values, option):
    with pytest.raises(UsageError, match=option):
        DynamicSettings(**values)


def test_settings_say_what_they_are():
    assert str(DynamicSettings()) == "static" and DynamicSettings().figures() == {"evaluation": "static"}
    dynamic = DynamicSettings(5e-4, "rms", 0.01)
    assert str(dynamic) == "dynamic (rms, lr 0.0005, decay 0.01, clip 0.25)"
    assert dynamic.figures()["dynamic_optimizer"] == "rms" and dynamic.figures()["evaluation"] == "dynamic"
