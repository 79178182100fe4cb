import pytest
import torch
from omegaconf import OmegaConf

from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.optim.lamb import LambMinTrust
from fairseq_sharnn.optim.lamb_min_trust import FairseqLambMinTrust, parse_betas


def build(**options):
    defaults = {
        "lamb_betas": "(0.9, 0.999)",
        "lamb_eps": 1e-6,
        "min_trust": 0.25,
        "weight_decay": 1.2e-6,
        "lr": [0.002],
    }
    return FairseqLambMinTrust(OmegaConf.create({**defaults, **options}), [torch.nn.Parameter(torch.ones(2))])


def test_options_reach_the_optimizer():
    optimizer = build(lamb_betas="(0.8, 0.9)", lamb_eps=1e-3, min_trust=0.1, weight_decay=0.5, lr=[0.01, 0.02])
    assert isinstance(optimizer.optimizer, LambMinTrust)
    (group,) = optimizer.param_groups
    assert (group["betas"], group["eps"], group["min_trust"], group["weight_decay"], group["lr"]) == (
        (0.8, 0.9),
        1e-3,
        0.1,
        0.5,
        0.01,
    )


def test_flat_parameters_are_declined():
    assert not build().supports_flat_params
    assert build().supports_memory_efficient_fp16


@pytest.mark.parametrize("value", ["(0.9, 0.999)", "0.9, 0.999", [0.9, 0.999], "[0.9, 0.999]"])
def test_betas_as_text_or_list(value):
    assert parse_betas(value) == (0.9, 0.999)


@pytest.mark.parametrize("value", ["0.9", "(0.9, 0.99, 0.999)", "__import__('os')", "a, b", None, "(0.9,"])
def test_other_betas_are_refused(value):
    with pytest.raises(UsageError, match="--lamb-betas takes two numbers"):
        parse_betas(value)


def test_min_trust_out_of_range_names_the_option():
    with pytest.raises(UsageError, match=r"^--min-trust must be in \[0, 1\), but it is 1.5$"):
        build(min_trust=1.5)


def test_fairseqs_fixed_scheduler_is_the_papers_warm_up():
    """Spec: lr · min(n, W) / W at the n-th update, then held."""
    from fairseq.optim.lr_scheduler.fixed_schedule import FixedLRSchedule, FixedLRScheduleConfig

    optimizer = build()
    schedule = FixedLRSchedule(FixedLRScheduleConfig(warmup_updates=4, lr=[0.002]), optimizer)
    schedule.step_begin_epoch(1)
    rates = [schedule.step_update(done) for done in range(7)]
    assert rates == pytest.approx([0.0005, 0.001, 0.0015, 0.002, 0.002, 0.002, 0.002])
