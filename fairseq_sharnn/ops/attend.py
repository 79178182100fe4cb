"""Softmax attention over memory and chunk, causal inside the chunk (spec, "Attention")."""

import math
from typing import List, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fairseq_sharnn.ops import kernels
from fairseq_sharnn.ops.attend_aligned import attend_aligned, attend_fixed, head_columns
from fairseq_sharnn.ops.dropout import keep_mask, keep_scale

# On CPU the scores of one group of lanes should stay in cache: about 8 MB in float32.
_CPU_GROUP_SCORES = 1 << 21


def is_aligned(device: torch.device) -> bool:
    """Whether attention on a device has aligned products, and memory lies in one block: on every accelerator."""
    return device.type != "cpu"


def attend(
    query: Tensor, chunk: Tensor, segments: Sequence[Tensor], heads: int, rate: float, unseen: Union[int, Tensor] = 0
) -> Tensor:
    """Attend from `query` [B, T, D] over memory and chunk: drop(softmax(q Mᵀ)) drop(M), causal in the last T rows.

    segments: the S + T rows M in consecutive pieces [B, n, D]. chunk [B, T, D]: the values of the last T of them, passed
    because it receives their gradient. The query has the scale 1/√d in it. rate: of the dropout on weights and on values.
    unseen: how many of the first rows get no weight (`Memory.to_attend`), or, for a step in inference, which rows of each
    lane [B, 1, R] (`FixedMemory.to_attend`). Returns [B, T, D].
    """
    kind = query.device.type
    if not torch.is_autocast_enabled(kind):
        return _in_one_type(query, chunk, segments, heads, rate, unseen)
    dtype = torch.get_autocast_dtype(kind)
    query, chunk, segments = query.to(dtype), chunk.to(dtype), [segment.to(dtype) for segment in segments]
    with torch.autocast(kind, enabled=False):  # under it softmax saves float32 weights next to half-precision values
        return _in_one_type(query, chunk, segments, heads, rate, unseen)


def _in_one_type(
    query: Tensor, chunk: Tensor, segments: Sequence[Tensor], heads: int, rate: float, unseen: Union[int, Tensor]
) -> Tensor:
    if isinstance(unseen, Tensor):
        return attend_fixed(query, segments[0], unseen, heads)
    if is_aligned(query.device):
        return attend_aligned(query, chunk, segments, heads, rate, unseen)
    if not kernels.usable(query, chunk, *segments):
        return attend_plain(query, chunk, segments, heads, rate)
    return attend_fused(query, chunk, segments, heads, rate)


def attend_fused(query: Tensor, chunk: Tensor, segments: Sequence[Tensor], heads: int, rate: float) -> Tensor:
    """`attend` by the CPU kernel, in tiles: it stores neither weights nor masks, so it needs memory O(T) for any C."""
    seed = kernels.draw_seed() if rate > 0.0 else 0
    return _FusedAttention.apply(query, chunk, heads, rate, seed, *segments)


class _FusedAttention(torch.autograd.Function):
    """The kernel and its gradient, which computes the weights again and draws the masks again from their seed."""

    @staticmethod
    def forward(ctx, query: Tensor, chunk: Tensor, heads: int, rate: float, seed: int, *segments: Tensor) -> Tensor:
        query = query.transpose(0, 1)  # time-major like the network's other values: no copy
        out, log_sums = kernels.ops.attend(query, segments, heads, rate, seed)
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
            ctx.segments, ctx.settings = segments, (heads, rate, seed)
            ctx.save_for_backward(query, out, log_sums)
        return out.transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        query, out, log_sums = ctx.saved_tensors
        grads = kernels.ops.attend_backward(grad.transpose(0, 1), query, ctx.segments, out, log_sums, *ctx.settings)
        return (*(grad.transpose(0, 1) for grad in grads), None, None, None, *(None for _ in ctx.segments))


def attend_plain(query: Tensor, chunk: Tensor, segments: Sequence[Tensor], heads: int, rate: float) -> Tensor:
    """`attend` in plain torch: stores weights and masks; works on groups of lanes, and on one head after the other."""
    return _PlainAttention.apply(query, chunk, heads, rate, *segments)


