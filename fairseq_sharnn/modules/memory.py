"""The memory of one layer that attends: the rows kept of earlier chunks, as a value (spec, "Memory")."""

from typing import Callable, Dict, Iterator, List, Optional, Tuple

import torch
from torch import Tensor

# Rows in a new block are a multiple of this: what the CPU kernel takes at a time.
_TILE = 256


class _Block:
    """Backing store: `rows` [B, capacity, D], each written once; the first `filled` are written."""

    def __init__(self, rows: Tensor, filled: int):
        self.rows = rows
        self.filled = filled


class Memory:
    """The rows that one layer attends to, oldest first. A value: `extended` returns a new one.

    Rows lie in blocks of about C / 16. Each row is written once and never moved: adding T rows writes T rows, and a block
    is dropped when all its rows have left the context. Values share blocks. A value only reads its own rows, and a block
    only grows at its end, so an older value never changes. Of two values that extend the same one, the first writes into
    the block and the second makes a new block. Memory carries no gradient.

    (The alternative is a ring of exactly C rows. It saves the last block's room, but a chunk that is run again, two
    beams that continue one state, or an update of several chunks would find their rows overwritten.)
    """

    def __init__(self, blocks: Tuple[_Block, ...], start: int, stop: int):
        """The rows from `start` in the first block to `stop` in the last."""
        self._blocks = blocks
        self._start = start
        self._stop = stop

    @classmethod
    def from_rows(cls, rows: Tensor) -> "Memory":
        """Make a memory of `rows` [B, S, D], oldest first."""
        return cls((_Block(rows.detach(), rows.size(1)),), 0, rows.size(1))

    def _spans(self) -> Iterator[Tuple[_Block, int, int]]:
        last = len(self._blocks) - 1
        for number, block in enumerate(self._blocks):
            yield block, self._start if number == 0 else 0, self._stop if number == last else block.filled

    def __len__(self) -> int:
        return sum(stop - start for _, start, stop in self._spans())

    @property
    def segments(self) -> Tuple[Tensor, ...]:
        """The rows as consecutive pieces [B, n, D], oldest first: views, not to be written to."""
        pieces = [block.rows[:, start:stop] for block, start, stop in self._spans()]
        return tuple(piece for piece in pieces if piece.size(1) > 0) or (pieces[0],)

    @property
    def rows(self) -> Tensor:
        """The rows [B, S, D] in one tensor, oldest first; a copy if they lie in several blocks."""
        segments = self.segments
        return segments[0] if len(segments) == 1 else torch.cat(segments, dim=1)

    def last(self, count: int) -> "Memory":
        """The same memory cut to its newest `count` rows (a shorter one stays whole)."""
        excess = max(0, len(self) - max(count, 0))
        blocks, start = self._blocks, self._start
        while len(blocks) > 1 and excess >= blocks[0].filled - start:
            excess -= blocks[0].filled - start
            blocks, start = blocks[1:], 0
        return Memory(blocks, start + excess, self._stop)

    def extended(self, chunk: Tensor, context: int) -> "Memory":
        """Cut to the newest max(0, context − T) rows and add the T rows of `chunk` [B, T, D] after them.

        Raises ValueError if the number of lanes or the width differs.
        """
        lanes, length, width = chunk.shape
        shape = self._blocks[0].rows.shape
        if (shape[0], shape[2]) != (lanes, width):
            raise ValueError(
                f"memory of {shape[0]} lanes x {shape[2]} columns "
                f"cannot take a chunk of {lanes} lanes x {width} columns"
            )
        chunk = chunk.detach()
        kept = self.last(context - length)
        if self._blocks[-1].rows.dtype != chunk.dtype:  # the run continues in another precision
            kept = kept.map(lambda rows: rows.to(chunk.dtype))
        kept, written = kept._fill_last_block(chunk)
        return kept if written == length else kept._add_block(chunk[:, written:], max(length, context // 16), context)

    def _fill_last_block(self, chunk: Tensor) -> Tuple["Memory", int]:
        """Write as many rows of the chunk as the last block has room for. Returns the memory and their number."""
        last = self._blocks[-1]
        free = (
            last.rows.size(1) - self._stop if last.filled == self._stop else 0
        )  # else another value has written there
        count = min(free, chunk.size(1))
        stop = self._stop + count
        if count > 0:
            last.rows[:, self._stop : stop] = chunk[:, :count]
            last.filled = stop
        return Memory(self._blocks, self._start, stop), count

    def _add_block(self, rows: Tensor, room: int, context: int) -> "Memory":
        """Add a block for `rows` [B, n, D], with room for about `room` rows and at most `context`, if n is not more."""
        lanes, count, width = rows.shape
        blocks, last = self._blocks, self._blocks[-1]
        if self._stop < last.rows.size(1):  # another value continues in this block: ours ends here for good
            blocks = (*blocks[:-1], _Block(last.rows[:, : self._stop], self._stop))
        tiled = -(-room // _TILE) * _TILE
        fresh = _Block(rows.new_empty((lanes, max(min(tiled, context), count), width)), count)
        fresh.rows[:, :count] = rows
        if len(blocks) == 1 and self._start == self._stop:  # nothing is left of the only block
            return Memory((fresh,), 0, count)
        return Memory((*blocks, fresh), self._start, count)

    def map(self, function: Callable[[Tensor], Tensor]) -> "Memory":
        """Apply a function to the rows [B, n, D] of each block (to move, cast or select lanes)."""
        pieces = [function(piece).detach() for piece in self.segments]
        blocks = tuple(_Block(piece, piece.size(1)) for piece in pieces)
        return Memory(blocks, 0, blocks[-1].filled)

    def to_dict(self) -> Dict:
        """The rows, and where they lie in their blocks: the last bit of a product on CPU can depend on that."""
        spans = list(self._spans())
        return {
            "segments": [
                block.rows[:, start:stop].cpu().clone(memory_format=torch.contiguous_format)
                for block, start, stop in spans
            ],
            "starts": [start for _, start, _ in spans],
            "capacities": [block.rows.size(1) for block, _, _ in spans],
        }

    @classmethod
    def from_dict(cls, saved: Dict, device: torch.device) -> "Memory":
        """The memory that `to_dict` saved, on `device`."""
        if "rows" in saved:  # as it was saved before there were blocks
            saved = {"segments": [saved["rows"]], "starts": [saved["start"]], "capacities": [saved["capacity"]]}
        blocks: List[_Block] = []
        for rows, start, capacity in zip(saved["segments"], saved["starts"], saved["capacities"]):
            stop = start + rows.size(1)
            block = _Block(torch.empty((rows.size(0), capacity, rows.size(2)), dtype=rows.dtype, device=device), stop)
            block.rows[:, start:stop] = rows.to(device)
            blocks.append(block)
        return cls(tuple(blocks), saved["starts"][0], blocks[-1].filled)


class LaneMemories(Tuple[Optional[Memory], ...]):
    """One memory of each lane, for lanes that have read different amounts; None for a lane that does not attend."""

    def map(self, function: Callable[[Tensor], Tensor]) -> "LaneMemories":
        """Apply a function to the rows [1, n, D] of each lane."""
        return LaneMemories(None if memory is None else memory.map(function) for memory in self)


def empty_memory(lanes: int, width: int, like: Tensor) -> Memory:
    """Memory without rows, for B lanes of width D."""
    return Memory.from_rows(torch.empty((lanes, 0, width), dtype=like.dtype, device=like.device))
