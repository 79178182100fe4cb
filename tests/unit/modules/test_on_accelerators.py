"""The whole network by the paths of accelerators: forced on the CPU, and on a GPU where there is one."""

import numpy as np
import pytest
import torch

from fairseq_sharnn.data.streams.lanes import chunk_ends
from fairseq_sharnn.evaluation.golden import check_file
from fairseq_sharnn.modules.sha_rnn import SHARNN, SHARNNDropout, SHARNNSizes
from fairseq_sharnn.ops import attend, boom, kernels
from fairseq_sharnn.optim import lamb
from fairseq_sharnn.optim.lamb import LambMinTrust
from tests.conftest import ROOT
from tests.unit.counted import Waits

SIZES = SHARNNSizes(40, width=16, boom_width=48, layers=3, attention_layers=(1, 2), context=50)
NO_DROPOUT = SHARNNDropout(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
RATES = SHARNNDropout(0.1, 0.1, 0.1, 0.1, 0.1, 0.2)
needs_cuda = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.fixture
def forced(monkeypatch):
    """The paths of accelerators on every device."""
    for module, name in ((attend, "is_aligned"), (boom, "has_few_passes"), (lamb, "adds_in_one_pass")):
        monkeypatch.setattr(module, name, lambda device: True)
    monkeypatch.setattr(kernels, "ops", None)


def losses(updates, rates=NO_DROPOUT, device="cpu", dtype=torch.float64, again=False, around=None):
    """Train on ragged chunks of two lanes; the losses."""
    torch.manual_seed(1)
    model = SHARNN(SIZES, rates, checkpoint_activations=again).to(device=device, dtype=dtype)
    optimizer, state, found = LambMinTrust(model.parameters(), lr=0.01), None, []
    lengths = np.diff(chunk_ends(updates * 40, 20, (1, 1)), prepend=0).tolist()[:updates]
    texts = [torch.randint(40, (length + 1, 2)).to(device) for length in lengths]

    def update(text, state):
        features, state = model(text[:-1], state)
        loss = torch.nn.functional.cross_entropy(model.logits(features).flatten(0, 1), text[1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach(), state

    for number, text in enumerate(texts):
        if around is not None and number > 0:  # the first update makes the optimizer's state
            with around():
                loss, state = update(text, state)
        else:
            loss, state = update(text, state)
        found.append(loss)
    return torch.stack(found).cpu()


@pytest.mark.parametrize("again", [False, True], ids=["kept", "checkpointed"])
def test_losses_are_those_of_the_cpu(request, monkeypatch, again):
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "ops", None)
        expected = losses(12)
    request.getfixturevalue("forced")
    torch.testing.assert_close(losses(12, again=again), expected, rtol=1e-11, atol=0)


@pytest.mark.parametrize("name", ["single_head", "two_heads_odd_boom", "lamb_min_trust"])
def test_the_golden_tensors_hold(forced, name, capsys):
    assert check_file(str(ROOT / "tests" / "golden" / f"{name}.npz")), capsys.readouterr().out


@pytest.mark.parametrize("again", [False, True], ids=["kept", "checkpointed"])
def test_no_operation_waits_for_the_device(forced, again):
    """Forward, backward and optimizer, with every dropout and DropConnect."""
    modes = []

    def waits():
        modes.append(Waits())
        return modes[-1]

    assert losses(4, RATES, dtype=torch.float32, again=again, around=waits).isfinite().all()
    assert len(modes) == 3 and not any(mode.found for mode in modes)


class _NoWaits:
    def __enter__(self):
        torch.cuda.set_sync_debug_mode("error")

    def __exit__(self, *exception):
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("dtype", [pytest.param(each, marks=needs_cuda) for each in (torch.float32, torch.float16)])
def test_nothing_waits_on_a_gpu(dtype):
    assert len(losses(12, RATES, "cuda", dtype, around=_NoWaits)) == 12


@pytest.mark.parametrize("dtype, allowed", [pytest.param(torch.float64, 1e-9, marks=needs_cuda)])
def test_ragged_chunks_on_a_gpu_give_the_losses_of_the_cpu(dtype, allowed):
    torch.testing.assert_close(losses(12, device="cuda", dtype=dtype), losses(12, dtype=dtype), rtol=allowed, atol=0)


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=needs_cuda)])
def test_dropconnect_trains_in_half_precision(device):
    """Its weights are not one piece, which is cuDNN's slower way in."""
    assert losses(6, RATES, device, torch.float16).isfinite().all()


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=needs_cuda)])
def test_the_papers_lstm_runs_on_the_persistent_kernel(device):
    """D 1024, 16 lanes, float16: cuDNN's persistent kernels have that in their name."""
    card = torch.cuda.get_device_properties(device)
    if card.multi_processor_count < 98 or card.minor == 6:
        pytest.skip(f"torch does not use the persistent kernel on {card.name}")
    model = SHARNN(SHARNNSizes(260, layers=1, attention_layers=())).to(device).half().train()
    tokens = torch.randint(260, (1017, 16), device=device)
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as found:
        model.logits(model(tokens)[0]).float().sum().backward()
        torch.cuda.synchronize()
    names = {event.key for event in found.key_averages()}
    assert any("persist" in name.lower() for name in names), sorted(names)
