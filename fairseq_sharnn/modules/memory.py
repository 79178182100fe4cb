"""The memory of one layer that attends: the rows kept of earlier chunks, as a value (spec, "Memory")."""

from typing import Callable, Dict, Iterator, List, Optional, Tuple

import torch
from torch import Tensor

from fairseq_sharnn.ops import attend as attention
from fairseq_sharnn.ops.attend_aligned import ALIGNED

# Rows in a new block are a multiple of this: what the CPU kernel takes at a time.
_TILE = 256


class _Block:
    """Backing store: `rows` [B, capacity, D], each written once; the first `filled` are written."""

    def __init__(self, rows: Tensor, filled: int):
        self.rows = rows
        self.filled = filled

    def between(self, start: int, stop: int) -> Tensor:
        """The rows [B, stop - start, D]. Most blocks are seen whole: making a view of each would slow generation down."""
        return self.rows if start == 0 and stop == self.rows.size(1) else self.rows[:, start:stop]


class Memory:
    """The rows that one layer attends to, oldest first. A value: `extended` returns a new one.

    On CPU rows lie in blocks of about C / 16. Each row is written once and never moved: adding T rows writes T rows, and a
    block is dropped when all its rows have left the context. On an accelerator (`ops.attend.is_aligned`) all rows lie in
    one block, so that attention has one product instead of six. When the block is full, the rows still seen move to a
    new one. Values share blocks. A value only reads its own rows, and a block only grows at its end, so an older value
    never changes. Of two values that extend the same one, the first writes into the block and the second makes a new
    block. Memory carries no gradient.

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
        return sum([block.filled for block in self._blocks[:-1]]) + self._stop - self._start

    @property
    def segments(self) -> Tuple[Tensor, ...]:
        """The rows as consecutive pieces [B, n, D], oldest first: views, not to be written to."""
        pieces = [block.between(start, stop) for block, start, stop in self._spans()]
        return tuple(piece for piece in pieces if piece.size(1) > 0) or (pieces[0],)

    @property
    def spans(self) -> Tuple[List[Tensor], List[int]]:
        """The rows as whole blocks [B, capacity, D], oldest first, and where the rows start and stop in each of them.

        The same rows as `segments`. For a single step: to make views would take longer than to read the rows.
        """
        blocks: List[Tensor] = []
        numbers: List[int] = []
        for block in self._blocks:
            blocks.append(block.rows)
            numbers += (0, block.filled)
        numbers[0], numbers[-1] = self._start, self._stop
        return blocks, numbers

    def to_attend(self) -> Tuple[Tuple[Tensor, ...], int]:
        """What `ops.attend` takes: the segments, and how many rows too many they begin with.

        On an accelerator that is one segment. It begins up to 7 rows early, so that it has a multiple of 8 rows.
        """
        if not attention.is_aligned(self._blocks[0].rows.device):
            return self.segments, 0
        early = -len(self) % ALIGNED
        if len(self._blocks) > 1 or self._start < early:  # nothing was added here: `ops.attend` copies the rows
            return self.segments, 0
        return (self._blocks[0].rows[:, self._start - early : self._stop],), early

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
        if attention.is_aligned(chunk.device):
            return kept._extended_in_one_block(chunk, context)
        if self._blocks[-1].rows.dtype != chunk.dtype:  # the run continues in another precision
            kept = kept.map(lambda rows: rows.to(chunk.dtype))
        kept, written = kept._fill_last_block(chunk)
        return kept if written == length else kept._add_block(chunk[:, written:], max(length, context // 16), context)

    def with_room(self, row: Tensor, context: int) -> "Memory":
        """`extended` by a `row` [B, 1, D] whose values the caller writes afterwards: until then they are anything."""
        kept = self.last(context - 1)
        block, stop = kept._blocks[-1], kept._stop
        lanes, capacity, width = block.rows.shape
        if (
            block.filled != stop
            or stop == capacity
            or (lanes, 1, width) != row.shape
            or block.rows.dtype != row.dtype
            or attention.is_aligned(row.device)
        ):
            return self.extended(row, context)
        block.filled = stop + 1
        return Memory(kept._blocks, kept._start, stop + 1)

    def _extended_in_one_block(self, chunk: Tensor, context: int) -> "Memory":
        """Add the rows of a chunk behind these. They move to a new block if this one has no room at either end."""
        block, stop, count = self._blocks[-1], self._stop + chunk.size(1), len(self) + chunk.size(1)
        if (
            len(self._blocks) > 1
            or block.filled != self._stop
            or block.rows.dtype != chunk.dtype
            or block.rows.size(1) < stop
            or self._start < -count % ALIGNED
        ):
            return self._moved(chunk, max(4 * chunk.size(1), min(count, context // 2)))
        block.rows[:, self._stop : stop] = chunk
        block.filled = stop
        return Memory((block,), self._start, stop)

    def _moved(self, chunk: Tensor, room: int) -> "Memory":
        """These rows and those of a chunk in a new block, with room for `room` rows more."""
        lanes, length, width = chunk.shape
        stop = ALIGNED + len(self) + length
        rows = chunk.new_empty((lanes, -(-(stop + room) // _TILE) * _TILE, width))
        rows[:, :ALIGNED] = 0  # attention reads up to 7 of these, and gives them no weight
        place = ALIGNED
        for piece in (*self.segments, chunk):
            rows[:, place : place + piece.size(1)] = piece
            place += piece.size(1)
        return Memory((_Block(rows, stop),), ALIGNED, stop)

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
            block.rows[:, max(0, start - ALIGNED) : start] = 0  # attention on an accelerator reads these, too
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
