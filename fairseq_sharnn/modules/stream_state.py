"""What is carried from one chunk of a stream to the next: the LSTM state and the attention memory, per layer."""

from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
from torch import Tensor


class _RowBuffer:
    """Backing store of memories: `rows` [B, capacity, D], written once up to `filled`."""

    def __init__(self, rows: Tensor):
        self.rows = rows
        self.filled = 0


class Memory:
    """The rows one layer attends to, oldest first (spec, "Memory"). A value: `extended` returns a new one.

    Rows live in a buffer with room at its end, so adding T rows writes T rows; the C older ones move only when the
    buffer is full, once in at least C / 8 rows. Older values keep reading their own rows: a memory that is
    extended twice is copied the second time. Memory never carries a gradient.
    """

    def __init__(self, buffer: _RowBuffer, start: int, stop: int):
        self._buffer = buffer
        self._start = start
        self._stop = stop

    @classmethod
    def from_rows(cls, rows: Tensor) -> "Memory":
        """Make a memory of `rows` [B, S, D], oldest first."""
        buffer = _RowBuffer(rows.detach())
        buffer.filled = rows.size(1)
        return cls(buffer, 0, rows.size(1))

    def __len__(self) -> int:
        return self._stop - self._start

    def to_dict(self) -> Dict:
        """The rows, and where they lie in their buffer: on CPU the last bit of a product can depend on that."""
        rows = self.rows.cpu().clone(memory_format=torch.contiguous_format)
        return {"rows": rows, "start": self._start, "capacity": self._buffer.rows.size(1)}

    @classmethod
    def from_dict(cls, saved: Dict, device: torch.device) -> "Memory":
        rows, start = saved["rows"], saved["start"]
        buffer = _RowBuffer(
            torch.empty((rows.size(0), saved["capacity"], rows.size(2)), dtype=rows.dtype, device=device)
        )
        buffer.filled = start + rows.size(1)
        buffer.rows[:, start : buffer.filled] = rows.to(device)
        return cls(buffer, start, buffer.filled)

    @property
    def rows(self) -> Tensor:
        """The rows [B, S, D], oldest first: a view, not to be written to."""
        return self._buffer.rows[:, self._start : self._stop]

    def last(self, count: int) -> "Memory":
        """The same memory cut to its newest `count` rows (a shorter one is left whole)."""
        return Memory(self._buffer, max(self._start, self._stop - max(count, 0)), self._stop)

    def extended(self, chunk: Tensor, context: int) -> "Memory":
        """Cut to the newest max(0, context − T) rows and add the T rows of `chunk` [B, T, D] behind them.

        Raises ValueError when the number of lanes or the width differs.
        """
        lanes, length, width = chunk.shape
        if self._buffer.rows.size(0) != lanes or self._buffer.rows.size(2) != width:
            raise ValueError(
                f"memory of {self._buffer.rows.size(0)} lanes x {self._buffer.rows.size(2)} columns "
                f"cannot take a chunk of {lanes} lanes x {width} columns"
            )
        kept = self.last(context - length)
        buffer, start, stop = kept._buffer, kept._start, kept._stop
        appendable = stop == buffer.filled and stop + length <= buffer.rows.size(1) and buffer.rows.dtype == chunk.dtype
        if not appendable:
            total = len(kept) + length
            ceiling = max(context, total) + max(length, context // 8)
            fresh = _RowBuffer(chunk.new_empty((lanes, min(2 * total, ceiling), width)).detach())
            fresh.rows[:, : len(kept)] = kept.rows
            buffer, start, stop = fresh, 0, len(kept)
        buffer.rows[:, stop : stop + length] = chunk.detach()
        buffer.filled = stop + length
        return Memory(buffer, start, stop + length)

    def map(self, function: Callable[[Tensor], Tensor]) -> "Memory":
        """Apply a function to the rows [B, S, D] (move, cast, select lanes)."""
        return Memory.from_rows(function(self.rows))


@dataclass(frozen=True)
class LayerState:
    """State of one layer: LSTM `hidden` and `cell` [B, D], and its `memory` where it attends."""

    hidden: Tensor
    cell: Tensor
    memory: Optional[Memory] = None

    def map(self, function: Callable[[Tensor], Tensor]) -> "LayerState":
        memory = None if self.memory is None else self.memory.map(function)
        return replace(self, hidden=function(self.hidden), cell=function(self.cell), memory=memory)


@dataclass(frozen=True)
class StreamState:
    """State of B parallel streams (lanes) after a chunk, detached from the graph. Empty streams are `None`."""

    layers: Tuple[LayerState, ...]

    @property
    def lanes(self) -> int:
        return self.layers[0].hidden.size(0)

    def map(self, function: Callable[[Tensor], Tensor]) -> "StreamState":
        """Apply a function that keeps the lane dimension first to every tensor: [B, D] and [B, S, D]."""
        return StreamState(tuple(layer.map(function) for layer in self.layers))

    def select(self, lanes: Tensor) -> "StreamState":
        """Take the given lanes, in the given order (beam search; another split of lanes over workers)."""
        return self.map(lambda tensor: tensor.index_select(0, lanes.to(tensor.device)))

    def to(self, *args, **kwargs) -> "StreamState":
        """Move or cast every tensor, as `torch.Tensor.to` does."""
        return self.map(lambda tensor: tensor.to(*args, **kwargs))

    def to_dict(self) -> Dict:
        """Plain tensors on CPU, in the type they were computed in, for a checkpoint."""
        return {
            "layers": [
                {
                    "hidden": layer.hidden.cpu().clone(),
                    "cell": layer.cell.cpu().clone(),
                    "memory": None if layer.memory is None else layer.memory.to_dict(),
                }
                for layer in self.layers
            ]
        }

    @classmethod
    def from_dict(cls, saved: Dict, device: torch.device) -> "StreamState":
        """The state that `to_dict` saved, on `device`."""
        return cls(
            tuple(
                LayerState(
                    layer["hidden"].to(device),
                    layer["cell"].to(device),
                    None if layer["memory"] is None else Memory.from_dict(layer["memory"], device),
                )
                for layer in saved["layers"]
            )
        )


def join_saved(parts: List[Any]) -> Any:
    """Put saved states (`to_dict`) of several workers' lanes together, in the workers' order."""
    first = parts[0]
    if torch.is_tensor(first):
        return torch.cat(parts)
    if isinstance(first, dict):
        return {key: join_saved([part[key] for part in parts]) for key in first}
    if isinstance(first, list):
        return [join_saved(list(items)) for items in zip(*parts)]
    return first


def slice_saved(saved: Any, lanes: slice) -> Any:
    """Some lanes of a saved state (`to_dict`)."""
    if torch.is_tensor(saved):
        return saved[lanes]
    if isinstance(saved, dict):
        return {key: slice_saved(value, lanes) for key, value in saved.items()}
    if isinstance(saved, list):
        return [slice_saved(item, lanes) for item in saved]
    return saved


def empty_memory(lanes: int, width: int, like: Tensor) -> Memory:
    """Memory without rows, for B lanes of width D."""
    return Memory.from_rows(torch.empty((lanes, 0, width), dtype=like.dtype, device=like.device))
