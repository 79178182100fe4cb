"""Stages of a comparison, with trainings and evaluations that are not really made."""

import io
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments.ablations.variants import variants
from experiments.comparison import stages
from experiments.comparison.comparison import Comparison
from experiments.comparison.evaluation import STREAMING, evaluation_path
from experiments.comparison.plan import EVALUATING, MEASURING_SPEED, TRAINING, TUNING, planned
from experiments.comparison.preset_options import choose
from experiments.comparison.program import only
from experiments.comparison.records import Evaluation, FittedContext, Point, RunRecord
from experiments.comparison.sizes import Size
from experiments.comparison.splits import Split
from experiments.comparison.windows import Allowance
from experiments.harness.folder import write_json, write_text
from experiments.harness.progress import Progress
from experiments.harness.records import write_record
from experiments.harness.runner import Runner
from experiments.versus_transformer.lineup import contestants
from fairseq_sharnn.errors import UsageError

SPLITS = {split: Split(1000, "ab") for split in ("train", "valid", "test")}


def build(out, preset, chosen):
    steps = planned(preset, chosen, {name: split.bytes for name, split in SPLITS.items()}, {})
    return Comparison(Path("data"), out, preset, chosen, SPLITS, Runner(Progress("x", steps, io.StringIO())))


@pytest.fixture
def make(tmp_path, monkeypatch):
    def find_sizes(contestants, *unused):
        return {contestant.name: Size(("--x", "1"), 7) for contestant in contestants}

    monkeypatch.setattr(stages, "find_sizes", find_sizes)
    preset = choose("smoke", minutes=1)
    return lambda names: build(tmp_path, preset, only(variants(preset), names))


def record(**values):
    return RunRecord("run", "x", 1, "", "", 7, **values)


def sizes_of(comparison):
    stages.find_all_sizes(comparison)
    return set(comparison.sizes)


def test_contestants_may_join_a_folder_that_lacks_their_sizes(make):
    assert sizes_of(make("no_head")) == {"base", "no_head"}
    everyone = make(None)
    assert sizes_of(everyone) == {item.name for item in everyone.contestants}
    assert sizes_of(make("adam")) == {"adam"}


def test_a_variant_is_timed_with_the_trials_of_its_base_and_starts_at_its_own_speed(make, monkeypatch):
    made = make("no_head")
    stages.find_all_sizes(made)
    base, variant = made.contestants
    assert variant.trials == () and base.trials

    def train(comparison, runs, kind):
        for run in runs:
            run.record.warm_rate = 5.0 if "no_head" in str(run.folder) else 9.0
            run.record.lost_seconds = 0.5

    monkeypatch.setattr(stages, "train", train)
    stages.measure_pace(made)
    assert made.paces["no_head"].job.trial == base.trials[0]
    made.tuned["base"] = SimpleNamespace(record=record(updates=80, train_seconds=10.0, lost_seconds=0.25))
    made.chosen = dict.fromkeys(("base", "no_head"), base.trials[0])
    stages.train_seeds(made)
    assert [(run.job.rate, run.job.lost_seconds) for run in made.runs] == [(8.0, 0.25), (5.0, 0.5)]


def test_windows_may_cost_what_the_best_sha_rnn_by_validation_cost(make, monkeypatch):
    made = make("no_head")
    stages.find_all_sizes(made)
    made.chosen = dict.fromkeys(("base", "no_head"), made.contestants[0].trials[0])
    monkeypatch.setattr(stages, "train", lambda comparison, runs, kind: None)
    assert made.allowance() is None
    stages.train_seeds(made)
    for run, valid, seconds in zip(made.runs, (2.5, 2.0), (30.0, 20.0)):
        run.record.status, run.record.points = "finished", [Point(1.0, 1, 1.0, valid)]
        write_record(evaluation_path(run, STREAMING), Evaluation(STREAMING, seconds=seconds))
    assert made.allowance() == Allowance("no_head", 20.0)
    assert [item.name for item in made.by_validation("sha_rnn")] == ["no_head", "base"]
    made.runs[1].record.status = "failed"
    assert made.allowance() == Allowance("base", 30.0)


