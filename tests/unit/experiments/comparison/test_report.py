"""From canned records to results, tables and plots."""

import csv
import io
from types import SimpleNamespace

import pytest

from experiments.ablations.variants import variants
from experiments.comparison import plots, report, results
from experiments.comparison.contestants import contestants
from experiments.comparison.presets import PRESETS
from experiments.comparison.report import render
from experiments.comparison.results import spread, summarise
from experiments.comparison.verdict import headline
from experiments.harness.folder import write_json
from experiments.harness.markdown import number


def evaluation(mode, bpb, seconds=10.0):
    return {
        "mode": mode,
        "command": f"fairseq-eval-lm {mode}",
        "reason": None,
        "bpb": bpb,
        "tokens": 1000,
        "seconds": seconds,
        "bytes_per_second": 1000 / seconds,
        "peak_memory": 2**28,
    }


def run(name, seed, bpb, *evaluations, status="finished", reason=None, kind="run"):
    points = [{"minutes": i, "updates": 10 * i, "bytes": 1e6 * i, "valid_bpb": bpb + 1 / i} for i in (1, 2, 3)]
    return {
        "kind": kind,
        "contestant": name,
        "seed": seed,
        "trial": "lr 0.1",
        "budget": "3 minutes",
        "parameters": 1000,
        "status": status,
        "reason": reason,
        "points": points,
        "train_seconds": 180.0,
        "updates": 30,
        "bytes": 3e6,
        "peak_memory": 2**29,
        "gpu_peak_memory": None,
        "made_by": [{"commit": "abc", "host": "12"}],
        "cores": 0.9,
        "commands": [f"fairseq-train {name}"],
        "bytes_per_second": 3e6 / 180,
        "valid_bpb": bpb,
        "evaluations": list(evaluations),
        "generation": {"reason": None, "bytes_per_second": {"1000": 500.0, "4000": 400.0}},
        "test_bpb": [item["bpb"] for item in evaluations if item["mode"] != "half"][-1] if evaluations else None,
    }


def canned(sha=2.0, transformer=2.5, failed=False):
    runs = [run("sha_rnn", seed, sha, evaluation("streaming", sha + seed / 100)) for seed in (1, 2, 3)]
    runs += [
        run(
            "wide",
            seed,
            transformer,
            evaluation("blocks", transformer + 0.1, 4.0),
            evaluation("window-64", transformer, 9),
            evaluation("half", transformer - 0.2, 20),
        )
        for seed in (1, 2)
    ]
    if failed:
        runs.append(run("wide", 3, 9.0, status="failed", reason="RuntimeError: no luck"))
    summaries = [
        summarise(name, title, family, [item for item in runs if item["contestant"] == name], context)
        for name, title, family, context in (
            ("sha_rnn", "SHA-RNN", "sha_rnn", None),
            ("wide", "Wide Transformer", "transformer", 64),
        )
    ]
    return {
        "title": "A comparison",
        "complete": [],
        "command": "scripts/compare_transformer.py data",
        "data": {name: {"bytes": 1000, "sha256": "ab" * 32} for name in ("train", "valid", "test")},
        "machine": {"cores": "2", "processor": "Abacus"},
        "prompts": (1000, 4000),
        "summaries": summaries,
        "trials": [{**run("wide", 1, 3.0, kind="trial"), "options": "lr 0.1, linear", "chosen": True, "edge": True}],
        "budget": "3 minutes",
        "device": "one core of Abacus",
        "trial": "1 minute",
        "idle_memory": 2**20,
        "runs": runs,
        "long": [run("sha_rnn", 1, 1.5, evaluation("streaming", 1.5), kind="long")],
        "context": None,
        **{key: key for key in ("budget_line", "evaluation_line", "speed_line", "tuning_line")},
        "notes": ["a note"],
    }


def said(found):
    return headline(found["summaries"], found["budget"], found["device"], found["long"])


def test_mean_and_spread_over_seeds():
    assert spread([1.0, None, 3.0]) == {"mean": 2.0, "deviation": pytest.approx(2**0.5), "count": 2}
    assert spread([None]) is None and spread([5.0])["deviation"] == 0.0
    assert number(spread([1.0, 3.0]), 2) == "2.00 ± 1.41" and number(None) == "–"
    (ours, theirs) = canned()["summaries"]
    assert ours["test_bpb"]["mean"] == pytest.approx(2.02) and ours["seeds"] == 3
    assert theirs["test_bpb"]["mean"] == 2.5 and theirs["test"]["blocks"]["mean"] == 2.6
    assert theirs["eval_seconds"]["mean"] == 4.0 and theirs["window_seconds"]["mean"] == 9.0


