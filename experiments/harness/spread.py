"""Mean and deviation of a figure over seeds."""

from dataclasses import dataclass
from statistics import mean, stdev
from typing import Optional, Sequence


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (0 for a single value) of `count` values."""

    mean: float
    deviation: float
    count: int


def spread(values: Sequence[Optional[float]]) -> Optional[Spread]:
    """The spread of the values that exist; None if there are none."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Spread(mean(known), stdev(known) if len(known) > 1 else 0.0, len(known))
