"""Precision: every mode where it runs on CPU; what needs CUDA is marked and runs where there is one."""

import re
from functools import partial

import pytest
import torch
from fairseq.optim.adam import Adam, FairseqAdam
from fairseq.optim.amp_optimizer import AMPOptimizer
from omegaconf import OmegaConf

from fairseq_sharnn.modules.sha_rnn import SHARNN, SHARNNDropout, SHARNNSizes
from fairseq_sharnn.ops import kernels
from fairseq_sharnn.ops.attend import attend
from fairseq_sharnn.optim.lamb import LambMinTrust
from fairseq_sharnn.optim.lamb_min_trust import FairseqLambMinTrust
from tests.conftest import MICRO, RECIPE, USER_DIR, fairseq, train, write_corpus
from tests.integration.checkpoints import load
from tests.integration.forked import train_forked

STEPS = ("--warmup-updates", 10, "--max-update", 200, "--validate-interval-updates", 0, "--lr", 2e-3)
cuda = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("small"), 12000, 2000, 300)


def validation(finished) -> float:
    assert finished.code == 0, finished.output[-3000:]
    return float(re.findall(r"valid on .*?bpb ([\d.]+)", finished.output)[-1])


def without_kernels() -> None:
    """float32, too, by the path in plain torch: the same dropout masks as in half precision."""
    kernels.ops = None


@pytest.fixture(scope="module")
def full(small, tmp_path_factory):
    return validation(train_forked(small, tmp_path_factory.mktemp("full"), *STEPS, before=without_kernels))


@pytest.mark.parametrize(
    "options",
    [
        ("--bf16",),
        ("--amp",),
        ("--fp16", "--fp16-init-scale", 4),
        ("--memory-efficient-fp16", "--fp16-init-scale", 4),
    ],
    ids=lambda options: options[0],
)
def test_200_updates_end_within_two_hundredths_of_a_bit(small, tmp_path, full, options):
    finished = train_forked(small, tmp_path, *STEPS, *options, before=without_kernels)
    assert validation(finished) == pytest.approx(full, abs=0.02)
    assert (
        "tpu"
        not in re.sub(r"'tpu': False|\(GPUs/TPUs\)|use_xla|Namespace.*", "", finished.output)
        .split("fairseq_cli.train")[-1]
        .lower()
    )


def test_bf16_does_not_ask_for_a_tpu(small, tmp_path):
    finished = train_forked(small, tmp_path, "--bf16", "--max-update", 2)
    assert finished.code == 0, finished.output[-2000:]
    assert load(tmp_path / "checkpoint_last.pt")["cfg"]["common"]["tpu"] is False


def test_stream_state_is_kept_in_the_type_of_the_computation(small, tmp_path):
    train_forked(small, tmp_path, "--fp16", "--fp16-init-scale", 4, "--max-update", 3)
    state = load(tmp_path / "checkpoint_last.pt")["extra_state"]["train_iterator"]["stream"]["state"]
    assert state["layers"][0]["memory"]["segments"][0].dtype == torch.float16
    assert state["layers"][0]["hidden"].dtype == torch.float16


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_network_is_near_the_exact_one(dtype):
    """Softmax and LayerNorm statistics are float32 inside: the error is that of the rounded inputs."""
    torch.manual_seed(0)
    model = SHARNN(SHARNNSizes(50, 32, 64, 3, (1,), 1, 200), SHARNNDropout(0, 0, 0, 0, 0, 0))
    tokens = torch.randint(0, 50, (3, 40, 2))
    half = SHARNN(model.sizes, SHARNNDropout(0, 0, 0, 0, 0, 0)).to(dtype)
    half.load_state_dict(model.state_dict())
    exact_state = half_state = None
    for chunk in tokens:
        exact, exact_state = model(chunk, exact_state)
        rounded, half_state = half(chunk, half_state)
        error = (rounded.float() - exact).abs().max() / exact.abs().max()
        assert error < (0.02 if dtype == torch.float16 else 0.1)


