"""Three seeds wherever two rows are close and one of them is in the headline."""

from dataclasses import replace
from pathlib import Path

import pytest

from experiments.comparison import stages
from experiments.comparison.plan import TRAINING, planned
from experiments.comparison.preset_options import choose, parse_more_seeds
from experiments.comparison.program import check_more_seeds
from experiments.comparison.report import render
from experiments.comparison.seeds_rule import lacking_seeds
from experiments.comparison.sizes import Size
from experiments.harness.spread import Spread
from experiments.versus_transformer.lineup import contestants
from experiments.versus_transformer.text import report_text
from fairseq_sharnn.errors import UsageError
from tests.unit.experiments.comparison.canned import canned, setting
from tests.unit.experiments.comparison.test_stages import build

SHA, WIDE = canned().summaries


def row(name, family, valid, test, deviation=0.0, count=1):
    summary = replace(SHA if family == "sha_rnn" else WIDE, name=name, title=name.title(), family=family)
    return replace(summary, valid_bpb=Spread(valid, 0.0, count), test_bpb=Spread(test, deviation, count))


def names(*rows):
    return [item.name for item in lacking_seeds(rows)]


def test_rows_that_are_close_need_three_seeds():
    ours, theirs = row("ours", "sha_rnn", 2.0, 2.00, 0.01, 3), row("theirs", "transformer", 2.0, 2.02)
    assert names(ours, theirs) == ["theirs"]
    assert names(ours, row("theirs", "transformer", 2.0, 2.04)) == []
    assert names(ours, row("theirs", "transformer", 2.0, 2.02, 0.001, 3)) == []
    assert names(ours, row("theirs", "transformer", 2.0, 2.02, 0.001, 2)) == ["theirs"]


def test_rows_below_the_headline_may_be_close():
    """The best of each kind by validation is in the headline, and whoever is close to one of those needs seeds too."""
    rows = [
        row("ours", "sha_rnn", 2.0, 2.0),
        row("close", "sha_rnn", 2.1, 2.01),
        row("theirs", "transformer", 2.5, 2.5),
        row("far", "transformer", 2.6, 2.7),
        row("further", "transformer", 2.7, 2.71),
    ]
    assert names(*rows) == ["ours", "close"]
    # a deviation that another has counts for rows with one seed
    assert names(*rows, row("lstm", "lstm", 3.0, 3.0, 0.1, 3)) == ["ours", "close", "theirs", "far", "further"]


def test_the_report_has_the_command():
    results = canned(
        summaries=[row("sha_rnn", "sha_rnn", 2.0, 2.0), row("wide", "transformer", 2.0, 2.01, 0.01, 2)],
        setting=replace(setting(seeds="1"), command="scripts/compare_transformer.py data --more-seeds wide=2 --out x"),
    )
    text = render(results, report_text(results), [])
    assert "## Rows that need more seeds\n\nSha_Rnn, Wide: fewer than 3 seeds" in text
    assert "\n    scripts/compare_transformer.py data --out x --more-seeds sha_rnn,wide=1,2,3\n" in text
    assert "need more seeds" not in render(canned(), report_text(canned()), [])


def test_some_contestants_have_further_seeds(tmp_path, monkeypatch):
    preset = choose("smoke", more_seeds="sha_rnn,transformer_wide=2,3")
    chosen = [item for item in contestants(preset) if item.name in ("sha_rnn", "lstm_lm", "transformer_wide")]
    made = build(tmp_path, preset, chosen)
    made.sizes = {item.name: Size((), 7) for item in chosen}
    made.chosen = {item.name: item.trials[0] for item in chosen}
    monkeypatch.setattr(stages, "train", lambda comparison, runs, kind: None)
    stages.train_seeds(made)
    found = [(run.job.contestant.name, run.job.seed) for run in made.runs]
    assert sorted(found) == [
        *[("lstm_lm", 1), ("sha_rnn", 1), ("sha_rnn", 2), ("sha_rnn", 3)],
        *(("transformer_wide", seed) for seed in (1, 2, 3)),
    ]
    steps = planned(preset, chosen, {"valid": 1000, "test": 1000}, {})
    assert steps[TRAINING].count == 7 * preset.slices
    assert made.runs[0].folder == Path(tmp_path / "runs" / "sha_rnn-seed1")


@pytest.mark.parametrize(
    "text, message",
    [
        ("sha_rnn", "--more-seeds takes names and seeds such as sha_rnn,lstm_lm=2,3, not 'sha_rnn'"),
        ("=2", "--more-seeds takes names and seeds"),
        ("sha_rnn=two", "--more-seeds takes whole numbers such as 1,2,3, not 'two'"),
        ("sha_rnn=0", "--more-seeds must be at least 1, but one is 0"),
    ],
)
def test_seeds_that_cannot_be(text, message):
    with pytest.raises(UsageError, match=message):
        parse_more_seeds(text)


def test_seeds_of_nobody():
    preset = choose("smoke", more_seeds="rnn=2")
    with pytest.raises(UsageError, match="--more-seeds rnn is not one of sha_rnn, sha_rnn_no_head"):
        check_more_seeds(preset, contestants(preset))
