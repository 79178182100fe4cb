import pytest
from comparison.contestants import contestants
from comparison.plan import Plan
from comparison.presets import PRESETS, Budget, choose, parse_seeds
from comparison.trials import TRIALS, Trial

from fairseq_sharnn.errors import UsageError

SPLITS = {"train": 90_000, "valid": 5_000, "test": 5_000}


def test_options_replace_what_the_preset_says():
    preset = choose("cpu", minutes=8, seeds="4,5,4", parameters=1_000_000, jobs=1, long_minutes=30, trial_minutes=2)
    assert (preset.budget, preset.trial, preset.long) == (Budget(8), Budget(2), Budget(30))
    assert (preset.seeds, preset.parameters, preset.jobs) == ((4, 5), 1_000_000, 1)
    preset = choose("smoke", updates=1)
    assert (preset.budget.updates, preset.slices) == (1, 1)


def test_only_seeds_and_long_runs_may_be_added_to_a_comparison():
    one = choose("cpu").identity()
    assert choose("cpu", seeds="7", long_minutes=3).identity() == one
    for other in ({"minutes": 7}, {"updates": 7}, {"parameters": 7}, {"jobs": 7}, {"trial_minutes": 7}):
        assert choose("cpu", **other).identity() != one


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("huge", {}, "--preset huge is not one of smoke, cpu, gpu, paper"),
        ("cpu", {"minutes": 1, "updates": 1}, "--minutes and --updates exclude each other"),
        ("cpu", {"minutes": 0}, "--minutes must be above 0, but it is 0"),
        ("cpu", {"minutes": float("nan")}, "--minutes must be above 0, but it is nan"),
        ("cpu", {"updates": -3}, "--updates must be above 0, but it is -3"),
        ("cpu", {"jobs": 0}, "--jobs must be above 0"),
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
    assert len(found) == 7
    assert {len(contestant.trials) for contestant in found} == {preset.trials}
    assert min(len(trials) for trials in TRIALS[preset.tuning].values()) >= preset.trials
    assert preset.lanes * preset.chunk % preset.window == 0


def test_gpu_fits_into_25_minutes():
    preset = PRESETS["gpu"]
    plan = Plan(preset, contestants(preset), {"train": 90_000_000, "valid": 5_000_000, "test": 5_000_000})
    assert plan.total() / preset.jobs < 25 * 60


def test_the_plan_counts_every_run():
    one, three = choose("cpu", seeds="1"), choose("cpu", seeds="1,2,3")
    costs = [Plan(preset, contestants(preset), SPLITS).total() for preset in (one, three)]
    assert costs[1] - costs[0] > 2 * 7 * 6 * 60
    longer = choose("cpu", seeds="1", long_minutes=30)
    assert Plan(longer, contestants(longer), SPLITS).total() - costs[0] > 3 * 30 * 60


def test_a_trial_becomes_fairseqs_options():
    options = Trial(4e-3, "linear", 0.25).options(total_updates=1000)
    assert dict(zip(options[::2], options[1::2])) == {
        "--lr-scheduler": "polynomial_decay",
        "--lr": "0.004",
        "--warmup-updates": "250",
        "--total-num-update": "1000",
        "--end-learning-rate": "0.0002",
    }
    assert Trial(1e-3, "constant", 800).options(1000)[-1] == "800"
    assert Trial(1e-3, "constant", 0.1).options(3)[:2] == ("--lr-scheduler", "fixed")
    assert Trial(1e-3, "inverse_sqrt", 0.1).options(1000)[1] == "inverse_sqrt"
    assert Trial(1e-3, "linear", 50).options(3)[-3] == "51"  # a schedule must end behind its warm-up