@pytest.mark.parametrize("dtype, allowed", [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_softmax_over_a_long_memory_is_summed_in_float32(dtype, allowed):
    """5,000 nearly equal weights: summed in float16, their sum would stop growing at 2,048."""
    torch.manual_seed(0)
    query, rows = 0.1 * torch.randn(1, 2, 8), torch.randn(1, 5000, 8) + 1
    segments = rows.to(dtype).split([1024, 1024, 2952], dim=1)
    half = attend(query.to(dtype), rows[:, -2:].to(dtype), segments, 1, 0.0).double()
    exact = attend(query.to(dtype).double(), rows[:, -2:].double(), [s.double() for s in segments], 1, 0.0)
    assert (half - exact).abs().max() / exact.abs().max() < 4 * allowed


def fairseq_lamb(parameters):
    cfg = {"lamb_betas": "(0.9, 0.999)", "lamb_eps": 1e-3, "min_trust": 0.25, "weight_decay": 0.0, "lr": [0.1]}
    return FairseqLambMinTrust(OmegaConf.create(cfg), parameters)


def fairseq_adam(parameters):
    cfg = {"adam_betas": "(0.9, 0.999)", "adam_eps": 1e-3, "weight_decay": 0.0, "lr": [0.1], "tpu": False}
    return FairseqAdam(OmegaConf.create({**cfg, "use_old_adam": True, "fp16_adam_stats": False}), parameters)


@pytest.mark.parametrize(
    "wrapped, exact",
    [
        (fairseq_lamb, partial(LambMinTrust, lr=0.1, eps=1e-3, weight_decay=0.0)),
        (fairseq_adam, partial(Adam, lr=0.1, eps=1e-3)),
    ],
)
def test_amp_unscales_once(wrapped, exact):
    """fairseq's AMP optimizer divides by the loss scale when it clips, and its scaler again in front of the step. An
    epsilon that is not small would notice."""
    scaled, plain = (torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0])) for _ in range(2))
    amp = AMPOptimizer.__new__(AMPOptimizer)
    amp.fp32_optimizer, amp.min_loss_scale = wrapped([scaled]), 1e-4
    amp._grad_scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    reference = exact([plain])
    for factor in (1.0, 0.5):
        amp.backward((scaled * torch.tensor([0.01, 0.02, -0.03])).sum() * factor)
        amp.clip_grad_norm(0.0)
        amp.step()
        plain.grad = torch.tensor([0.01, 0.02, -0.03]) * factor
        reference.step()
        scaled.grad = None
    torch.testing.assert_close(scaled, plain)
    before = scaled.detach().clone()
    amp.backward((scaled * float("inf")).sum())
    amp.clip_grad_norm(0.0)
    amp.step()
    assert torch.equal(scaled, before), "an overflow is not stepped on"
    assert amp.scaler.get_scale() == 512.0


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(o, marks=cuda)
        for o in (
            ("--fp16",),
            ("--bf16",),
            ("--amp",),
            ("--memory-efficient-fp16",),
            ("--fp16", "--ddp-backend", "c10d"),
        )
    ],
)
def test_on_cuda(small, tmp_path, options):
    """Near float32 on CPU, without dropout, whose masks differ from device to device."""
    steps = (*STEPS, "--dropout", 0)
    exact = train(small, tmp_path / "exact", *steps)
    finished = fairseq(
        *("train", small, "--user-dir", USER_DIR, "--task", "byte_level_lm", *MICRO, *RECIPE, *steps, *options),
        *("--tokens-per-sample", 32, "--batch-size", 4, "--log-format", "simple", "--save-dir", tmp_path / "cuda"),
        env={"CUDA_VISIBLE_DEVICES": "0"},
    )
    assert validation(finished) == pytest.approx(validation(exact), abs=0.1)
