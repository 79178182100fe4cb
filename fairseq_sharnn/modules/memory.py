"""The memory of one attending layer: what is kept of the chunks before, as a value (spec, "Memory")."""

from typing import Callable, Dict, Iterator, List, Tuple

import torch
from torch import Tensor

# Rows in a new block are a multiple of this: what the CPU kernel takes at a time.
_TILE = 256


class _Block:
    """Backing store: `rows` [B, capacity, D], each written once; `filled` of them are."""

    def __init__(self, rows: Tensor, filled: int):
        self.rows = rows
        self.filled = filled


class Memory:
    """The rows one layer attends to, oldest first. A value: `extended` returns a new one.

    Rows lie in blocks of about C / 16, each row written once and never moved: adding T rows writes T rows, and what
    leaves the context is dropped with its block. Older values share the blocks and keep reading their own rows; one
    that is extended twice goes on in a block of its own. Memory never carries a gradient.

    (The alternative is a ring of exactly C rows. It saves the last block's room, but a chunk that is run again, two
    beams that go on from one state, or an update of several chunks would find their rows overwritten.)
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
        """The rows [B, S, D] in one tensor, oldest first; a copy where they lie in several blocks."""
        segments = self.segments
        return segments[0] if len(segments) == 1 else torch.cat(segments, dim=1)

    def last(self, count: int) -> "Memory":
        """The same memory cut to its newest `count` rows (a shorter one is left whole)."""
        excess = max(0, len(self) - max(count, 0))
        blocks, start = self._blocks, self._start
        while len(blocks) > 1 and excess >= blocks[0].filled - start:
            excess -= blocks[0].filled - start
            blocks, start = blocks[1:], 0
        return Memory(blocks, start + excess, self._stop)

    def extended(self, chunk: Tensor, context: int) -> "Memory":
        """Cut to the newest max(0, context − T) rows and add the T rows of `chunk` [B, T, D] behind them.

        Raises ValueError when the number of lanes or the width differs.
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
        if self._blocks[-1].rows.dtype != chunk.dtype:  # the run goes on in another precision
            kept = kept.map(lambda rows: rows.to(chunk.dtype))
        blocks, start, stop = kept._blocks, kept._start, kept._stop
        last = blocks[-1]
        room = last.rows.size(1) - stop if last.filled == stop else 0
        here = min(room, length)
        if here > 0:
            last.rows[:, stop : stop + here] = chunk[:, :here]
            last.filled = stop = stop + here
        if here < length:
            if stop < last.rows.size(1):  # another value goes on in this block: ours ends here for good
                blocks = (*blocks[:-1], _Block(last.rows[:, :stop], stop))
            rows = -(-max(length, context // 16) // _TILE) * _TILE
            fresh = _Block(chunk.new_empty((lanes, max(min(rows, context), length - here), width)), length - here)
            fresh.rows[:, : length - here] = chunk[:, here:]
            empty = len(blocks) == 1 and start == stop
            blocks, start, stop = ((fresh,), 0, length) if empty else ((*blocks, fresh), start, length - here)
        return Memory(blocks, start, stop)

    def map(self, function: Callable[[Tensor], Tensor]) -> "Memory":
        """Apply a function to the rows [B, n, D] of each block (move, cast, select lanes)."""
        pieces = [function(piece).detach() for piece in self.segments]
        blocks = tuple(_Block(piece, piece.size(1)) for piece in pieces)
        return Memory(blocks, 0, blocks[-1].filled)

    def to_dict(self) -> Dict:
        """The rows, and where they lie in their blocks: on CPU the last bit of a product can depend on that."""
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


def empty_memory(lanes: int, width: int, like: Tensor) -> Memory:
    """Memory without rows, for B lanes of width D."""
    return Memory.from_rows(torch.empty((lanes, 0, width), dtype=like.dtype, device=like.device))
