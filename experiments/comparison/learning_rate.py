"""The learning rate of a run whose number of updates is only estimated when it begins."""

from dataclasses import dataclass, replace
from typing import List

from experiments.comparison.trials import Trial

SECOND_PASS = 32 / 37  # share of a run after which the paper halves the rate


@dataclass(frozen=True)
class LearningRate:
    """A warm-up to `peak`, then what the kind says.

    constant: nothing more. linear: a fall that reaches `end` at `total` updates. halved: `end` for the last 5 of 37 parts,
    as in the paper's 32 epochs and 5 more at half the rate.
    """

    kind: str
    peak: float
    end: float
    warmup: int
    total: int

    @classmethod
    def of(cls, trial: Trial, total: int) -> "LearningRate":
        """The trial's schedule over `total` updates."""
        warmup = max(1, round(trial.warmup * total))
        return cls(trial.schedule, trial.lr, trial.end, warmup, max(total, warmup + 1))

    def rate_at(self, update: int) -> float:
        """The rate of the fall at an update after the warm-up."""
        return self.end + (self.peak - self.end) * max(0.0, 1 - (update - self.warmup) / (self.total - self.warmup))

    def continued(self, update: int, total: int) -> "LearningRate":
        """The same from `update` on, but with its end at `total`: the slope of a fall changes, the rate does not jump."""
        total = max(total, update + 1, self.warmup + 1)
        if self.kind != "linear" or update <= self.warmup:
            return replace(self, total=total)
        left = 1 - (update - self.warmup) / (total - self.warmup)
        return replace(self, peak=self.end + (self.rate_at(update) - self.end) / left, total=total)

    def options(self) -> List[str]:
        """fairseq's options for it."""
        common = ["--lr", f"{self.peak:.8g}", "--warmup-updates", str(self.warmup)]
        if self.kind == "linear":
            fall = ["--total-num-update", str(self.total), "--end-learning-rate", f"{self.end:.8g}"]
            return ["--lr-scheduler", "polynomial_decay", *common, *fall]
        if self.kind == "halved":
            hold = max(0, round(SECOND_PASS * self.total) - self.warmup)
            warmup = ["--lr", f"{self.peak:.8g}", "--warmup-steps", str(self.warmup), "--init-lr-scale", "0.001"]
            second = ["--decay-steps", "1", "--final-lr-scale", f"{self.end / self.peak:.8g}"]
            return ["--lr-scheduler", "tri_stage", *warmup, "--hold-steps", str(hold), *second]
        return ["--lr-scheduler", "fixed", *common]
