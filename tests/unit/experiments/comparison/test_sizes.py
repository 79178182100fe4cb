import pytest

from experiments.comparison.presets import PRESETS
from experiments.comparison.sizes import TOLERANCE, counter, find_size, size_options
from experiments.versus_transformer.lineup import contestants
from fairseq_sharnn.errors import UsageError

SMOKE = {contestant.name: contestant for contestant in contestants(PRESETS["smoke"])}


def formula(options):
    """Parameters of an imaginary model: 260 V·D and four matrices of D x inner."""
    values = [int(value) for value in options[1::2]]
    return 260 * values[0] + 8 * values[0] * values[-1]


@pytest.mark.parametrize("name", SMOKE)
@pytest.mark.parametrize("target", [40_000, 1_000_000, 54_000_000])
def test_the_nearest_size_is_found(name, target):
    contestant = SMOKE[name]
    size = find_size(contestant, target, formula)
    assert abs(size.parameters - target) <= TOLERANCE * target
    assert size.parameters == formula(size.options)
    width = int(size.options[1])
    assert width % contestant.step == 0
    if contestant.inner is not None:
        inner = int(size.options[-1])
        assert inner == 4 * width or (contestant.family.startswith("transformer") and inner % 8 == 0)
    for other in (width - contestant.step, width + contestant.step):
        if other > 0:
            assert abs(formula(size_options(contestant, other)) - target) >= abs(size.parameters - target)


@pytest.mark.parametrize("target", [100, 1_000_000_000_000])
def test_a_count_out_of_reach_is_refused(target):
    with pytest.raises(UsageError, match=rf"--parameters {target:,}: sha_rnn comes no nearer than"):
        find_size(SMOKE["sha_rnn"], target, formula)


@pytest.mark.parametrize("name, width", [("sha_rnn", 16), ("transformer_gpt", 16), ("lstm_lm", 9)])
def test_counted_is_what_fairseq_builds(name, width):
    """Against the formulas of the three families, written out."""
    contestant = SMOKE[name]
    count = counter(contestant, ("--tokens-per-sample", "64"))(size_options(contestant, width))
    d, h, v = width, 4 * width, 260
    if name == "sha_rnn":
        block = 8 * d * d + 8 * d + 6 * d + h * d + h
        attention = d * d + d + 2 * d + 2 * d + d + 2 * d * d + 2 * d + 4 * d
        assert count == v * d + v + 2 * block + attention
    elif name == "lstm_lm":
        assert count == v * d + 8 * d * d + 8 * d
    else:
        layer = 4 * (d * d + d) + 2 * d * h + h + d + 4 * d
        assert count == v * d + (64 + 2) * d + 2 * layer + 2 * d
