"""Successive halving: what is tried, for how long, and what is left after each round."""

import io
import math
from pathlib import Path

import pytest

from experiments.comparison import stages
from experiments.comparison.comparison import Comparison
from experiments.comparison.halving import ROUNDS, budget_of, lengths, survivors
from experiments.comparison.plan import TUNING, halving_budget, planned
from experiments.comparison.preset_options import choose
from experiments.comparison.records import Point
from experiments.comparison.run_result import trial_result
from experiments.comparison.sizes import Size
from experiments.comparison.splits import Split
from experiments.comparison.training_command import fixed_options
from experiments.comparison.trials import Budget, Trial
from experiments.harness.progress import Progress
from experiments.harness.runner import Runner
from experiments.versus_transformer.lineup import contestants
from fairseq_sharnn.errors import UsageError

PRESET = choose("cpu", tuning="halving", trial_minutes=8)
TUNED = ("sha_rnn", "transformer_deep", "transformer_xl")
SPLITS = {split: Split(1000, "ab") for split in ("train", "valid", "test")}


def lineup():
    return [item for item in contestants(PRESET) if item.name in TUNED]


def test_what_is_tried():
    found = {item.name: {trial.shape for trial in item.trials} for item in lineup()}
    assert found["sha_rnn"] == {"32", "64", "128", "256"}
    assert found["transformer_deep"] == {"64", "128", "256", "512"}
    assert found["transformer_xl"] == {"64-256", "128-256", "128-512", "256-512"}
    for item in contestants(PRESET):
        assert len(item.trials) == 16, item.name
        assert len({(trial.lr, trial.warmup) for trial in item.trials if trial.length == 64}) in (0, 4)
    assert lengths("transformer", 512, 64, 1024, 1024) == [(512, None), (1024, None)]
    assert lengths("sha_rnn", 64, 64, 128, 1024) == [(32, None), (64, None)]


@pytest.mark.parametrize("number", [4, 8, 16])
def test_every_contestant_has_the_same_time(number):
    """Also one with fewer lengths: each round has the budget of two trials of the last."""
    trials = [Trial(lr, "linear", 0.1, length) for length in range(1, number // 4 + 1) for lr in (1, 2, 3, 4)]
    spent = 0.0
    for round in range(1, ROUNDS + 1):
        spent += len(trials) * budget_of(len(trials), Budget(minutes=8)).minutes
        trials = survivors(round, {trial: trial.lr for trial in trials})
    assert spent == pytest.approx(64) == pytest.approx(halving_budget(PRESET).minutes)
    assert len(trials) == 1 and trials[0].lr == 1
    assert budget_of(16, Budget(updates=2)) == Budget(updates=1)


def test_lengths_compete_last():
    """The length that is behind in short trials and ahead in long ones is chosen."""
    trials = [Trial(lr, "linear", 0.1, length) for length in (64, 512) for lr in (1, 2, 3, 4)]
    short = {trial: trial.lr + (0 if trial.length == 64 else 10) for trial in trials}
    first = survivors(1, short)
    assert [(trial.length, trial.lr) for trial in first] == [(64, 1), (64, 2), (512, 1), (512, 2)]
    second = survivors(2, {trial: short[trial] for trial in first})
    assert [(trial.length, trial.lr) for trial in second] == [(64, 1), (512, 1)]
    long = {trial: 0 if trial.length == 512 else 1 for trial in second}
    assert survivors(4, {trial: long[trial] for trial in survivors(3, long)}) == [second[1]]


def test_a_setting_that_failed_is_the_worst():
    trials = [Trial(lr, "linear", 0.1, 64) for lr in (1, 2, 3, 4)]
    results = dict(zip(trials, (math.nan, 3.0, math.inf, 2.0)))
    assert survivors(1, results) == [trials[1], trials[3]]


@pytest.fixture
def tuned(tmp_path, monkeypatch):
    """Tuning with trainings that are not made: a longer length is better the longer the trial."""

    def train(comparison, runs, kind, more=False):
        for run in runs:
            longest = 512 if run.job.budget.minutes > 3 else 64
            away = abs(math.log2(run.length / longest))
            run.record.status, run.record.updates, run.record.train_seconds = "finished", 5, 60 * run.job.budget.minutes
            run.record.points = [Point(1.0, 5, 1.0, 2.0 + away / 10 + abs(run.job.trial.lr - 2e-3))]

    monkeypatch.setattr(stages, "train", train)
    steps = planned(PRESET, lineup(), {name: split.bytes for name, split in SPLITS.items()}, {})
    made = Comparison(Path("data"), tmp_path, PRESET, lineup(), SPLITS, Runner(Progress("x", steps, io.StringIO())))
    made.sizes = {stages.key_of(item, trial): Size((), 7) for item in made.contestants for trial in item.trials}
    stages.tune(made)
    return made


def test_tuning_by_halving(tuned):
    for name in TUNED:
        its = [item for item in tuned.trials if item.contestant.name == name]
        assert [sum(item.run.job.budget.minutes == minutes for item in its) for minutes in (1, 2, 4, 8)] == [
            16,
            8,
            4,
            2,
        ]
        assert sum(item.run.record.train_seconds for item in its) == 64 * 60
    assert {name: trial.length for name, trial in tuned.chosen.items()} == {
        "sha_rnn": 256,
        "transformer_deep": 512,
        "transformer_xl": 256,
    }
    assert {trial.lr for trial in tuned.chosen.values()} == {2e-3}
    assert tuned.runner.progress.steps[TUNING].count == 3 * 30
    (result,) = [trial_result(tuned, item) for item in tuned.trials if tuned.tuned["sha_rnn"] is item.run]
    assert result.chosen and result.length_edge and not result.edge


def test_runs_train_with_the_lengths_that_were_chosen(tuned):
    stages.train_seeds(tuned)
    words = {}
    for run in tuned.runs[:3]:
        command = fixed_options(run.job, PRESET, Path("data"), Path("out"))
        assert int(command[command.index("--batch-size") + 1]) * run.length == PRESET.bytes_per_update
        words[run.job.contestant.name] = dict(zip(command, command[1:]))
    assert words["transformer_deep"]["--tokens-per-sample"] == "512"
    assert words["transformer_xl"]["--context-length"] == "512"  # the last of two, which is what counts
    assert words["sha_rnn"]["--context-length"] == "1024" and words["sha_rnn"]["--tokens-per-sample"] == "256"


def test_the_number_of_trials_belongs_to_the_grid():
    with pytest.raises(UsageError, match="--trials counts the trials of --tuning grid: leave it out"):
        choose("cpu", tuning="halving", trials=3)
