from types import SimpleNamespace

import pytest
from fairseq.optim import FairseqOptimizer
from fairseq.optim.lr_scheduler.polynomial_decay_schedule import PolynomialDecayLRSchedule
from fairseq.optim.lr_scheduler.tri_stage_lr_scheduler import TriStageLRSchedule

from experiments.comparison.learning_rate import LearningRate
from experiments.comparison.trials import Trial


def test_a_trial_becomes_fairseqs_options():
    options = LearningRate.of(Trial(4e-3, "linear", 0.25), total=1000).options()
    assert dict(zip(options[::2], options[1::2])) == {
        "--lr-scheduler": "polynomial_decay",
        "--lr": "0.004",
        "--warmup-updates": "250",
        "--total-num-update": "1000",
        "--end-learning-rate": "0.0002",
    }
    assert LearningRate.of(Trial(1e-3, "constant", 0.1), 300).options() == (
        ["--lr-scheduler", "fixed", "--lr", "0.001", "--warmup-updates", "30"]
    )
    assert LearningRate.of(Trial(1e-3, "linear", 0.9), 1).total == 2  # a schedule must end after its warm-up


def test_the_papers_two_passes():
    """By fairseq's own scheduler: 32 of 37 parts at the full rate, the rest at half, and a run that turns out longer."""
    first = LearningRate.of(Trial(2e-3, "halved", 0.1), 370)
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
    before = LearningRate.of(Trial(4e-3, "linear", 0.1), 1000)
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
