"""One step of a few lanes in inference, as in generation: the whole network as one operator that reads each weight once.

The plain form of this step is `Block.forward`, layer after layer. csrc/step.cpp is the only fused form. It computes each
lane by itself: a lane's numbers depend neither on the other lanes nor on the number of threads, to the last bit.
"""

from typing import List, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor
from torch.nn import functional as F

from fairseq_sharnn.ops import kernels

# Up to here a step is bound by reading the weights. With more lanes the matrix products are faster.
MOST_LANES = 16

NARROW = ("bfloat16", "int8")
_NO_SCALES = torch.empty(0)


class Matrix(NamedTuple):
    """A weight [N, K] as the step reads it: float32, bfloat16, or int8 with a scale for each row [N], else empty."""

    rows: Tensor
    scales: Tensor = _NO_SCALES

    def widened(self) -> Tensor:
        """The same values in float32 [N, K]."""
        rows = self.rows.float()
        return rows * self.scales.unsqueeze(1) if self.rows.dtype == torch.int8 else rows


class Rows(NamedTuple):
    """The memories that a step reads, and writes its own row into.

    blocks: [b, capacity, D] of one group of b lanes after the other, layer by layer; the last row of each group is written.
    spans: where the rows in use start and stop in each block, two numbers a block.
    counts: how many blocks each group has; one 0 for a layer that does not attend.
    """

    blocks: List[Tensor]
    spans: List[int]
    counts: List[int]


def narrowed(weight: Tensor, kind: str) -> Matrix:
    """A weight [N, K] rounded to `bfloat16`, or to `int8` with one scale a row."""
    if kind == "bfloat16":
        return Matrix(weight.to(torch.bfloat16).contiguous())
    largest = weight.abs().amax(dim=1).float()
    scales = torch.where(largest > 0, largest / 127, torch.ones_like(largest))  # [N]
    return Matrix((weight / scales.unsqueeze(1)).round().to(torch.int8).contiguous(), scales)


def is_single_step(h: Tensor, training: bool) -> bool:
    """Whether h [T, B, D] is what the operator computes: one step of a few lanes, no gradient, no dropout."""
    if training or torch.is_grad_enabled():
        return False
    length, lanes, _ = h.shape
    return length == 1 and 0 < lanes <= MOST_LANES


def takes(*tensors: Tensor) -> bool:
    """Whether the operator can read a step's input and weights: float32 on CPU, and the kernels are compiled."""
    return kernels.usable(*tensors)


def step(
    h: Tensor, weights: Sequence[Tensor], hidden: Sequence[Tensor], cell: Sequence[Tensor], rows: Rows, heads: int
) -> Tuple[Tensor, Tuple[Tensor, ...], Tuple[Tensor, ...]]:
    """Run all layers over h [B, D] from their hidden and cell states [B, D].

    weights: `Block.step_weights` of each layer. Returns features [B, D], and the layers' hidden and cell states [B, D].
    """
    features, after = kernels.ops.step(h, weights, hidden, cell, rows.blocks, rows.spans, rows.counts, heads)
    states = after.unbind(0)
    return features, states[: len(hidden)], states[len(hidden) :]


def project(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """features [..., D] times a weight [V, D], plus a bias [V]: [..., V]. A few lanes in inference: each by itself."""
    lanes, width = features.shape[:-1], features.size(-1)
    if (
        0 < lanes.numel() <= MOST_LANES
        and not torch.is_grad_enabled()
        and not torch.jit.is_tracing()  # a graph holds torch's own operators only
        and kernels.usable(features, weight, bias)
    ):
        return kernels.ops.project(features.reshape(-1, width), weight, bias).view(*lanes, len(bias))
    return F.linear(features, weight, bias)
