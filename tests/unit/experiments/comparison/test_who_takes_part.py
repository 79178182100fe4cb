"""Who takes part in a comparison, in a new folder and in one of an earlier version."""

from dataclasses import replace

import pytest

from experiments.comparison.preset_options import choose
from experiments.comparison.program import in_configuration, taking_part
from experiments.comparison.sizes import find_sizes
from experiments.versus_transformer.lineup import contestants
from fairseq_sharnn.errors import UsageError

FIRST = [
    *("sha_rnn", "sha_rnn_no_head", "sha_rnn_full", "transformer_deep", "transformer_wide", "transformer_gpt"),
    "lstm_lm",
]
OLD = {"contestants": dict.fromkeys(FIRST)}


def lineup(package=None):
    """All contestants; the Transformer with memory needs `package`."""
    return [replace(item, package=package) for item in contestants(choose("smoke"))]


def names(chosen):
    return [item.name for item in chosen]


def test_a_new_folder_has_the_transformer_with_memory_and_an_old_one_keeps_its_lineup():
    said = []
    assert names(taking_part(lineup(), None, None, said.append)) == [*FIRST, "transformer_xl"]
    assert names(taking_part(lineup(), None, OLD, said.append)) == FIRST
    grown = {"contestants": dict.fromkeys([*FIRST, "transformer_xl"])}
    assert names(taking_part(lineup(), None, grown, said.append)) == [*FIRST, "transformer_xl"]
    assert names(taking_part(lineup(), "sha_rnn_lamb,transformer_xl", OLD, said.append)) == names(lineup())[-2:]
    assert said == []


def test_without_its_package_a_contestant_is_left_out_in_one_line():
    said, everyone = (
        [],
        [replace(item, package="no-such-package" if item.late else None) for item in contestants(choose("smoke"))],
    )
    assert names(taking_part(everyone, None, None, said.append)) == FIRST
    (line,) = said
    assert line.startswith(
        "comparison: transformer_xl takes no part, because it needs the package no-such-package: pip"
    )
    with pytest.raises(UsageError, match="--only transformer_xl needs the package no-such-package: pip install"):
        taking_part(everyone, "transformer_xl", None, said.append)


def test_a_folder_may_gain_late_contestants_and_its_configuration_stays():
    everyone = lineup()
    late = [item for item in everyone if item.name == "sha_rnn_lamb"]
    assert names(in_configuration(everyone, everyone, OLD)) == FIRST
    assert names(in_configuration(everyone, everyone[:1], None)) == [*FIRST, "transformer_xl"]
    assert names(in_configuration(everyone, late, None)) == [*FIRST, "transformer_xl", "sha_rnn_lamb"]


def test_the_transformer_with_memory_has_the_parameters_of_the_others():
    pytest.importorskip("x_transformers")
    preset = choose("cpu")
    (ours,) = [item for item in contestants(preset) if item.name == "transformer_xl"]
    size = find_sizes([ours], preset.parameters, preset.window, preset.chunk)["transformer_xl"]
    assert abs(size.parameters - 880_000) < 0.01 * 880_000
    sizes = dict(zip(size.options[::2], map(int, size.options[1::2])))
    assert sizes["--decoder-embed-dim"] % 16 == 0
    assert 2 < sizes["--decoder-ffn-embed-dim"] / sizes["--decoder-embed-dim"] < 4
