"""The plan of one training epoch as plain numbers: saved in checkpoints, so that another configuration can resume."""

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from fairseq_sharnn.data.streams.lanes import LanePlan, chunk_ends, remaining_lanes, training_lanes


@dataclass(frozen=True)
class TrainingPlan:
    """Everything that decides what the lanes read in an epoch.

    ranges: unread file ranges [start, stop), in file order.
    lanes: number of lanes of all workers together.
    length: of a chunk, T.
    seed: of the chunk lengths (None: no jitter).
    warmup: columns before the first chunk, which only rebuild state.
    size, fingerprint: of the file.
    """

    ranges: Tuple[Tuple[int, int], ...]
    lanes: int
    length: int
    seed: Optional[Tuple[int, ...]]
    warmup: int
    size: int
    fingerprint: str

    @cached_property
    def lane_plan(self) -> LanePlan:
        """Where each lane reads."""
        if self.ranges == ((0, self.size),):
            return training_lanes(self.size, self.lanes)
        return remaining_lanes(np.array(self.ranges, dtype=np.int64), self.lanes, self.warmup)

    @cached_property
    def ends(self) -> Sequence[int]:
        """Where each chunk ends, in columns after the warm-up."""
        return chunk_ends(self.lane_plan.columns - self.warmup, self.length, self.seed)

    def same_reading(self, other: "TrainingPlan") -> bool:
        """Whether the configuration that made `other` can continue this plan as it is.

        Another --seed can. The epoch then keeps the chunk lengths that it began with.
        """
        return (self.lanes, self.length, self.seed is None) == (other.lanes, other.length, other.seed is None)

    def cut_anew(self, chunk: int, wanted: "TrainingPlan", warmup: int) -> "TrainingPlan":
        """What is unread after `chunk` chunks, in the lanes and chunk length of `wanted`.

        The unread ranges of the old lanes are joined in file order and cut into the new lanes. `warmup`: bytes to read
        before each lane's position, to fill its memory. It is less where the file begins nearer to one of the lanes.
        """
        column = self.column(chunk)
        unread = self.lane_plan.unread(column)
        seed = None if wanted.seed is None else (*wanted.seed, *(self.seed or ())[2:], column)
        plan = replace(wanted, ranges=tuple((int(a), int(b)) for a, b in unread), seed=seed, warmup=0, size=self.size)
        lanes = plan.lane_plan
        earliest = int(lanes.file_positions(lanes.first).min())
        return replace(plan, warmup=min(warmup, earliest))

    def column(self, chunk: int) -> int:
        """Column at which chunk `chunk` begins."""
        return self.warmup + (int(self.ends[chunk - 1]) if chunk > 0 else 0)

    def to_dict(self) -> Dict[str, Any]:
        """The plan as numbers, lists and strings, under the names that all versions of the package read and write."""
        plain = asdict(self)
        plain["lead"] = plain.pop("warmup")
        plain["ranges"] = [list(pair) for pair in self.ranges]
        plain["seed"] = None if self.seed is None else list(self.seed)
        return plain

    @classmethod
    def from_dict(cls, plain: Dict[str, Any]) -> "TrainingPlan":
        """The plan that `to_dict` wrote."""
        seed: Optional[List[int]] = plain["seed"]
        return cls(
            ranges=tuple((int(a), int(b)) for a, b in plain["ranges"]),
            lanes=plain["lanes"],
            length=plain["length"],
            seed=None if seed is None else tuple(int(number) for number in seed),
            warmup=plain["lead"],
            size=plain["size"],
            fingerprint=plain["fingerprint"],
        )
