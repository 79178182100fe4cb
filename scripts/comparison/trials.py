"""What tuning tries: the same number of settings for every family."""

from dataclasses import dataclass
from typing import Dict, Tuple

from comparison.presets import Preset


@dataclass(frozen=True)
class Trial:
    """One setting. schedule: constant, linear or inverse_sqrt. warmup: share of the run's updates, from 1 on their number.

    A warm-up in shares makes a short trial the image of a longer run.
    """

    lr: float
    schedule: str
    warmup: float

    def __str__(self) -> str:
        warmup = f"{self.warmup:.0%} of the updates" if self.warmup < 1 else f"{self.warmup:g} updates"
        return f"lr {self.lr:g}, {self.schedule}, warm-up {warmup}"

    def options(self, total_updates: int) -> Tuple[str, ...]:
        """fairseq's options for it. A linear schedule falls to a twentieth of its rate at `total_updates`."""
        warmup = max(1, round(self.warmup * total_updates if self.warmup < 1 else self.warmup))
        common = ("--lr", f"{self.lr:g}", "--warmup-updates", str(warmup))
        if self.schedule == "constant":
            return ("--lr-scheduler", "fixed", *common)
        if self.schedule == "inverse_sqrt":
            return ("--lr-scheduler", "inverse_sqrt", *common)
        total = max(total_updates, warmup + 1)
        end = f"{self.lr / 20:g}"
        return (
            *("--lr-scheduler", "polynomial_decay", *common),
            *("--total-num-update", str(total), "--end-learning-rate", end),
        )


# In order of trust: a preset with fewer trials takes the first ones. The keys are what `Preset.tuning` names.
TRIALS: Dict[str, Dict[str, Tuple[Trial, ...]]] = {
    "small": {
        "sha_rnn": (Trial(4e-3, "linear", 0.3), Trial(2e-3, "linear", 0.1), Trial(8e-3, "linear", 0.3)),
        "transformer": (Trial(4e-3, "linear", 0.1), Trial(2e-3, "linear", 0.1), Trial(4e-3, "constant", 0.2)),
        "lstm": (Trial(8e-3, "linear", 0.1), Trial(4e-3, "linear", 0.1), Trial(4e-3, "constant", 0.2)),
        # SHA-RNN with Adam, whose steps are not scaled by the weights' norm
        "adam": (Trial(4e-3, "linear", 0.1), Trial(2e-3, "linear", 0.1), Trial(8e-3, "linear", 0.3)),
    },
    "large": {
        "sha_rnn": (
            Trial(2e-3, "constant", 800),
            Trial(2e-3, "linear", 800),
            Trial(4e-3, "linear", 0.1),
            Trial(1e-3, "constant", 800),
        ),
        "transformer": (
            Trial(5e-4, "linear", 0.05),
            Trial(1e-3, "linear", 0.1),
            Trial(2.5e-4, "linear", 0.05),
            Trial(5e-4, "inverse_sqrt", 4000),
        ),
        "lstm": (
            Trial(1e-3, "linear", 0.05),
            Trial(2e-3, "linear", 0.05),
            Trial(5e-4, "linear", 0.05),
            Trial(1e-3, "constant", 800),
        ),
        "adam": (
            Trial(1e-3, "linear", 0.05),
            Trial(5e-4, "linear", 0.05),
            Trial(2e-3, "linear", 0.1),
            Trial(1e-3, "constant", 800),
        ),
    },
    "brief": {  # large models, minutes on a GPU
        "sha_rnn": (Trial(2e-3, "linear", 0.2), Trial(4e-3, "linear", 0.3)),
        "transformer": (Trial(5e-4, "linear", 0.1), Trial(1e-3, "linear", 0.1)),
        "lstm": (Trial(1e-3, "linear", 0.1), Trial(2e-3, "linear", 0.1)),
        "adam": (Trial(1e-3, "linear", 0.1), Trial(5e-4, "linear", 0.1)),
    },
}


def trials_of(preset: Preset, family: str) -> Tuple[Trial, ...]:
    """The trials of a family in a preset, as many for each."""
    return TRIALS[preset.tuning][family][: preset.trials]
