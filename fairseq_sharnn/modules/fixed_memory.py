"""Memory at fixed addresses, for a step that is recorded once and replayed, as a CUDA graph is."""

from typing import Any, List, Tuple

import torch
from torch import Tensor

from fairseq_sharnn.modules.memory import LaneMemories, Memory
from fairseq_sharnn.ops.attend_aligned import ALIGNED


class Ring:
    """The places of the rows of B lanes, in a circle. All layers and lanes write their next row at the same place.

    Lanes that have read different amounts differ only in what they see. Attention reads all places, which are a multiple
    of 8 and more than the context. (With fewer places for short texts, the order of a lane's sums would depend on the
    other lanes.)
    """

    def __init__(self, lanes: int, context: int, device: torch.device):
        self.context, self.size = context, context // ALIGNED * ALIGNED + ALIGNED
        self.place = torch.zeros(1, dtype=torch.int64, device=device)  # of the next row
        self.hidden = torch.ones(
            (lanes, 1, self.size), dtype=torch.bool, device=device
        )  # places that a lane does not see

    def begin(self, counts: List[int]) -> None:
        """Lane b has counts[b] rows, the newest at the last place."""
        self.place.zero_()
        self.hidden.fill_(True)
        for lane, count in enumerate(counts):
            self.hidden[lane, :, self.size - count :] = False

    def show_next(self) -> None:
        """Show the place of the next row to all lanes, and hide the row that leaves the context."""
        self.hidden.index_fill_(2, (self.place - self.context) % self.size, True)
        self.hidden.index_fill_(2, self.place, False)

    def advance(self) -> None:
        """Go to the next place."""
        self.place.copy_((self.place + 1) % self.size)


class FixedMemory:
    """The memory of one layer as `Block` uses it, written in place: one row a step, for B lanes of width D.

    It is not a value, as `Memory` is: an older state is overwritten.
    """

    def __init__(self, ring: Ring, lanes: int, like: Tensor):
        """like: has the width, type and device of the rows."""
        self._ring = ring
        self._rows = like.new_zeros((lanes, ring.size, like.size(-1)))  # numbers in all rows: hidden ones get weight 0

    def load(self, memory: Any) -> List[int]:
        """Take the rows of a Memory, or of a LaneMemories, up to the last place. Returns how many each lane has."""
        context, end = self._ring.context, self._ring.size
        if not isinstance(memory, LaneMemories):
            kept = memory.last(context).rows
            self._rows[:, end - kept.size(1) :] = kept
            return [kept.size(1)] * len(kept)
        counts = []
        for own, lane in zip(self._rows, memory):
            kept = own[:0] if lane is None else lane.last(context).rows[0]
            own[end - len(kept) :] = kept
            counts.append(len(kept))
        return counts

    def to_memory(self, count: int, stop: int) -> Memory:
        """The last `count` rows before the place `stop`, oldest first, as a value."""
        start = stop - count
        pieces = [self._rows[:, start:stop]] if start >= 0 else [self._rows[:, start:], self._rows[:, :stop]]
        return Memory.from_rows(torch.cat(pieces, dim=1))

    def extended(self, row: Tensor, context: int) -> "FixedMemory":
        """Write one row [B, 1, D] at the next place."""
        self._rows.index_copy_(1, self._ring.place, row)
        return self

    def to_attend(self) -> Tuple[Tuple[Tensor, ...], Tensor]:
        """All rows, and which of them each lane does not see."""
        return (self._rows,), self._ring.hidden

    def last(self, count: int) -> "FixedMemory":
        """The same memory: the ring hides what has left the context."""
        return self
