"""Ways of evaluation, and who leads where all may take the same time."""

from types import SimpleNamespace

import pytest

from experiments.comparison.equal_time import (
    best_within,
    equal_time_headline,
    equal_time_section,
    method_curves,
    ranking,
)
from experiments.comparison.evaluation import evaluation_path
from experiments.comparison.methods import RATES, method_results, methods_of, methods_to_test, valid_mode
from experiments.comparison.preset_options import choose
from experiments.comparison.records import Evaluation, MethodResult
from experiments.comparison.report import render
from experiments.harness.records import write_record
from experiments.versus_transformer.lineup import contestants
from experiments.versus_transformer.text import report_text
from tests.unit.experiments.comparison.canned import canned

PRESET = choose("cpu", methods="all")


def make_run(name, folder=None, length=64, context=1024, seed=1):
    (contestant,) = [item for item in contestants(PRESET) if item.name == name]
    job = SimpleNamespace(contestant=contestant, seed=seed)
    return SimpleNamespace(preset=PRESET, job=job, length=length, context=context, folder=folder, usable=True)


def names(ways):
    return [method.name for method in ways if method.rate is None]


def test_the_methods_of_each_kind():
    assert names(methods_of(make_run("sha_rnn"))) == ["streaming", "context-512", "context-2048", "context-4096"]
    assert names(methods_of(make_run("sha_rnn_no_head"))) == ["streaming"]
    xl = methods_of(make_run("transformer_xl", context=256))
    assert names(xl) == ["streaming", "context-128", "context-512", "context-1024"]
    shorter = dict(zip(xl[1].options[::2], xl[1].options[1::2]))
    assert shorter["--tokens-per-sample"] == "64" and shorter["--model-overrides"] == "{'context_length': 128}"
    windows = methods_of(make_run("transformer_deep", length=128))
    assert names(windows) == ["blocks", "window-32", "window-64", "window-96", "window-112"]
    assert names(methods_of(make_run("lstm_lm")))[1:] == ["window-256", "window-512", "window-768", "window-896"]
    for ways in (xl, windows):
        rates = [method.rate for method in ways if method.rate is not None]
        assert set(rates) == set(RATES)
        assert all(method.options[-2] == "--dynamic-lr" for method in ways if method.rate is not None)
    # lanes that learn must not read what another lane scores later
    assert all("--context-window" not in method.options for method in xl if method.rate is not None)


def record(run, mode, bpb, seconds=1.0):
    values = {"reason": "no luck"} if bpb is None else {"bpb": bpb, "seconds": seconds}
    write_record(evaluation_path(run, mode), Evaluation(mode, **values))


def test_rates_are_chosen_on_valid_and_only_the_best_is_tested(tmp_path):
    run = make_run("sha_rnn_no_head", tmp_path)
    for method in methods_of(run):
        bpb = None if method.rate == RATES[0] else 2.0 + abs((method.rate or 0) - RATES[2])
        record(run, valid_mode(method.name), bpb)
    assert [method.name for method in methods_to_test(run)] == ["streaming", f"lanes-rate-{RATES[2]:g}"]


def test_methods_are_means_over_seeds_that_all_have(tmp_path):
    runs = [make_run("sha_rnn_no_head", tmp_path / str(seed), seed=seed) for seed in (1, 2)]
    for run, bpb in zip(runs, (2.0, 3.0)):
        record(run, "streaming.valid", bpb)
        record(run, "streaming", bpb + 1, seconds=10 * bpb)
    record(runs[0], "lanes-rate-0.001.valid", 1.5)
    record(runs[0], "lanes-rate-0.001", 1.5)
    (result,) = method_results(runs)
    assert (result.method, result.valid_bpb, result.test_bpb, result.test_seconds) == ("streaming", 2.5, 3.5, 25.0)
    assert result.seeds == 2


def result(contestant, method, valid, seconds, test):
    return MethodResult(contestant, method, f"by {method}", valid, seconds, test, 2 * seconds, 1)


@pytest.fixture
def results():
    """SHA-RNN leads at once; with twice the time windows lead; on test a method looks best that valid does not choose."""
    return canned(
        methods=[
            result("sha_rnn", "streaming", 2.0, 10.0, 2.02),
            result("sha_rnn", "lanes", 1.8, 35.0, 1.81),
            result("wide", "blocks", 2.4, 9.0, 2.41),
            result("wide", "window-32", 1.95, 18.0, 1.96),
            result("wide", "window-48", 1.96, 19.0, 1.70),
        ]
    )


def test_methods_are_chosen_on_valid(results):
    wide = [method for method in results.methods if method.contestant == "wide"]
    assert best_within(wide, 20.0).method == "window-32" and best_within(wide, 8.0) is None
    leaders = [ranking(results, factor)[0] for factor in (1, 2, 4)]
    assert [(place.family, place.result.method) for place in leaders] == [
        ("sha_rnn", "streaming"),
        ("transformer", "window-32"),
        ("sha_rnn", "lanes"),
    ]


def test_the_report_says_who_leads_at_each_time(results):
    (line, _) = equal_time_headline(results)
    assert "(unit: 20.0 s, static streaming of SHA-RNN)" in line
    assert "in that time, SHA-RNN leads with 2.0200 (SHA-RNN; by streaming), 0.3900 before fairseq's Trans" in line
    assert (
        "in twice that time, fairseq's Transformer leads with 1.9600 (Wide Transformer; by window-32), 0.0600 be"
        in line
    )
    assert "in four times that time, SHA-RNN leads with 1.8100" in line
    text = render(results, report_text(results), ["methods"])
    assert line in text and "![Test against seconds of evaluation" in text
    assert "|  | within 1 × 20.0 s | within 2 × 20.0 s | within 4 × 20.0 s |" in text
    assert (
        "| Wide Transformer | 2.4100 (by blocks, 18.0 s) | 1.9600 (by window-32, 36.0 s) | 1.9600 (by window-32" in text
    )
    (ours, theirs) = method_curves(results)
    assert theirs.across == [18.0, 36.0, 38.0] and theirs.up == [2.41, 1.96, 1.70]
    assert ours.title == "SHA-RNN"


def test_without_all_methods_the_report_says_nothing_of_them():
    assert equal_time_headline(canned()) == [] and equal_time_section(canned(), []) == []
