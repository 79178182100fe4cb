import pytest

from experiments.ablations.variants import variants
from experiments.comparison.presets import PRESETS
from experiments.comparison.records import ContextLength, ContextLengths, MethodResult
from experiments.comparison.report_plots import (
    CAPTIONS,
    curves,
    draw_all,
    evaluation_speeds,
    generation_speeds,
    kind_of_tensor,
)
from experiments.harness.plots import STYLES
from experiments.versus_transformer.lineup import contestants
from tests.unit.experiments.comparison.canned import canned, evaluation, run


def test_plots_are_drawn_of_what_there_is(tmp_path):
    pytest.importorskip("matplotlib")
    trust = {"LAMB": [{"update": n, "trust": {"a.lstm.weight_hh_l0": 1 / n, "embed": 0.5}} for n in (1, 2)]}
    methods = [MethodResult("sha_rnn", "streaming", "streaming", 2.0, 10.0, 2.1, 9.0, 1)]
    names = draw_all(tmp_path, canned(trust=trust, methods=methods))
    assert set(names) == set(CAPTIONS) - {"context-length"}
    lengths = [ContextLength(**vars(evaluation("context-256", 2.2)), context=256, chunk=128)]
    assert "context-length" in draw_all(tmp_path, canned(context=ContextLengths("Base", "base-seed1", 1024, lengths)))
    for name in (*names, "context-length"):
        assert (tmp_path / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "</svg>" in (tmp_path / "plots" / f"{name}.svg").read_text()
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_stateless_model_has_a_point_for_each_way_of_evaluation():
    (_, xs, ys) = evaluation_speeds(canned().summaries)[1]
    assert (xs, ys) == ([pytest.approx(250), pytest.approx(1000 / 9), 50.0], [2.6, 2.5, pytest.approx(2.3)])
    (_, xs, ys) = generation_speeds(canned().summaries)[1]
    assert (xs, ys) == ([500.0], [2.5])  # the test that counts


def test_every_contestant_has_a_style_of_its_own():
    assert len(STYLES) >= max(len(variants(PRESETS["cpu"])), len(contestants(PRESETS["cpu"])))
    assert len(set(STYLES)) == len(STYLES)


def test_curves_are_means_over_seeds():
    runs = [run("sha_rnn", 1, 2.0), run("sha_rnn", 2, 3.0)]
    ((title, across, up),) = curves(runs, {"sha_rnn": "SHA-RNN", "gone": "Gone"}, "bytes", 1e-6)
    assert (title, across, up) == ("SHA-RNN", [1.0, 2.0, 3.0], [3.5, 3.0, pytest.approx(2.5 + 1 / 3)])


@pytest.mark.parametrize(
    "name, kind",
    [
        ("decoder.network.embed.weight", "embedding"),
        ("decoder.network.blocks.0.lstm.weight_ih_l0", "LSTM weights"),
        ("decoder.network.blocks.2.attention.value.gate", "static vectors"),
        ("decoder.network.blocks.2.attention.value.expand.weight", "static vectors' networks"),
        ("decoder.network.blocks.2.attention.query.weight", "attention query"),
        ("decoder.network.blocks.2.attention.ln_query.weight", "LayerNorms"),
        ("decoder.network.blocks.2.boom.expand.weight", "Boom"),
    ],
)
def test_tensors_by_kind(name, kind):
    assert kind_of_tensor(name) == kind
