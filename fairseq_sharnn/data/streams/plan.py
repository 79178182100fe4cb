"""The plan of one training epoch as plain numbers: saved with a checkpoint, so that another configuration can go on."""

from dataclasses import asdict, dataclass, replace
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from fairseq_sharnn.data.streams.lanes import LanePlan, chunk_ends, remaining_lanes, training_lanes


@dataclass(frozen=True)
class TrainingPlan:
    """Everything that decides what the lanes read in an epoch.

    ranges: unread file ranges [start, stop), in file order. lanes: of all workers together. length: T. seed: of the
    chunk lengths (None: no jitter). lead: columns in front of the first chunk that only rebuild state. size and
    fingerprint: of the file.
    """

    ranges: Tuple[Tuple[int, int], ...]
    lanes: int
    length: int
    seed: Optional[Tuple[int, ...]]
    lead: int
    size: int
    fingerprint: str

    def lane_plan(self) -> LanePlan:
        if self.ranges == ((0, self.size),):
            return training_lanes(self.size, self.lanes)
        return remaining_lanes(np.array(self.ranges, dtype=np.int64), self.lanes, self.lead)

    def ends(self) -> Sequence[int]:
        """Where each chunk ends, in columns behind the lead."""
        return chunk_ends(self.lane_plan().columns - self.lead, self.length, self.seed)

    def same_reading(self, other: "TrainingPlan") -> bool:
        """Whether the configuration that made `other` can read on as this plan does.

        Another --seed can: this epoch keeps the chunk lengths it began with.
        """
        return (self.lanes, self.length, self.seed is None) == (other.lanes, other.length, other.seed is None)

    def cut_anew(self, chunk: int, wanted: "TrainingPlan", rows: int) -> "TrainingPlan":
        """What is unread after `chunk` chunks, in the lanes and chunk length of `wanted`.

        The unread ranges of the old lanes are joined in file order and cut into the new lanes. `rows`: bytes to read
        before each lane's position so that its memory is filled, as far as the file reaches back for all of them.
        """
        column = self.column(chunk)
        unread = self.lane_plan().unread(column)
        seed = None if wanted.seed is None else (*wanted.seed, *(self.seed or ())[2:], column)
        plan = replace(wanted, ranges=tuple((int(a), int(b)) for a, b in unread), seed=seed, lead=0, size=self.size)
        lanes = plan.lane_plan()
        earliest = int(lanes.file_positions(lanes.first).min())
        return replace(plan, lead=min(rows, earliest))

    def column(self, chunk: int) -> int:
        """Column at which chunk `chunk` begins."""
        return self.lead + (int(self.ends()[chunk - 1]) if chunk > 0 else 0)

    def to_dict(self) -> Dict:
        """Numbers, lists and strings alone."""
        plain = asdict(self)
        plain["ranges"] = [list(pair) for pair in self.ranges]
        plain["seed"] = None if self.seed is None else list(self.seed)
        return plain

    @classmethod
    def from_dict(cls, plain: Dict) -> "TrainingPlan":
        seed: Optional[List[int]] = plain["seed"]
        return cls(
            **{
                **plain,
                "ranges": tuple((int(a), int(b)) for a, b in plain["ranges"]),
                "seed": None if seed is None else tuple(int(number) for number in seed),
            }
        )
