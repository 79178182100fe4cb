"""The state that crosses a chunk boundary: per layer the LSTM's state and the attention memory."""

from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
from torch import Tensor

from fairseq_sharnn.modules.memory import Memory


@dataclass(frozen=True)
class LayerState:
    """State of one layer: LSTM `hidden` and `cell` [B, D], and its `memory` if it attends."""

    hidden: Tensor
    cell: Tensor
    memory: Optional[Memory] = None

    def map(self, function: Callable[[Tensor], Tensor]) -> "LayerState":
        """Apply a function that keeps the lane dimension first to every tensor."""
        memory = None if self.memory is None else self.memory.map(function)
        return replace(self, hidden=function(self.hidden), cell=function(self.cell), memory=memory)


@dataclass(frozen=True)
class StreamState:
    """State of B parallel streams (lanes) after a chunk, detached from the graph. `None` stands for streams that start."""

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
        """Plain tensors on CPU for a checkpoint, in the type they were computed in."""
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
    """Join saved states (`to_dict`) of several workers' lanes, in the workers' order."""
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
