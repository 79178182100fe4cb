"""A single step of the whole network: what `ops.step` takes of the blocks and of the streams' state."""

from operator import getitem, is_
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple, Union, cast

import torch
from torch import Tensor, nn

from fairseq_sharnn.modules.block import Block
from fairseq_sharnn.modules.memory import LaneMemories, Memory
from fairseq_sharnn.modules.overparameterized import OverparameterizedVector
from fairseq_sharnn.modules.stream_state import LayerState, StreamState
from fairseq_sharnn.ops.step import Matrix, Rows, narrowed, step

AnyMemory = Union[Memory, LaneMemories]


def step_weights(blocks: Iterable[nn.Module], narrow: Dict[Tensor, Matrix]) -> Optional[List[Tensor]]:
    """The parameters of all blocks, in the order of csrc/step.cpp; None if a block has parts that it does not know.

    narrow: the matrices that are read in fewer bits.
    """
    matrix: Callable[[Tensor], Matrix] = (lambda weight: narrow.get(weight) or Matrix(weight)) if narrow else Matrix
    weights: List[Tensor] = []
    for block in blocks:
        own = block.step_weights(matrix) if isinstance(block, Block) else None
        if own is None:
            return None
        weights += own
    return weights


class GatheredWeights:
    """`step_weights` of a network's blocks, gathered again only where something was exchanged since the last step.

    To gather takes longer than to compare. A weight that changes in place stays the same tensor: an optimizer's update,
    `load_state_dict`, `to`. Copies of a network gather for themselves.
    """

    def __init__(self) -> None:
        self._known: Optional[_Known] = None

    def __reduce__(self) -> Tuple[Any, ...]:
        return GatheredWeights, ()

    def of(self, blocks: nn.Module, narrow: Dict[Tensor, Matrix]) -> Optional[List[Tensor]]:
        """The weights; None if a block has parts that the operator does not know."""
        known = self._known
        if known is not None and known.blocks is blocks and known.narrow is narrow and known.unchanged():
            return known.weights
        self._known = None
        weights = step_weights(cast(Iterable[nn.Module], blocks), narrow)
        if weights is not None:
            self._known = _Known.when_settled(blocks, narrow, weights)
        return weights


class _Known:
    """Weights, and all places in the blocks where modules, parameters and collapsed vectors stood."""

    def __init__(self, blocks: nn.Module, narrow: Dict[Tensor, Matrix], weights: List[Tensor]):
        self.blocks, self.narrow, self.weights = blocks, narrow, weights
        owners = [owner for module in blocks.modules() for owner in (module._modules, module._parameters)]
        places: List[Tuple[Dict[str, Any], str]] = [(owner, name) for owner in owners for name in owner]
        for module in blocks.modules():
            if isinstance(module, OverparameterizedVector):
                places.append((vars(module), "_collapsed"))
        self._owners, self._sizes = owners, [len(owner) for owner in owners]
        self._places, self._names = [owner for owner, _ in places], [name for _, name in places]
        self._values = [owner[name] for owner, name in places]

    @classmethod
    def when_settled(cls, blocks: nn.Module, narrow: Dict[Tensor, Matrix], weights: List[Tensor]) -> "Optional[_Known]":
        """None if a weight is computed anew at each step: a vector that is not collapsed."""
        vectors = [module for module in blocks.modules() if isinstance(module, OverparameterizedVector)]
        return cls(blocks, narrow, weights) if all(vector.collapsed for vector in vectors) else None

    def unchanged(self) -> bool:
        """Whether the same objects stand in all places."""
        return list(map(len, self._owners)) == self._sizes and all(
            map(is_, map(getitem, self._places, self._names), self._values)
        )


def single_step(
    h: Tensor, weights: Sequence[Tensor], layers: Sequence[LayerState], heads: int, context: int
) -> Tuple[Tensor, StreamState]:
    """Features [1, B, D] after a step h [1, B, D] from the layers' states, and the state after it."""
    rows, kind = Rows([], [], []), h.dtype
    row = h.transpose(0, 1)  # [B, 1, D]: holds the place of the row that the step writes into each memory
    memories: List[Any] = []
    for layer in layers:
        memories.append(_with_room(layer.memory, row, context, rows))
    hidden = [layer.hidden if layer.hidden.dtype == kind else layer.hidden.to(kind) for layer in layers]
    cell = [layer.cell if layer.cell.dtype == kind else layer.cell.to(kind) for layer in layers]
    features, hiddens, cells = step(h[0], weights, hidden, cell, rows, heads)
    return features.unsqueeze(0), StreamState(tuple(map(LayerState, hiddens, cells, memories)))


def _with_room(memory: Optional[AnyMemory], row: Tensor, context: int, rows: Rows) -> Any:
    """The memory with one row more, whose value the step writes. Its blocks are added to `rows`."""
    if memory is None:
        rows.counts.append(0)
        return None
    if isinstance(memory, LaneMemories):
        return LaneMemories(_with_room(*lane, context, rows) for lane in zip(memory, row.split(1)))
    memory = memory.with_room(row, context)
    blocks, spans = memory.spans
    rows.blocks.extend(blocks)
    rows.spans.extend(spans)
    rows.counts.append(len(blocks))
    return memory


def narrowed_matrices(blocks: Iterable[Any], kind: str) -> Dict[Tensor, Matrix]:
    """The matrices of the blocks' LSTMs, queries and Boom layers, rounded to `bfloat16` or to rows of `int8`.

    The parameters themselves take the rounded values, so that chunks are computed with the same weights.
    """
    found: Dict[Tensor, Matrix] = {}
    for block in blocks:
        weights = [block.lstm.weight_ih_l0, block.lstm.weight_hh_l0, block.boom.expand.weight]
        if block.attention is not None:
            weights.append(block.attention.query.weight)
        for weight in weights:
            found[weight] = narrowed(weight.detach(), kind)
            with torch.no_grad():
                weight.copy_(found[weight].widened())
    return found
