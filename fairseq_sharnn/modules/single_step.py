"""A single step of the whole network: what `ops.step` takes of the blocks and of the streams' state."""

from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from fairseq_sharnn.modules.block import Block
from fairseq_sharnn.modules.memory import LaneMemories, Memory
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


def single_step(
    h: Tensor, weights: Sequence[Tensor], layers: Sequence[LayerState], heads: int, context: int
) -> Tuple[Tensor, StreamState]:
    """Features [1, B, D] after a step h [1, B, D] from the layers' states, and the state after it."""
    row = h.transpose(0, 1)  # [B, 1, D]: holds the place of the row that the step writes into each memory
    rows = Rows([], [])
    memories: List[Any] = []
    for layer in layers:
        memories.append(_with_room(layer.memory, row, context, rows))
    hidden = [layer.hidden.to(h.dtype) for layer in layers]
    cell = [layer.cell.to(h.dtype) for layer in layers]
    features, hiddens, cells = step(h[0], weights, hidden, cell, rows, heads)
    states = (LayerState(*parts) for parts in zip(hiddens, cells, memories))
    return features.unsqueeze(0), StreamState(tuple(states))


def _with_room(memory: Optional[AnyMemory], row: Tensor, context: int, rows: Rows) -> Any:
    """The memory with one row more, whose value the step writes. Its segments are added to `rows`."""
    if memory is None:
        rows.counts.append(0)
        return None
    if isinstance(memory, LaneMemories):
        return LaneMemories(_with_room(lane, row[n : n + 1], context, rows) for n, lane in enumerate(memory))
    memory = memory.extended(row, context)
    segments = memory.segments
    rows.segments.extend(segments)
    rows.counts.append(len(segments))
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