@pytest.fixture
def compared(tmp_path, monkeypatch):
    """A finished SHA-RNN, Transformer and LSTM (windows of 64, the LSTM's of 128), and which evaluations were made.

    A Transformer's context that fits is `fits` bytes.
    """
    preset = choose("smoke")
    chosen = only(contestants(preset), "sha_rnn,transformer_wide,lstm_lm")
    made = build(tmp_path, preset, chosen)
    made.sizes = dict.fromkeys((item.name for item in chosen), Size((), 7))
    made.chosen = {item.name: item.trials[0] for item in chosen}
    monkeypatch.setattr(stages, "train", lambda comparison, runs, kind: None)
    stages.train_seeds(made)
    for run in made.runs:
        run.record.status, run.record.points = "finished", [Point(1.0, 1, 1.0, 2.0)]
        write_text(run.checkpoint, "")
    wanted, searched = {}, []

    def evaluate(run, mode, options, processes):
        words = dict(zip(options[::2], options[1::2]))
        wanted.setdefault(run.job.contestant.name, {})[mode] = words.get("--context-window")
        write_record(evaluation_path(run, mode), Evaluation(mode, seconds=1.0))
        return True

    def evaluated(fits=0):
        class Search:
            def __init__(self, runs, allowance, processes, path):
                self.name, self.path = runs[0].job.contestant.name, path

            def run(self, seconds):
                searched.append(self.name)
                write_record(self.path, FittedContext(fits))
                return True

        monkeypatch.setattr(stages, "Search", Search)
        wanted.clear()
        searched.clear()
        stages.evaluate_runs(made, made.runs)
        return wanted, sorted(searched)

    monkeypatch.setattr(stages, "evaluate", evaluate)
    return made, evaluated


def test_windows_half_of_which_is_context_where_less_fits(compared):
    made, evaluated = compared
    wanted, searched = evaluated()
    assert searched == ["lstm_lm", "transformer_wide"]
    assert wanted["transformer_wide"] == {"blocks": None, "half": "32"}
    assert wanted["lstm_lm"] == {"blocks": None, "half": "64"}
    assert list(wanted["sha_rnn"]) == ["streaming"]
    assert made.runner.progress.left(EVALUATING) == 0
    assert evaluated(20)[0]["transformer_wide"] == {"blocks": None, "window-20": "20", "half": "32"}
    assert evaluated(32)[0]["transformer_wide"] == {"blocks": None, "window-32": "32"}  # else the same twice
    assert evaluated(48)[0]["transformer_wide"] == {"blocks": None, "window-48": "48"}  # else less than what fits


def test_what_was_found_stays_in_a_folder_without_checkpoints(compared):
    made, evaluated = compared
    evaluated(20)
    for run in made.runs:
        run.checkpoint.unlink()
    assert evaluated(0)[1] == [] and made.fitted_context(made.by_name("lstm_lm")).context == 20


def test_a_budget_below_one_validation_is_refused(make):
    made = make("no_head")
    stages.check_budget(made, "base", SimpleNamespace(record=record(valid_seconds=50.0, warm_rate=9.0)))
    with pytest.raises(UsageError, match="--minutes 1 is too small for one validation: base needs 70"):
        stages.check_budget(made, "base", SimpleNamespace(record=record(valid_seconds=70.0, warm_rate=9.0)))


def test_what_earlier_calls_trained_is_not_counted_as_left(make):
    before = make(None).runner.progress
    folders = {
        "pace/no_head": 1,
        "trials/base-1": 1,
        "runs/no_head-seed1": 2,
        "runs/no_head-seed7": 2,
        "runs/adam-seed1": 2,
    }
    for folder, slices in folders.items():
        name, _, seed = folder.partition("/")[2].partition("-seed")
        value = {"contestant": name.partition("-")[0], "seed": int(seed or 1), "slices": slices}
        write_json(make(None).out / folder / "run.json", value)
    made = make("no_head")
    stages.count_trained_slices(made)
    after = made.runner.progress
    counts = [after.steps[kind].count - after.left(kind) for kind in (MEASURING_SPEED, TUNING, TRAINING)]
    assert counts == [1, 1, 2] and 0.0 < after.seconds_left() < before.seconds_left()
    assert before.share_done() == 0.0 < after.share_done()
