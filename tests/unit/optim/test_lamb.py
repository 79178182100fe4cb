import copy

import pytest
import torch

from fairseq_sharnn.optim import lamb
from fairseq_sharnn.optim.lamb import LambMinTrust


def plain_step(w, g, m, v, lr, betas, eps, decay, min_trust):
    """One update of one tensor, straight from the formulas."""
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g * g
    u = m / (v.sqrt() + eps) + decay * w
    weight_norm, update_norm = w.norm().item(), u.norm().item()
    trust = 1.0 if weight_norm == 0 or update_norm == 0 else min(weight_norm, 10.0) / update_norm
    trust = max(trust, min_trust)
    return w - lr * trust * u, m, v, trust


@pytest.mark.parametrize("one_pass", [False, True], ids=["on CPU", "as on an accelerator"])
@pytest.mark.parametrize("min_trust, decay", [(0.25, 1.2e-6), (0.0, 0.01), (0.9, 0.0)])
def test_follows_the_formulas(min_trust, decay, one_pass, monkeypatch):
    monkeypatch.setattr(lamb, "adds_in_one_pass", lambda device: one_pass)
    torch.manual_seed(0)
    start = [torch.randn(5, 3), torch.zeros(4), 30 * torch.randn(6), 1e-4 * torch.randn(2, 2), torch.tensor(0.5)]
    parameters = [torch.nn.Parameter(tensor.double()) for tensor in start]
    optimizer = LambMinTrust(
        parameters, lr=0.02, betas=(0.8, 0.95), eps=1e-4, weight_decay=decay, min_trust=min_trust, keep_trust=True
    )
    expected = [(p.detach().clone(), torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
    for _ in range(8):
        for number, parameter in enumerate(parameters):
            parameter.grad = torch.randn_like(parameter)
            *expected[number], trust = plain_step(
                expected[number][0], parameter.grad, *expected[number][1:], 0.02, (0.8, 0.95), 1e-4, decay, min_trust
            )
        optimizer.step()
        for number, parameter in enumerate(parameters):
            torch.testing.assert_close(parameter.detach(), expected[number][0])
    assert optimizer.trust_ratios[parameters[-1]].item() == pytest.approx(trust)


def test_without_an_update_norm_the_trust_is_one():
    parameter = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = LambMinTrust([parameter], lr=0.1, weight_decay=0.0, keep_trust=True)
    parameter.grad = torch.zeros(2)
    optimizer.step()
    assert optimizer.trust_ratios[parameter].item() == 1.0
    assert parameter.tolist() == [3.0, 4.0]


def test_a_missing_gradient_skips_the_tensor_and_a_zero_gradient_does_not():
    moved, skipped = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    optimizer = LambMinTrust([moved, skipped], lr=0.1, weight_decay=0.5)
    moved.grad = torch.zeros(2)
    optimizer.step()
    assert skipped.tolist() == [1.0, 1.0] and skipped not in optimizer.state
    assert (moved < 1).all()  # only weight decay moves it


def test_state_survives_save_and_load():
    torch.manual_seed(0)

    def setup():
        parameter = torch.nn.Parameter(torch.arange(6.0).view(2, 3))
        return parameter, LambMinTrust([parameter], lr=0.05)

    gradients = torch.randn(6, 2, 3)
    straight, optimizer = setup()
    for gradient in gradients:
        straight.grad = gradient
        optimizer.step()
    broken, optimizer = setup()
    for gradient in gradients[:3]:
        broken.grad = gradient
        optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    resumed, optimizer = setup()
    resumed.data.copy_(broken)
    optimizer.load_state_dict(saved)
    for gradient in gradients[3:]:
        resumed.grad = gradient
        optimizer.step()
    assert torch.equal(resumed, straight)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_parameters_keep_float32_moments(dtype):
    parameter = torch.nn.Parameter(torch.full((3,), 2.0, dtype=dtype))
    optimizer = LambMinTrust([parameter], lr=0.5, weight_decay=0.0, min_trust=0.25)
    parameter.grad = torch.full((3,), 1e-4, dtype=dtype)  # its square is 0 in float16
    optimizer.step()
    exact = torch.nn.Parameter(torch.full((3,), 2.0))
    reference = LambMinTrust([exact], lr=0.5, weight_decay=0.0, min_trust=0.25)
    exact.grad = parameter.grad.float()
    reference.step()
    assert parameter.dtype == dtype
    torch.testing.assert_close(parameter.float(), exact.detach(), rtol=1e-2, atol=0)
    moments = optimizer.state[parameter]
    assert moments["exp_avg_sq"].dtype == torch.float32 and (moments["exp_avg_sq"] > 0).all()
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert optimizer.state[parameter]["exp_avg_sq"].dtype == torch.float32
    assert torch.equal(optimizer.state[parameter]["exp_avg_sq"], moments["exp_avg_sq"])


def test_learning_rate_schedules_of_torch_work():
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = LambMinTrust([parameter], lr=0.1, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0)
    parameter.grad = torch.ones(2)
    optimizer.step()
    schedule.step()
    assert parameter.tolist() == [1.0, 1.0]


def test_closure_is_run_with_gradients():
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = LambMinTrust([parameter], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = parameter.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2.0
    assert (parameter < 1).all()


@pytest.mark.parametrize(
    "option, message",
    [
        ({"min_trust": 1.0}, r"`min_trust` must be in \[0, 1\), but it is 1.0"),
        ({"min_trust": -0.1}, "`min_trust`"),
        ({"min_trust": float("nan")}, "`min_trust`"),
        ({"betas": (0.9, 1.0)}, "`betas`"),
        ({"betas": (0.9,)}, "`betas`"),
        ({"lr": -1.0}, "`lr` must not be negative"),
        ({"eps": -1e-6}, "`eps`"),
        ({"weight_decay": -1.0}, "`weight_decay`"),
    ],
)
def test_values_out_of_range_are_named(option, message):
    with pytest.raises(ValueError, match=message):
        LambMinTrust([torch.nn.Parameter(torch.ones(1))], **option)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_nothing_waits_for_the_device():
    parameters = [torch.nn.Parameter(torch.randn(64, 64, device="cuda")) for _ in range(5)]
    optimizer = LambMinTrust(parameters)
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