class _PlainAttention(torch.autograd.Function):
    """The products and their gradient.

    The memory takes no gradient, so its half of the backward pass is never computed.
    """

    @staticmethod
    def forward(ctx, query: Tensor, chunk: Tensor, heads: int, rate: float, *segments: Tensor) -> Tensor:
        lanes, length, width = query.shape
        rows = _count(segments)
        scale = keep_scale(rate, query.device) if rate > 0 else 1.0
        out = torch.empty_like(query, memory_format=torch.contiguous_format)
        saved: List[Optional[Tensor]] = []
        future = torch.ones(length, length, dtype=torch.bool, device=query.device).triu_(1) if length > 1 else None
        for group in _lane_groups(lanes, length * rows, query.device):
            value_mask = keep_mask((group.stop - group.start, rows, width), rate, query.device) if rate > 0 else None
            for columns in head_columns(heads, width):
                keys = [segment[group, :, columns] for segment in segments]
                scores = _products(query[group, :, columns], keys)
                if future is not None:
                    scores[:, :, rows - length :].masked_fill_(future, -math.inf)
                attention = torch.softmax(scores, dim=-1)  # [G, T, S + T]; float32 inside for half precision too
                del scores
                if value_mask is not None:
                    score_mask = keep_mask(attention.shape, rate, query.device)
                    mixed = _weighted_sum(attention * score_mask, _masked(keys, value_mask[:, :, columns]))
                    out[group, :, columns] = mixed.mul_(scale * scale)
                    saved += (attention, score_mask, value_mask)
                else:
                    out[group, :, columns] = _weighted_sum(attention, keys)
                    saved += (attention, None, None)
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
            # The memory's blocks are filled further while the graph lives. The rows seen here never change.
            ctx.segments, ctx.heads, ctx.dropout_scale = segments, heads, scale
            ctx.save_for_backward(query, *saved)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        query, *tensors = ctx.saved_tensors
        segments, heads, scale = ctx.segments, ctx.heads, ctx.dropout_scale
        lanes, length, width = query.shape
        rows = _count(segments)
        query_grad = torch.empty_like(query, memory_format=torch.contiguous_format)
        chunk_grad = torch.empty_like(query_grad)
        saved = iter(tensors)
        for group in _lane_groups(lanes, length * rows, query.device):
            for columns in head_columns(heads, width):
                attention, score_mask, value_mask = next(saved), next(saved), next(saved)
                keys = [segment[group, :, columns] for segment in segments]
                upstream = grad[group, :, columns]
                recent = attention[:, :, rows - length :]
                if score_mask is None:
                    attention_grad = _products(upstream, keys)
                    value_grad = torch.bmm(recent.transpose(1, 2), upstream)
                else:
                    upstream = upstream * (scale * scale)
                    value_mask = value_mask[:, :, columns]
                    attention_grad = _products(upstream, _masked(keys, value_mask)).mul_(score_mask)
                    value_grad = torch.bmm((recent * score_mask[:, :, rows - length :]).transpose(1, 2), upstream)
                    value_grad.mul_(value_mask[:, rows - length :])
                score_grad = torch._softmax_backward_data(attention_grad, attention, -1, attention.dtype)
                del attention_grad
                query_grad[group, :, columns] = _weighted_sum(score_grad, keys)
                key_grad = torch.bmm(score_grad[:, :, rows - length :].transpose(1, 2), query[group, :, columns])
                chunk_grad[group, :, columns] = value_grad.add_(key_grad)
        return (query_grad, chunk_grad, None, None, *(None for _ in segments))


def _count(segments: Sequence[Tensor]) -> int:
    return sum(segment.size(1) for segment in segments)


def _lane_groups(lanes: int, scores_per_lane: int, device: torch.device) -> List[slice]:
    """Lanes that are worked on together: as many as fit the cache on CPU, all of them elsewhere."""
    size = lanes if device.type != "cpu" else max(1, _CPU_GROUP_SCORES // max(1, scores_per_lane))
    return [slice(start, min(start + size, lanes)) for start in range(0, lanes, size)]


def _masked(segments: Sequence[Tensor], mask: Tensor) -> List[Tensor]:
    """Segments [G, n, d] times their parts of a mask [G, S + T, d]."""
    parts = mask.split([segment.size(1) for segment in segments], dim=1)
    return [segment * part for segment, part in zip(segments, parts)]


def _products(left: Tensor, segments: Sequence[Tensor]) -> Tensor:
    """left [G, T, d] times the rows of all segments [G, n, d]: [G, T, S + T]."""
    if len(segments) == 1:
        return torch.bmm(left, segments[0].transpose(1, 2))
    out = left.new_empty((*left.shape[:2], _count(segments)))
    for piece, segment in zip(out.split([segment.size(1) for segment in segments], dim=2), segments):
        torch.bmm(left, segment.transpose(1, 2), out=piece)
    return out


def _weighted_sum(weights: Tensor, segments: Sequence[Tensor]) -> Tensor:
    """Rows of the segments [G, n, d] summed by weights [G, T, S + T]: [G, T, d], added up in float32."""
    pieces: Tuple[Tensor, ...] = weights.split([segment.size(1) for segment in segments], dim=2)
    total = torch.bmm(pieces[0], segments[0])
    if len(segments) == 1:
        return total
    total = total.to(torch.promote_types(total.dtype, torch.float32))
    for piece, segment in zip(pieces[1:], segments[1:]):
        total += torch.bmm(piece, segment)
    return total.to(weights.dtype)
