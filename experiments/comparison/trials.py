"""What one training may spend, and the settings that tuning tries."""

from dataclasses import dataclass
from typing import Dict, Optional, Tuple


@dataclass(frozen=True)
class Budget:
    """What one training may spend: minutes (without validation and start-up; of what: `Preset.charge`), or updates."""

    minutes: Optional[float] = None
    updates: Optional[int] = None

    @property
    def seconds(self) -> Optional[float]:
        return None if self.minutes is None else self.minutes * 60

    def __str__(self) -> str:
        number, unit = (self.minutes, "minute") if self.updates is None else (self.updates, "update")
        return f"{number:,g} {unit}" + ("" if number == 1 else "s")


@dataclass(frozen=True)
class Trial:
    """One setting of the learning rate, and of the lengths in training.

    schedule: "constant"; "linear", which falls to a twentieth; or "halved", the paper's two passes, with half the rate in
    the last 5 of 37 parts of a run. warmup: a share of the run's updates, so that a short trial resembles a longer run.
    length: bytes in a window or chunk, context: the context length; None for those of the preset and the contestant.
    """

    lr: float
    schedule: str
    warmup: float
    length: Optional[int] = None
    context: Optional[int] = None

    @property
    def shape(self) -> str:
        """The lengths as a name: `128`, `128-512` with a context, or empty."""
        return "-".join(str(value) for value in (self.length, self.context) if value is not None)

    def __str__(self) -> str:
        length = "" if self.length is None else f", length {self.length}"
        context = "" if self.context is None else f", context {self.context}"
        return f"lr {self.lr:g}, {self.schedule}, warm-up {self.warmup:.0%} of the updates{length}{context}"

    @property
    def end(self) -> float:
        """The learning rate at the end of the schedule."""
        return self.lr / {"constant": 1, "halved": 2, "linear": 20}[self.schedule]


def grid(
    rates: Tuple[float, float, float], warmup: float, other_warmup: float, other_schedule: str = "constant"
) -> Tuple[Trial, ...]:
    """Three learning rates (the middle one first), then another warm-up and another schedule at the middle one."""
    low, middle, high = rates
    return (
        *(Trial(lr, "linear", warmup) for lr in (middle, low, high)),
        Trial(middle, "linear", other_warmup),
        Trial(middle, other_schedule, warmup),
    )


def only_rates(rates: Tuple[float, ...], warmup: float) -> Tuple[Trial, ...]:
    """Trials that differ in the learning rate only."""
    return tuple(Trial(lr, "linear", warmup) for lr in rates)


# A preset with fewer trials takes the first ones of each. The outer keys are the values of `Preset.tuning`. `lamb` is LAMB
# without a minimum trust, whose steps are smaller; `adam` is SHA-RNN with Adam.
TRIALS: Dict[str, Dict[str, Tuple[Trial, ...]]] = {
    "small": {
        "sha_rnn": grid((2e-3, 4e-3, 8e-3), 0.5, 0.3),
        "lamb": only_rates((8e-3, 4e-3, 16e-3, 32e-3, 2e-3), 0.5),
        "adam": grid((1e-3, 2e-3, 4e-3), 0.3, 0.1),
        "transformer": grid((1e-3, 2e-3, 4e-3), 0.1, 0.3),
        "lstm": grid((1e-3, 2e-3, 4e-3), 0.1, 0.3),
    },
    "large": {
        "sha_rnn": grid((1e-3, 2e-3, 4e-3), 0.05, 0.2, "halved"),
        "lamb": only_rates((4e-3, 2e-3, 8e-3, 16e-3, 1e-3), 0.05),
        "adam": grid((2.5e-4, 5e-4, 1e-3), 0.05, 0.2, "halved"),
        "transformer": grid((2.5e-4, 5e-4, 1e-3), 0.05, 0.2, "halved"),
        "lstm": grid((5e-4, 1e-3, 2e-3), 0.05, 0.2, "halved"),
    },
}
