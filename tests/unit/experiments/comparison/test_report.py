"""From results to the words of the report, its tables and the two files of values."""

import csv
import io
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from experiments.ablations import text as ablation_text
from experiments.comparison import results
from experiments.comparison.records import ContextLength, ContextLengths, FittedContext, RunRecord
from experiments.comparison.report import ReportText, render
from experiments.comparison.results import Results, to_csv
from experiments.comparison.run_result import modes_of, run_result
from experiments.comparison.summary import Scored, summarise
from experiments.comparison.verdict import headline
from experiments.harness.markdown import number, table, without_empty_columns
from experiments.harness.records import read_record, write_record
from experiments.harness.spread import Spread, spread
from experiments.versus_transformer import text as comparison_text
from tests.unit.experiments.comparison.canned import CONTESTANTS, canned, evaluation, run, setting

TEXT = ReportText("A comparison", "", "How it is evaluated.", "How it is timed.", "How it is tuned.", ["a note"])


def test_mean_and_spread_over_seeds():
    assert spread([1.0, None, 3.0]) == Spread(2.0, pytest.approx(2**0.5), 2)
    assert spread([None]) is None and spread([5.0]).deviation == 0.0
    assert number(spread([1.0, 3.0]), 2) == "2.00 ± 1.41" and number(None) == "–" and number(spread([5.0])) == "5"
    ours, theirs = canned().summaries
    assert ours.test_bpb.mean == pytest.approx(2.02) and ours.seeds == 3
    assert theirs.test_bpb.mean == 2.5 and theirs.main.bpb.mean == 2.6
    assert theirs.main.seconds.mean == 4.0 and theirs.window.seconds.mean == 9.0


def test_tables():
    header, rows = ["", "a", "b"], [["x", 1, "–"], ["y", "", ""]]
    assert table(header, rows) == ["|  | a | b |", "| --- | --- | --- |", "| x | 1 | – |", "| y |  |  |", ""]
    assert without_empty_columns(header, rows) == (["", "a"], [["x", 1], ["y", ""]])


def test_whoever_is_ahead_stands_first():
    found = headline(canned())
    assert found[0].startswith(
        "**After 3 minutes of training each on one core of Abacus, the best SHA-RNN (SHA-RNN) has 2.0200 ± 0.0100 bits"
    )
    assert "(Wide Transformer) 2.5000 ± 0.0000: SHA-RNN is 0.4800 ahead.**" in found[0]
    lost = headline(canned(sha=3.0))
    assert "SHA-RNN is 0.5200 behind.**" in lost[0]
    (ranking,) = [line for line in lost if line.startswith("Test, bits per byte, of the best of each kind")]
    assert ranking.index("fairseq's Transformer") < ranking.index("SHA-RNN")
    assert "behind (within two deviations over seeds).**" in headline(canned(sha=2.49))[0]


def test_what_a_longer_evaluation_changes_is_told():
    line = "If evaluation may take 2.00 times as long as SHA-RNN's, with half of each window as context, the best "
    assert (
        headline(canned())[-2]
        == f"{line}Transformer by test (Wide Transformer) has 2.3000 ± 0.0000: SHA-RNN is 0.2800 ahead."
    )
    assert headline(canned(transformer=2.1))[-2].endswith("has 1.9000 ± 0.0000: SHA-RNN is 0.1200 behind.")
    row = "| Wide Transformer | 2.5000 ± 0.0000 | 2.3000 ± 0.0000 | 20.0 ± 0.0 | 2.00 | +0.2800 |"
    text = render(canned(), TEXT, [])
    assert row in text and "SHA-RNN: 2.0200 ± 0.0100 in 10.0 ± 0.0 s." in text
    for half in (Scored(), replace(canned().summaries[1].half, seconds=spread([9.0]))):  # none, or faster
        found = canned()
        found.summaries[1] = replace(found.summaries[1], half=half)
        assert "may take" not in render(found, TEXT, [])


def test_without_sha_rnn_there_is_no_lead_to_show():
    found = canned()
    del found.summaries[0], found.runs[:3], found.long[:]
    text = render(found, TEXT, [])
    assert "| Wide Transformer | 2.5000 ± 0.0000 | 2.3000 ± 0.0000 | 20.0 ± 0.0 |\n" in text
    assert "without a limit of time.\n" in text and "ahead" not in text


def test_a_longer_run_that_says_otherwise_is_told():
    found = canned()
    found.long.append(run("wide", 1, 1.4, evaluation("blocks", 1.4), kind="long"))
    assert "After 3 minutes, one seed: fairseq's Transformer 1.4000, SHA-RNN 1.5000." in headline(found)


def test_failures_stand_next_to_the_claim():
    first = headline(canned(failed=True))[0]
    assert "Not everything ended well: Wide Transformer: seed 3: RuntimeError: no luck." in first


def test_the_best_of_a_kind_is_chosen_by_validation_not_by_test_and_a_better_test_is_told():
    found = canned()
    (ours, theirs), expected = found.summaries, headline(found)
    lucky = replace(theirs, name="lucky", title="Lucky", valid_bpb=spread([2.6]), test_bpb=spread([1.0]), half=Scored())
    for summaries in ([ours, theirs, lucky], [lucky, ours, theirs]):
        first, *others = headline(replace(found, summaries=summaries))
        assert first == f"{expected[0]} By test, Lucky is better: 1.0000." and others == expected[1:]


