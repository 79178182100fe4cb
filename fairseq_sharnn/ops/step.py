"""One step of a few lanes in inference, as in generation: kernels that read each weight once.

The plain form of this step is `Block.forward` itself. Here each LayerNorm is computed together with the product that it
feeds, because a step of one token costs little more than reading the weights.
"""

from typing import Any, Callable, NamedTuple, Tuple

import torch
from torch import Tensor

from fairseq_sharnn.ops import kernels

# Up to here a step is bound by reading the weights. With more lanes the matrix products are faster.
FEW_LANES = 4


class StepWeights(NamedTuple):
    """The parameters of one block, in the order in which the kernels take them."""

    lstm: Tuple[Tensor, ...]  # LN_input: weight, bias [D]; LSTM: weight_ih, weight_hh [4D, D], bias_ih, bias_hh [4D]
    boom: Tuple[Tensor, ...]  # LN_boom_input and LN_boom_residual: weight, bias [D] each; W_b [H, D], b_b [H]


def is_single_step(h: Tensor, weight: Tensor, training: bool) -> bool:
    """Whether h [T, B, D] and a weight are for the kernels: one step of a few lanes, no gradient, no dropout."""
    single = len(h) == 1 and h.size(1) <= FEW_LANES
    return single and not training and not torch.is_grad_enabled() and kernels.usable(h, weight)


def block_step(
    h: Tensor, hidden: Tensor, cell: Tensor, weights: StepWeights, attend: Callable[[Tensor], Tuple[Tensor, Any]]
) -> Tuple[Tensor, Tensor, Tensor, Any]:
    """Run one block over a step h [1, B, D] from hidden and cell [B, D].

    attend: what the block does between LSTM and Boom, [1, B, D] to [1, B, D] and its new memory.
    Returns h, hidden, cell and the memory after the step.
    """
    hidden, cell = kernels.ops.lstm_step(h[0], *weights.lstm, hidden.to(h.dtype), cell.to(h.dtype))
    h, memory = attend(hidden.unsqueeze(0))
    h = kernels.ops.boom_step(h[0], *weights.boom)
    return h.unsqueeze(0), hidden, cell, memory
