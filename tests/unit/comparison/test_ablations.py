import pytest
from comparison.command_line import only
from comparison.presets import PRESETS
from comparison.sizes import counter
from comparison.variants import BASE, variants

from fairseq_sharnn.errors import UsageError

PRESET = PRESETS["smoke"]
FOUND = variants(PRESET)


def test_one_factor_at_a_time():
    base = FOUND[0]
    assert base.name == BASE and len({item.name for item in FOUND}) == len(FOUND)
    for item in FOUND[1:]:
        changed = item.arguments[len(base.arguments) :]
        assert item.arguments[: len(base.arguments)] == base.arguments
        assert bool(changed) != (item.optimizer != base.optimizer)
        assert (item.tuned_as is None) == (item.optimizer != base.optimizer)


def test_optimizers_are_tuned_alike():
    assert {len(item.trials) for item in FOUND if item.tuned_as is None} == {PRESET.trials}
    assert {item.name for item in FOUND if item.tuned_as is None} == {BASE, "min_trust_0.1", "lamb", "adam"}


def test_the_full_feed_forward_layer_costs_what_boom_does():
    by_name = {item.name: item for item in FOUND}
    counts = [counter(by_name[name], ())(()) for name in (BASE, "full_feed_forward")]
    assert abs(counts[0] - counts[1]) < 0.01 * counts[0]


def test_only_some():
    assert [item.name for item in only(FOUND, "lamb, no_head")] == [BASE, "no_head", "lamb"]
    assert only(FOUND, None) == FOUND
    with pytest.raises(UsageError, match="--only transformer is not one of base, no_head"):
        only(FOUND, "transformer")