def test_the_mode_that_counts_is_fixed_beforehand(tmp_path):
    """Not the better one, nor a window over the time, nor another context."""
    record = RunRecord("run", "wide", 1, "", "", 1000, "finished", bytes=1, train_seconds=1.0, wall_seconds=2.0)
    training = SimpleNamespace(folder=tmp_path / "runs" / "wide-seed1", record=record)
    for mode, bpb in (
        ("blocks", 2.0),
        ("window-64", 2.5),
        ("window-128", 1.0),
        ("half", 0.9),
        ("context-256", 0.5),
        ("streaming", 0.1),
    ):
        write_record(training.folder / f"evaluation-{mode}.json", evaluation(mode, bpb))
    ours, theirs = CONTESTANTS
    tests = [run_result(training, modes_of(*given)).test_bpb for given in ((theirs, 64), (theirs, 0), (ours, 0))]
    assert tests == [2.5, 2.0, 0.1]
    result = run_result(training, modes_of(theirs, 64))
    assert [item.mode for item in result.evaluations] == ["blocks", "window-64", "half"]
    assert result.folder == "runs/wide-seed1"
    assert summarise(theirs, [result], FittedContext(64)).test_bpb.mean == 2.5


def test_the_report_has_every_figure():
    text = render(canned(failed=True), TEXT, ["valid-minutes"])
    for expected in (
        "| SHA-RNN | 1,000 | 2.0000 ± 0.0000 | 2.0200 ± 0.0100 | – | 3.00 ± 0.00 | 30 ± 0 | 3.00 ± 0.00 |",
        "2.6000 ± 0.0000 | 2.5000 ± 0.0000 (w 64)",
        "failed: seed 3: RuntimeError: no luck",
        "| SHA-RNN | 16,667 ± 0 | 0.90 ± 0.00 | 512 ± 0 | 100 ± 0 | 10.0 ± 0.0 | – | 500 | 400 |",
        "| Wide Transformer | lr 0.1, linear | 3.0000 | 30 | **chosen** (an end of its range of rates: another may be",
        "Learning rate, warm-up and schedule are those of the short trials (1 minute)",
        "Python with fairseq holds 1 MiB of it",
        "- trained at: commit abc (machine 12)",
        "- processor: Abacus",
        "| SHA-RNN | 3 minutes | 1.5000 | streaming 1.5000 | 3.00 | 3.0 |",
        "![Validation against training time, mean over seeds. The lower line is better at an equal time](plots/v",
        "    fairseq-train wide",
        "    fairseq-eval-lm window-64",
        "- a note",
    ):
        assert expected in text, expected
    assert "valid-bytes" not in text and "Not complete yet" not in text
    assert "**Not complete yet: run the same command again to resume.**" in render(canned(complete=False), TEXT, [])


def test_context_lengths_are_a_table():
    lengths = [
        ContextLength(**vars(evaluation("context-256", 2.2)), context=256, chunk=128),
        ContextLength("context-512", reason="out of memory", context=512),
    ]
    text = render(canned(context=ContextLengths("Base", "base-seed1", 1024, lengths)), TEXT, [])
    assert (
        "| 256 | 2.2000 | 10.0 | 100 | 256 | 128 |" in text
        and "Python with fairseq holds 1 MiB" in text
        and "| 512 | failed: out of memory" in text
    )


def test_a_row_for_each_run_in_the_table_of_values():
    rows = list(csv.DictReader(io.StringIO(to_csv(canned(failed=True)))))
    assert len(rows) == 1 + 6 + 1
    assert rows[1]["contestant"] == "sha_rnn" and rows[1]["test_streaming"] == "2.01" and rows[1]["test_blocks"] == ""
    assert [row["reason"] for row in rows if row["status"] == "failed"] == ["RuntimeError: no luck"]


def test_results_are_data_without_prose(tmp_path):
    """results.json has all that the report is made of, and no sentence of it."""
    found = canned(failed=True)
    results.write(tmp_path, found)
    again = read_record(Results, tmp_path / "results.json")
    assert render(again, TEXT, []) == render(found, TEXT, [])
    strings = [value for value in leaves(json.loads((tmp_path / "results.json").read_text())) if isinstance(value, str)]
    assert not [value for value in strings if value.endswith(".") or "**" in value]


def leaves(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


@pytest.mark.parametrize("preset", ["smoke", "cpu", "gpu", "paper"])
@pytest.mark.parametrize("report_text", [comparison_text.report_text, ablation_text.report_text])
def test_no_report_tells_of_runs_that_it_did_not_make(preset, report_text):
    """Pilot runs of one committed comparison are described in its README only."""
    text = render(canned(setting=setting(preset)), report_text(canned(setting=setting(preset))), [])
    assert "pilot" not in text and "None" not in text and "chosen among" not in text
    assert f"preset {preset}" in text.splitlines()[0]


def test_what_evaluation_may_cost_is_told():
    found = comparison_text.report_text(canned()).evaluation
    assert "That is 10.0 s (SHA-RNN)." in found
    assert "No SHA-RNN was evaluated" in comparison_text.report_text(canned(allowance=None)).evaluation