def test_whoever_is_ahead_stands_first():
    found = said(canned())
    assert found[0].startswith(
        "**With 3 minutes of training each on one core of Abacus, SHA-RNN (SHA-RNN) is 0.4800 bits"
    )
    assert "0.4800 bits per byte ahead of the best fairseq Transformer" in found[0]
    lost = said(canned(sha=3.0))
    assert "0.5200 bits per byte behind the best fairseq Transformer" in lost[0]
    (ranking,) = [line for line in lost if line.startswith("Of each kind")]
    assert ranking.index("fairseq Transformer") < ranking.index("SHA-RNN")
    assert "within two deviations" in said(canned(sha=2.47))[0]


def test_what_more_time_of_evaluation_brings_stands_beside_it():
    line = "Where evaluation may take 2.00 times as long as SHA-RNN's (windows half of which is context), the best "
    assert (
        said(canned())[-2]
        == f"{line}Transformer by test (Wide Transformer) has 2.3000 ± 0.0000: SHA-RNN is 0.2800 ahead."
    )
    assert said(canned(transformer=2.1))[-2].endswith("has 1.9000 ± 0.0000: SHA-RNN is 0.1200 behind.")
    row = "| Wide Transformer | 2.5000 ± 0.0000 | 2.3000 ± 0.0000 | 20.0 ± 0.0 | 2.00 | +0.2800 |"
    assert row in render(canned(), []) and "beside SHA-RNN (2.0200 ± 0.0100 in 10.0 ± 0.0 s)" in render(canned(), [])
    for change in ({"half_bpb": None, "half_seconds": None}, {"half_seconds": spread([9.0])}):  # none, or faster
        found = canned()
        found["summaries"][1].update(change)
        assert "may take" not in render(found, [])


def test_without_sha_rnn_there_is_no_lead_to_show():
    found = canned()
    del found["summaries"][0], found["runs"][:3], found["long"][:]
    text = render(found, [])
    assert "| Wide Transformer | 2.5000 ± 0.0000 | 2.3000 ± 0.0000 | 20.0 ± 0.0 |\n" in text
    assert "whatever that takes.\n" in text and "SHA-RNN" not in text


def test_a_longer_run_that_says_otherwise_is_not_passed_over():
    found = canned()
    found["long"] += [run("wide", 1, 1.4, evaluation("blocks", 1.4), kind="long")]
    assert "With 3 minutes, one seed: fairseq Transformer 1.4000, SHA-RNN 1.5000." in said(found)


def test_failures_stand_beside_the_claim():
    assert "Not all ended well: Wide Transformer: seed 3: RuntimeError: no luck." in said(canned(failed=True))[0]


def test_the_best_of_a_kind_is_chosen_by_validation_not_by_test_and_a_better_test_is_told():
    found = canned()
    (ours, theirs), expected = found["summaries"], said(found)
    lucky = {**theirs, "name": "lucky", "title": "Lucky", "valid_bpb": spread([2.6]), "test_bpb": spread([1.0])}
    lucky["half_bpb"] = lucky["half_seconds"] = None
    for summaries in ([ours, theirs, lucky], [lucky, ours, theirs]):
        first, *others = said({**found, "summaries": summaries})
        assert first == f"{expected[0]} By test, Lucky is better: 1.0000." and others == expected[1:]


def test_the_mode_that_counts_is_fixed_beforehand(tmp_path):
    """Not the least, nor a window over the time, nor another context."""
    for mode, bpb in (
        ("blocks", 2.0),
        ("window-64", 2.5),
        ("window-128", 1.0),
        ("half", 0.9),
        ("context-256", 0.5),
        ("streaming", 0.1),
    ):
        write_json(tmp_path / f"evaluation-{mode}.json", evaluation(mode, bpb))
    record = {"bytes": 1, "train_seconds": 1.0, "cpu_seconds": 1.0, "wall_seconds": 2.0}
    contestant = SimpleNamespace(family="transformer")
    one = SimpleNamespace(
        folder=tmp_path, record=record, best_valid_bpb=2.0, job=SimpleNamespace(contestant=contestant)
    )
    assert results.run_result(one, 64)["test_bpb"] == 2.5
    assert results.run_result(one, 0)["test_bpb"] == 2.0
    assert [item["mode"] for item in results.run_result(one, 64)["evaluations"]] == ["blocks", "window-64", "half"]
    contestant.family = "sha_rnn"
    assert results.run_result(one, None)["test_bpb"] == 0.1
    own = [run("wide", 1, 2.0, evaluation("blocks", 2.0), evaluation("window-64", 2.5))]
    assert summarise("wide", "Wide", "transformer", own, 64)["test_bpb"]["mean"] == 2.5


