"""Activation checkpointing: keep the input of a block, and compute the rest again in the backward pass."""

from dataclasses import replace
from typing import Optional, Tuple

from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fairseq_sharnn.modules.block import Block
from fairseq_sharnn.modules.memory import Memory
from fairseq_sharnn.modules.stream_state import LayerState


def recomputed(block: Block, h: Tensor, state: Optional[LayerState]) -> Tuple[Tensor, LayerState]:
    """Run a block like `block(h, state)`. The second run draws the same dropout masks and sees the same memory."""
    state = block.empty_state(h) if state is None else state
    if state.memory is not None:
        state = replace(state, memory=_ExtendedOnce(state.memory))
    return checkpoint(block, h, state, use_reentrant=False)


class _ExtendedOnce(Memory):
    """A memory that is written once, however often the block runs."""

    def __init__(self, memory: Memory):
        super().__init__(memory._blocks, memory._start, memory._stop)
        self._after: Optional[Memory] = None

    def extended(self, chunk: Tensor, context: int) -> Memory:
        if self._after is None:
            self._after = super().extended(chunk, context)
        return self._after
