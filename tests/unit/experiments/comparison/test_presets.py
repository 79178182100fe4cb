from types import SimpleNamespace

import pytest
from fairseq.optim import FairseqOptimizer
from fairseq.optim.lr_scheduler.polynomial_decay_schedule import PolynomialDecayLRSchedule
from fairseq.optim.lr_scheduler.tri_stage_lr_scheduler import TriStageLRSchedule

from experiments.comparison.contestants import contestants
from experiments.comparison.learning_rate import Schedule
from experiments.comparison.presets import PRESETS, TRIALS, Budget, Trial, choose, parse_seeds
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


def test_only_seeds_and_long_runs_may_be_added_to_a_comparison():
    one = choose("cpu").identity()
    assert choose("cpu", seeds="7", long_minutes=3).identity() == one
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
    assert len(found) == 7
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


def test_a_trial_becomes_fairseqs_options():
    options = Schedule.of(Trial(4e-3, "linear", 0.25), total=1000).options()
    assert dict(zip(options[::2], options[1::2])) == {
        "--lr-scheduler": "polynomial_decay",
        "--lr": "0.004",
        "--warmup-updates": "250",
        "--total-num-update": "1000",
        "--end-learning-rate": "0.0002",
    }
    assert Schedule.of(Trial(1e-3, "constant", 0.1), 300).options() == (
        ["--lr-scheduler", "fixed", "--lr", "0.001", "--warmup-updates", "30"]
    )
    assert Schedule.of(Trial(1e-3, "linear", 0.9), 1).total == 2  # a schedule must end behind its warm-up


def test_the_papers_two_passes():
    """By fairseq's own scheduler: 32 of 37 parts at the full rate, the rest at half, and a run that turns out longer."""
    first = Schedule.of(Trial(2e-3, "halved", 0.1), 370)
    after = first.continued(200, 740)
    for schedule, turn in ((first, 320), (after, 640)):
        options = schedule.options()
        values = {name: float(value) for name, value in zip(options[2::2], options[3::2])}
        assert options[:2] == ["--lr-scheduler", "tri_stage"]
        cfg = SimpleNamespace(
            lr=[values["--lr"]],
            phase_ratio=None,
            **{
                name: int(values[f"--{name.replace('_', '-')}"])
                for name in ("warmup_steps", "hold_steps", "decay_steps")
            },
            **{name: values[f"--{name.replace('_', '-')}"] for name in ("init_lr_scale", "final_lr_scale")},
        )
        scheduler = TriStageLRSchedule(cfg, fairseqs_optimizer())
        assert [scheduler.step_update(update) for update in (37, turn, turn + 1, 2 * turn)] == pytest.approx(
            [2e-3, 2e-3, 1e-3, 1e-3]
        )
        assert scheduler.step_update(1) < 1e-4


@pytest.mark.parametrize("total", [401, 700, 1000, 4000])
def test_a_fall_bends_without_a_jump(total):
    """By fairseq's own scheduler: the rate where two slices meet, and where the fall ends."""
    before = Schedule.of(Trial(4e-3, "linear", 0.1), 1000)
    after = before.continued(400, total)
    assert fairseqs_rate(after, 400) == pytest.approx(fairseqs_rate(before, 400), rel=1e-6)
    assert fairseqs_rate(after, total) == pytest.approx(2e-4) and after.warmup == before.warmup
    assert fairseqs_rate(after, 401) <= fairseqs_rate(after, 400)
    warming = before.continued(50, total)
    assert fairseqs_rate(warming, 51) == fairseqs_rate(before, 51)


def fairseqs_optimizer():
    class Optimizer(FairseqOptimizer):
        def __init__(self):
            self.lr = None

        def set_lr(self, lr):
            self.lr = lr

        def get_lr(self):
            return self.lr

    return Optimizer()


def fairseqs_rate(schedule, update):
    options = dict(zip(schedule.options()[::2], schedule.options()[1::2]))
    cfg = SimpleNamespace(
        lr=[float(options["--lr"])],
        warmup_updates=int(options["--warmup-updates"]),
        total_num_update=int(options["--total-num-update"]),
        end_learning_rate=float(options["--end-learning-rate"]),
        power=1.0,
    )
    return PolynomialDecayLRSchedule(cfg, fairseqs_optimizer()).step_update(update)