def test_the_report_has_every_figure():
    text = render(canned(failed=True), ["valid-minutes"])
    for expected in (
        "| SHA-RNN | 1,000 | 2.0000 ± 0.0000 | 2.0200 ± 0.0100 | – | 3.00 ± 0.00 | 30 ± 0 | 3.00 ± 0.00 |",
        "2.6000 ± 0.0000 | 2.5000 ± 0.0000 (w 64)",
        "failed: seed 3: RuntimeError: no luck",
        "| SHA-RNN | 16,667 ± 0 | 0.90 ± 0.00 | 512 ± 0 | 100 ± 0 | 10.0 ± 0.0 | – | 500 | 400 |",
        "| Wide Transformer | lr 0.1, linear | 3.0000 | 30 | **chosen** (an end of its range of rates: another may be",
        "Learning rates, shares of warm-up and schedules are those of the short trials (1 minute)",
        "- trained at: commit abc (machine 12)",
        "| SHA-RNN | 3 minutes | 1.5000 | streaming 1.5000 | 3.00 | 3.0 |",
        "![Validation against training time, mean over seeds](plots/v",
        "    fairseq-train wide",
        "    fairseq-eval-lm window-64",
    ):
        assert expected in text, expected
    assert "valid-bytes" not in text


def test_context_lengths_are_a_table():
    found = canned()
    lengths = [
        {"context": 256, "chunk": 128, **evaluation("context-256", 2.2)},
        {"context": 512, "reason": "out of memory"},
    ]
    found["context"] = {"title": "Base", "trained_with": 1024, "lengths": lengths}
    text = render(found, [])
    assert (
        "| 256 | 2.2000 | 10.0 | 100 | 256 | 128 |" in text
        and "Python with fairseq holds 1 MiB" in text
        and "| 512 | failed: out of memory" in text
    )


def test_a_row_for_each_run_in_the_table_of_values():
    rows = list(csv.DictReader(io.StringIO(results.to_csv(canned(failed=True)))))
    assert len(rows) == 1 + 6 + 1
    assert rows[1]["contestant"] == "sha_rnn" and rows[1]["test_streaming"] == "2.01" and rows[1]["test_blocks"] == ""
    assert [row["reason"] for row in rows if row["status"] == "failed"] == ["RuntimeError: no luck"]


def test_plots_are_drawn_of_what_there_is(tmp_path):
    pytest.importorskip("matplotlib")
    found = canned()
    found["trust"] = {"LAMB": [{"update": n, "trust": {"a.lstm.weight_hh_l0": 1 / n, "embed": 0.5}} for n in (1, 2)]}
    names = plots.draw_all(tmp_path, found)
    assert set(names) == set(report.PLOTS) - {"context-length"}
    for name in names:
        assert (tmp_path / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "</svg>" in (tmp_path / "plots" / f"{name}.svg").read_text()


def test_a_stateless_model_has_a_point_for_each_way_of_evaluation():
    (_, xs, ys) = plots.quality_and_speed(canned()["summaries"], "eval")[1]
    assert (xs, ys) == ([pytest.approx(250), pytest.approx(1000 / 9), 50.0], [2.6, 2.5, pytest.approx(2.3)])
    (_, xs, ys) = plots.quality_and_speed(canned()["summaries"], "generation")[1]
    assert (xs, ys) == ([500.0], [2.5])  # the test that counts


def test_every_contestant_has_a_style_of_its_own():
    assert len(plots._STYLES) >= max(len(variants(PRESETS["cpu"])), len(contestants(PRESETS["cpu"])))


def test_curves_are_means_over_seeds():
    runs = [run("sha_rnn", 1, 2.0), run("sha_rnn", 2, 3.0)]
    ((title, across, up),) = plots.curves(runs, {"sha_rnn": "SHA-RNN", "gone": "Gone"}, "bytes", 1e-6)
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
    assert plots.kind_of_tensor(name) == kind
