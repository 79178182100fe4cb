from dataclasses import replace

import pytest

from experiments.comparison.preset_options import MODEL_OPTIONS, OPTIONS, choose, parse_seeds, with_charge
from experiments.comparison.presets import PRESETS
from experiments.comparison.trials import TRIALS, Budget
from experiments.harness.processes import ProcessorClock
from experiments.versus_transformer.lineup import contestants
from fairseq_sharnn.errors import UsageError


def test_options_replace_what_the_preset_says():
    preset = choose("cpu", minutes=8, seeds="4,5,4", parameters=1_000_000, jobs=1, long_minutes=30, trial_minutes=2)
    assert (preset.budget, preset.trial, preset.long) == (Budget(8), Budget(2), Budget(30))
    assert (preset.seeds, preset.parameters, preset.jobs) == ((4, 5), 1_000_000, 1)
    assert [choose("cpu", window=window).generated for window in (64, 1024)] == [256, 512]  # half a window at least
    preset = choose("paper", chunk=512)
    assert (preset.chunk, preset.lanes, preset.lanes_full, preset.window) == (512, 32, 16, 1024)
    timed = [
        choose("smoke", **options).timed for options in ({}, {"minutes": 1}, {"trial_minutes": 1}, {"long_minutes": 1})
    ]
    assert timed == [False, True, True, True]
    preset = choose("smoke", updates=1)
    assert (preset.budget.updates, preset.slices) == (1, 1)


def test_each_option_is_said_once():
    """An option that is not given changes nothing, and none is left out of the configuration but those that only add."""
    options = (*OPTIONS, *MODEL_OPTIONS)
    assert len({option.flag for option in options}) == len(options)
    assert choose("cpu", **dict.fromkeys(option.name for option in options)) == PRESETS["cpu"]
    changed = {
        "minutes": 7.0,
        "budget": "cpu",
        "tuning": "halving",
        "methods": "all",
        "updates": 7,
        "trial_minutes": 7.0,
        "trials": 2,
        "seeds": "7",
        "more_seeds": "sha_rnn=7",
        "long_minutes": 7.0,
        "parameters": 7,
        "chunk": 128,
        "jobs": 7,
        "window": 128,
        "optimizer": "lamb_min_trust",
    }
    assert set(changed) == {option.name for option in options}
    assert all(choose("cpu", **{name: value}) != PRESETS["cpu"] for name, value in changed.items())


def test_only_seeds_and_long_runs_may_be_added_to_a_comparison():
    one = choose("cpu").identity()
    assert choose("cpu", seeds="7", long_minutes=3, methods="all", more_seeds="sha_rnn=7").identity() == one
    for other in (
        {"minutes": 7},
        {"updates": 7},
        {"parameters": 7},
        {"jobs": 7},
        {"trial_minutes": 7},
        {"window": 128},
        {"chunk": 128},
    ):
        assert choose("cpu", **other).identity() != one


def test_the_optimizer_is_in_the_identity_of_sha_rnn():
    adam, lamb = (contestants(choose("cpu", optimizer=name)) for name in ("adam", "lamb_min_trust"))
    changed = [one.family for one, other in zip(adam, lamb) if one.identity() != other.identity()]
    assert changed == ["sha_rnn"] * 3
    assert choose("cpu", optimizer="adam").identity() == choose("cpu", optimizer="lamb_min_trust").identity()


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("huge", {}, "--preset huge is not one of smoke, cpu, gpu, paper"),
        ("cpu", {"minutes": 1, "updates": 1}, "--minutes and --updates exclude each other"),
        ("cpu", {"minutes": 0}, "--minutes must be above 0, but it is 0"),
        ("cpu", {"minutes": float("nan")}, "--minutes must be above 0, but it is nan"),
        ("cpu", {"updates": -3}, "--updates must be above 0, but it is -3"),
        ("cpu", {"trials": 6}, "--trials 6 is more than the 5"),
        ("cpu", {"jobs": 0}, "--jobs must be above 0"),
        ("cpu", {"window": 100}, "--window 100 does not divide the 1,024 bytes of an update"),
        ("cpu", {"chunk": 100}, "--chunk 100 does not divide the 1,024 bytes of an update"),
        ("cpu", {"chunk": 1024}, "--chunk 1024 must be below the context length, 1024"),
        ("cpu", {"seeds": "one"}, "--seeds takes whole numbers such as 1,2,3, not 'one'"),
        ("cpu", {"seeds": "0"}, "--seeds must be at least 1"),
    ],
)
def test_what_cannot_be_is_named(name, options, message):
    with pytest.raises(UsageError, match=message):
        choose(name, **options)


def test_seeds():
    assert parse_seeds("3, 1,3") == (3, 1)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_every_contestant_gets_the_same_number_of_trials_and_bytes(preset):
    found = contestants(preset)
    assert len(found) == 9
    assert {len(contestant.trials) for contestant in found} == {preset.trials}
    assert preset.lanes * preset.chunk % preset.window == 0
    assert preset.generated % (preset.window // 2) == 0  # as many slides in each timed part


def test_trials_change_one_thing_and_cover_the_rates():
    for families in TRIALS.values():
        assert {len(trials) for trials in families.values()} == {5}
        for trials in families.values():
            first = trials[0]
            for trial in trials[1:]:
                same = [getattr(trial, name) == getattr(first, name) for name in ("lr", "schedule", "warmup")]
                assert sum(same) == 2
    rates = {name: {trial.lr for trial in choose("cpu").trials_of(name)} for name in ("sha_rnn", "transformer", "lstm")}
    assert rates["sha_rnn"] == {2e-3, 4e-3, 8e-3}
    assert rates["transformer"] == rates["lstm"] == {1e-3, 2e-3, 4e-3}
    assert max(trial.lr for trial in choose("cpu").trials_of("lamb")) > 8e-3


def test_what_minutes_count():
    """Processor time in new folders on a CPU; a folder keeps what it began with, and those of earlier versions the wall."""
    new = with_charge(choose("cpu"), None, None)
    assert new.charge == ("cpu" if ProcessorClock.available else "wall")
    assert with_charge(choose("cpu"), None, {"preset": {}}).charge == "wall"
    assert with_charge(choose("cpu"), None, {"preset": {"charge": "cpu"}}).charge == "cpu"
    assert with_charge(choose("cpu", budget="wall"), "wall", {"preset": {"charge": "cpu"}}).charge == "wall"
    assert with_charge(choose("gpu"), None, None).charge == with_charge(choose("smoke"), None, None).charge == "wall"
    assert (
        "charge" not in choose("cpu").identity() and replace(choose("cpu"), charge="cpu").identity()["charge"] == "cpu"
    )
    with pytest.raises(UsageError, match="--budget cpu counts processor time, which says nothing on a GPU"):
        choose("gpu", budget="cpu")
