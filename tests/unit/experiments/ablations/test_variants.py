import pytest

from experiments.ablations.context import context_lengths
from experiments.ablations.variants import BASE, variants
from experiments.comparison.presets import PRESETS
from experiments.comparison.program import only
from experiments.comparison.sizes import counter
from fairseq_sharnn.errors import UsageError

PRESET = PRESETS["smoke"]
FOUND = variants(PRESET)


def test_one_factor_at_a_time():
    base, by_name = FOUND[0], {item.name: item for item in FOUND}
    assert base.name == BASE and len(by_name) == len(FOUND)
    for item in FOUND[1:]:
        changed = item.arguments[len(base.arguments) :]
        assert item.arguments[: len(base.arguments)] == base.arguments
        tuned_alone = item.optimizer != base.optimizer
        assert (item.tuned_as is None) == tuned_alone
        assert item.name == "full_feed_forward" or bool(changed) + bool(item.environment) + tuned_alone == 1
    boom, full = by_name["boom_in_torch"], by_name["full_feed_forward"]
    assert boom.environment == full.environment == (("FAIRSEQ_SHARNN_KERNELS", "0"),)
    assert {item.name for item in FOUND if item.trust_log} == {BASE, "min_trust_0.1", "lamb"}


def test_adam_differs_from_lamb_in_the_optimizer_only():
    """Its clipping, decay, betas and epsilon are the defaults of LAMB."""
    from fairseq_sharnn.optim.lamb_min_trust import LambMinTrustConfig

    adam = next(item.optimizer for item in FOUND if item.name == "adam")
    options = dict(zip(adam[::2], adam[1::2]))
    lamb = LambMinTrustConfig()
    assert options["--adam-betas"] == lamb.lamb_betas and float(options["--adam-eps"]) == lamb.lamb_eps
    assert float(options["--weight-decay"]) == lamb.weight_decay
    assert options["--clip-norm"] == dict(zip(FOUND[0].optimizer[::2], FOUND[0].optimizer[1::2]))["--clip-norm"]


def test_no_context_length_is_dropped_but_beyond_the_test_split():
    paper = PRESETS["paper"]
    assert context_lengths(paper, 5_000_000) == [256 * 2**n for n in range(9)]
    assert context_lengths(paper, 1000) == [256, 512, 1024]


@pytest.mark.parametrize("name, number", [("smoke", 1), ("cpu", 4), ("gpu", 3), ("paper", 4)])
def test_optimizers_are_tuned_alike(name, number):
    """The same number of trials, under one schedule."""
    tuned = {item.name: item.trials for item in variants(PRESETS[name]) if item.tuned_as is None}
    assert {trial.schedule for trials in tuned.values() for trial in trials} == {"linear"}
    assert {tried: len(trials) for tried, trials in tuned.items()} == dict.fromkeys(
        (BASE, "min_trust_0.1", "lamb", "adam"), number
    )


def test_the_full_feed_forward_layer_costs_what_boom_does():
    by_name = {item.name: item for item in FOUND}
    counts = [counter(by_name[name], ())(()) for name in (BASE, "full_feed_forward")]
    assert abs(counts[0] - counts[1]) < 0.01 * counts[0]


def test_only_some():
    assert [item.name for item in only(FOUND, "lamb, no_head")] == [BASE, "no_head", "lamb"]
    assert only(FOUND, None) == FOUND
    with pytest.raises(UsageError, match="--only transformer is not one of base, no_head"):
        only(FOUND, "transformer")
