"""Stages of a comparison that need no training."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments.ablations.variants import variants
from experiments.comparison import command_line, experiment
from experiments.comparison.contestants import contestants
from experiments.comparison.experiment import Experiment
from experiments.comparison.presets import choose
from experiments.comparison.sizes import Size
from experiments.harness.folder import write_json, write_text
from fairseq_sharnn.errors import UsageError

SPLITS = {split: {"bytes": 1000} for split in ("train", "valid", "test")}


@pytest.fixture
def make(tmp_path, monkeypatch):
    def find_sizes(contestants, *unused):
        return {contestant.name: Size(("--x", "1"), 7) for contestant in contestants}

    monkeypatch.setattr(experiment, "find_sizes", find_sizes)
    preset = choose("smoke", minutes=1)
    return lambda names: Experiment(
        Path("data"), tmp_path, preset, command_line.only(variants(preset), names), SPLITS, {}
    )


def test_contestants_may_join_a_folder_that_lacks_their_sizes(make):
    assert set(make("no_head").find_sizes()) == {"base", "no_head"}
    everyone = make(None)
    assert set(everyone.find_sizes()) == {item.name for item in everyone.contestants}
    assert set(make("adam").find_sizes()) == {"adam"}


def test_a_variant_is_timed_with_the_trials_of_its_base_and_starts_at_its_own_speed(make, monkeypatch):
    made = make("no_head")
    made.find_sizes()
    base, variant = made.contestants
    assert variant.trials == () and base.trials

    def train(runs, kind):
        for run in runs:
            run.record.update(warm_rate=5.0 if "no_head" in str(run.folder) else 9.0, lost_seconds=0.5)

    monkeypatch.setattr(made, "train", train)
    made.measure_pace()
    assert made.paces["no_head"].job.trial == base.trials[0]
    made.tuned["base"] = SimpleNamespace(record={"updates": 80, "train_seconds": 10.0, "lost_seconds": 0.25})
    made.chosen = dict.fromkeys(("base", "no_head"), base.trials[0])
    jobs = [made._job_of(contestant, "run", 1) for contestant in (base, variant)]
    assert [(job.rate, job.lost_seconds) for job in jobs] == [(8.0, 0.25), (5.0, 0.5)]


def test_windows_may_cost_what_the_best_sha_rnn_by_validation_cost(make, monkeypatch):
    made = make("no_head")
    made.find_sizes()
    made.chosen = dict.fromkeys(("base", "no_head"), made.contestants[0].trials[0])
    monkeypatch.setattr(made, "train", lambda runs, kind: None)
    assert made.allowance() is None
    made.train_seeds()
    for run, valid, seconds in zip(made.runs, (2.5, 2.0), (30.0, 20.0)):
        run.record.update(status="finished", points=[{"valid_bpb": valid}])
        write_json(run.folder / "evaluation-streaming.json", {"reason": None, "seconds": seconds})
    assert made.allowance() == ("no_head", 20.0)
    assert [item.name for item in made.by_validation("sha_rnn")] == ["no_head", "base"]
    made.runs[1].record.update(status="failed")
    assert made.allowance() == ("base", 30.0)


@pytest.fixture
def compared(tmp_path, monkeypatch):
    """A finished SHA-RNN, Transformer and LSTM (windows of 64, the LSTM's of 128), and which evaluations were made: a
    Transformer's fit takes `fits` bytes of context."""
    preset = choose("smoke")
    chosen = command_line.only(contestants(preset), "sha_rnn,transformer_wide,lstm_lm")
    made = Experiment(Path("data"), tmp_path, preset, chosen, SPLITS, {})
    made.sizes = dict.fromkeys((item.name for item in chosen), Size((), 7))
    made.chosen = {item.name: item.trials[0] for item in chosen}
    monkeypatch.setattr(made, "train", lambda runs, kind: None)
    for run in made.train_seeds():
        run.record.update(status="finished", points=[{"valid_bpb": 2.0}])
        write_text(run.checkpoint, "")
    wanted = {}

    def evaluate(run, mode, options, processes):
        words = dict(zip(options[::2], options[1::2]))
        wanted.setdefault(run.job.contestant.name, {})[mode] = words.get("--context-window")
        write_json(run.folder / f"evaluation-{mode}.json", {"reason": None, "seconds": 1.0})

    def evaluated(fits=0):
        def fit_context(runs, seconds, allowance, processes, path):
            fitted.append(runs[0].job.contestant.name)
            write_json(path, {"context": fits, "reason": None})

        monkeypatch.setattr(experiment, "fit_context", fit_context)
        fitted = []
        wanted.clear()
        made.evaluate(made.runs)
        return wanted, fitted

    monkeypatch.setattr(experiment, "evaluate", evaluate)
    return made, evaluated


def test_windows_half_of_which_is_context_where_less_fits(compared):
    made, evaluated = compared
    wanted, fitted = evaluated()
    assert sorted(fitted) == ["lstm_lm", "transformer_wide"]  # two at a time
    assert wanted["transformer_wide"] == {"blocks": None, "half": "32"}
    assert wanted["lstm_lm"] == {"blocks": None, "half": "64"}
    assert list(wanted["sha_rnn"]) == ["streaming"]
    assert made.progress._open["evaluating"] == 0
    assert evaluated(20)[0]["transformer_wide"] == {"blocks": None, "window-20": "20", "half": "32"}
    assert evaluated(32)[0]["transformer_wide"] == {"blocks": None, "window-32": "32"}  # else the same twice
    assert evaluated(48)[0]["transformer_wide"] == {"blocks": None, "window-48": "48"}  # else less than what fits


def test_what_was_fitted_stays_in_a_folder_without_checkpoints(compared):
    made, evaluated = compared
    evaluated(20)
    for run in made.runs:
        run.checkpoint.unlink()
    assert evaluated(0)[1] == [] and made.windows(made.by_name("lstm_lm"))["context"] == 20


def test_windows_found_by_an_earlier_version_have_no_reason(make):
    made = make("no_head")
    write_json(
        made.out / "windows" / "base.json", {"context": 128, "window": 256, "allowed_seconds": 9.0, "measured": []}
    )
    assert [made.windows(item)["reason"] for item in made.contestants] == [None, None]
    assert made.windows(made.contestants[0])["context"] == 128


def test_a_budget_below_one_validation_is_refused(make):
    made = make("no_head")
    made._check_budget("base", SimpleNamespace(record={"valid_seconds": 50.0, "warm_rate": 9.0}))
    with pytest.raises(UsageError, match="--minutes 1 is too small for one validation: base needs 70"):
        made._check_budget("base", SimpleNamespace(record={"valid_seconds": 70.0, "warm_rate": 9.0}))


def test_what_earlier_calls_trained_is_not_counted_as_left(make):
    before = make(None).progress
    folders = {
        "pace/no_head": 1,
        "trials/base-1": 1,
        "runs/no_head-seed1": 2,
        "runs/no_head-seed7": 2,
        "runs/adam-seed1": 2,
    }
    for folder, slices in folders.items():
        name, _, seed = folder.partition("/")[2].partition("-seed")
        record = {"contestant": name.partition("-")[0], "seed": int(seed or 1), "slices": slices}
        write_json(make(None).out / folder / "run.json", record)
    after = make("no_head").progress
    counts = [after.steps[kind].count - after._open[kind] for kind in ("measuring speed", "tuning", "training")]
    assert counts == [1, 1, 2] and 0.0 < after.left() < before.left() and before.share() == 0.0 < after.share()
