"""Which byte is read where: a corpus cut into lanes, lanes cut into chunks. Arithmetic only, no files.

A lane reads one stretch of the corpus in order, one byte per column. The lanes of all workers advance together, so a
chunk is a range of columns. Before its stretch a lane may read `warmup` bytes, which fill its state and are not scored.
(In a token corpus read "token" for "byte".)
"""

from dataclasses import dataclass
from typing import Any, List, Optional, Sequence, Tuple, cast

import numpy as np

EXHAUSTED = -1


@dataclass(frozen=True)
class LanePlan:
    """Where each of G lanes reads.

    ranges: the file ranges [start, stop) that are read in this epoch, in file order, as one sequence of bytes.
    first: where the stretch of each lane begins in that sequence.
    scored: how many bytes each lane scores.
    warmup: how many bytes of the file, just before the stretch, each lane reads first without scoring them.
    """

    ranges: np.ndarray  # [R, 2]
    first: np.ndarray  # [G]
    scored: np.ndarray  # [G]
    warmup: np.ndarray  # [G]

    @property
    def lanes(self) -> int:
        return len(self.first)

    @property
    def columns(self) -> int:
        """Columns until the last lane is exhausted."""
        return int((self.warmup + self.scored).max())

    def file_positions(self, sequence: np.ndarray) -> np.ndarray:
        """Turn places in the sequence of ranges into places in the file."""
        starts = np.concatenate([[0], np.cumsum(self.ranges[:, 1] - self.ranges[:, 0])])
        part = np.clip(np.searchsorted(starts, sequence, side="right") - 1, 0, len(self.ranges) - 1)
        return self.ranges[part, 0] + sequence - starts[part]

    def targets(self, my_lanes: slice, start: int, stop: int) -> Tuple[np.ndarray, np.ndarray]:
        """File position of the byte that each lane predicts in columns [start, stop), and whether it is scored.

        my_lanes: which lanes. Both results are [lanes, stop − start]. The position is EXHAUSTED (−1) after a lane's end.
        """
        warmup, scored = self.warmup[my_lanes, None], self.scored[my_lanes, None]
        column = np.arange(start, stop)[None, :] - warmup  # negative while the lane warms up
        begin = self.first[my_lanes, None]
        position = np.where(
            column < 0,
            self.file_positions(begin) + column,
            self.file_positions(begin + np.clip(column, 0, np.maximum(scored - 1, 0))),
        )
        exists = column < scored
        return np.where(exists, position, EXHAUSTED), exists & (column >= 0)

    def unread(self, column: int) -> np.ndarray:
        """File ranges [R, 2], in file order, that the lanes must still score after `column` columns."""
        done = np.clip(column - self.warmup, 0, self.scored)
        starts = np.concatenate([[0], np.cumsum(self.ranges[:, 1] - self.ranges[:, 0])])
        left: List[Tuple[int, int]] = []
        for begin, end in zip(self.first + done, self.first + self.scored):
            for part, (low, high) in enumerate(zip(starts[:-1], starts[1:])):
                low, high = max(low, begin), min(high, end)
                if low < high:
                    shift = self.ranges[part, 0] - starts[part]
                    left.append((low + shift, high + shift))
        return merge_ranges(left)


def merge_ranges(ranges: Sequence[Tuple[int, int]]) -> np.ndarray:
    """Sort ranges [start, stop) and join those that touch: [R, 2]."""
    merged: List[List[int]] = []
    for start, stop in sorted((int(a), int(b)) for a, b in ranges):
        if merged and merged[-1][1] == start:
            merged[-1][1] = stop
        else:
            merged.append([start, stop])
    return np.array(merged, dtype=np.int64).reshape(-1, 2)


def training_lanes(total: int, lanes: int) -> LanePlan:
    """Lane b is the b-th run of ⌊N / G⌋ bytes. The last N mod G bytes are left out.

    Spec: "Published training recipe".
    """
    length = total // lanes
    numbers = np.arange(lanes, dtype=np.int64)
    whole = np.array([[0, total]], dtype=np.int64)
    return LanePlan(whole, numbers * length, np.full(lanes, length), np.zeros(lanes, dtype=np.int64))


def remaining_lanes(ranges: np.ndarray, lanes: int, warmup: int) -> LanePlan:
    """Cut the U bytes in `ranges` [R, 2] into lanes of ⌈U / G⌉ or ⌊U / G⌋ bytes, none left out.

    Each lane first reads the `warmup` bytes before its stretch.
    """
    ranges = np.asarray(ranges, dtype=np.int64).reshape(-1, 2)
    total = int((ranges[:, 1] - ranges[:, 0]).sum())
    scored = np.full(lanes, total // lanes) + (np.arange(lanes) < total % lanes)
    return LanePlan(ranges, np.cumsum(scored) - scored, scored, np.full(lanes, warmup))


def evaluation_lanes(total: int, lanes: int, warmup: int = 0) -> LanePlan:
    """Cut `total` bytes so that every byte is scored once and every lane but the first warms up on `warmup` bytes.

    All lanes have the same number of columns (the last may end early). The first lane has nothing before it, so it
    scores as many bytes as the others read. So no lane ever waits, and no state needs a mask.
    """
    warmup = min(warmup, total)
    columns = -(-(total + (lanes - 1) * warmup) // lanes)
    warmups = np.full(lanes, warmup)
    warmups[0] = 0
    ends = np.minimum(columns + np.arange(lanes, dtype=np.int64) * (columns - warmup), total)
    first = np.concatenate([[0], ends[:-1]])
    scored = ends - first
    warmups[scored == 0] = 0
    return LanePlan(np.array([[0, total]], dtype=np.int64), first, scored, warmups)


class FixedChunks(Sequence[int]):
    """Ends of chunks of `length` columns, computed when they are needed. The last chunk takes what is left."""

    def __init__(self, columns: int, length: int):
        self.columns = columns
        self.length = length

    def __len__(self) -> int:
        return -(-self.columns // self.length)

    def __getitem__(self, index: Any) -> Any:
        """The end of a chunk; for a slice, a list of ends."""
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        return min((range(len(self))[index] + 1) * self.length, self.columns)


def jittered_chunks(columns: int, length: int, rng: np.random.Generator) -> np.ndarray:
    """Ends of chunks of varied length, as published (spec, "Published training recipe").

    The base is `length` with probability 0.95, else half of it. A chunk has min(length, max(5, ⌊N(base, 5)⌋)) columns.
    The last chunk takes what is left.
    """
    ends: List[np.ndarray] = []
    reached = 0
    shortest_mean = max(1, min(length, 5), int(0.9 * length))
    while reached < columns:
        # one draw of each kind per chunk, in blocks of about as many as are needed
        count = min((columns - reached) // shortest_mean + 16, 1 << 20)
        base = np.where(rng.random(count) < 0.95, length, length / 2)
        drawn = np.trunc(rng.normal(base, 5.0)).astype(np.int64)
        block = reached + np.cumsum(np.minimum(length, np.maximum(5, drawn)))
        ends.append(block)
        reached = int(block[-1])
    everything = np.concatenate(ends)
    inside = everything[everything < columns]
    return np.concatenate([inside, [columns]])


def chunk_ends(columns: int, length: int, seed: Optional[Sequence[int]]) -> Sequence[int]:
    """Ends of the chunks of an epoch: jittered, as the numbers in `seed` decide, or of equal length when it is None."""
    if seed is None:
        return FixedChunks(columns, length)
    return cast(Sequence[int], jittered_chunks(columns, length, np.random.default_rng(list(seed))))
