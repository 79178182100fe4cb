"""Attention for accelerators: every product starts, and ends, at a multiple of 8 columns.

In half precision cuBLAS needs that for its fast kernels. Chunks have varied lengths, so the rows arrive with a few rows
too many at the front. They get no weight.
"""

import math
from typing import List, Optional, Sequence, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# 8 numbers of 2 bytes are the 16 bytes that a tensor core's load takes at once.
ALIGNED = 8


def attend_aligned(
    query: Tensor, chunk: Tensor, segments: Sequence[Tensor], heads: int, rate: float, unseen: int
) -> Tensor:
    """`attend` in plain torch, in products of aligned shape over one piece of memory.

    Several segments, or a number of rows that is not a multiple of 8, are copied into one piece first. Memory on an
    accelerator needs no copy (`Memory.to_attend`).
    """
    rows, missing = segments[0], -sum(segment.size(1) for segment in segments) % ALIGNED
    if missing or len(segments) > 1:
        rows = torch.cat([rows.new_zeros((rows.size(0), missing, rows.size(2))), *segments], dim=1)
    return _AlignedAttention.apply(query, chunk, rows, missing + unseen, heads, rate)


def attend_fixed(query: Tensor, rows: Tensor, hidden: Tensor, heads: int) -> Tensor:
    """Attend from a single step `query` [B, 1, D] over rows [B, R, D], without gradient. hidden [B, 1, R]: get no weight.

    R is a multiple of 8. Returns [B, 1, D].
    """
    mixed: List[Tensor] = []
    for columns in head_columns(heads, query.size(2)):
        scores = torch.bmm(query[:, :, columns], rows[:, :, columns].transpose(1, 2)).masked_fill_(hidden, -math.inf)
        mixed.append(torch.bmm(torch.softmax(scores, dim=-1), rows[:, :, columns]))  # [B, 1, d]
    return _beside(mixed)


def drop(x: Tensor, rate: float) -> Tuple[Tensor, Tensor]:
    """Dropout in one pass: x with kept entries scaled by 1 / (1 − rate), and the mask of what is kept."""
    return torch.native_dropout(x, rate, True)


class _AlignedAttention(torch.autograd.Function):
    """The products and their gradient, for all lanes at once, one head after the other. R rows, a multiple of 8.

    The memory takes no gradient. The chunk's own columns get theirs from a product that starts at a multiple of 8, up to
    7 columns early.
    """

    @staticmethod
    def forward(ctx, query: Tensor, chunk: Tensor, rows: Tensor, unseen: int, heads: int, rate: float) -> Tensor:
        length, first = query.size(1), rows.size(1) - query.size(1)
        future = torch.ones(length, length, dtype=torch.bool, device=query.device).triu_(1) if length > 1 else None
        values, value_mask = drop(rows, rate) if rate > 0.0 else (rows, None)
        mixed: List[Tensor] = []
        saved: List[Optional[Tensor]] = [query, value_mask]
        for columns in head_columns(heads, query.size(2)):
            scores = torch.bmm(query[:, :, columns], rows[:, :, columns].transpose(1, 2))  # [B, T, R]
            if unseen:
                scores[:, :, :unseen] = -math.inf
            if future is not None:
                scores[:, :, first:].masked_fill_(future, -math.inf)
            attention = torch.softmax(scores, dim=-1)  # float32 inside for half precision too
            del scores
            weights, weight_mask = drop(attention, rate) if rate > 0.0 else (attention, None)
            mixed.append(torch.bmm(weights, values[:, :, columns]))  # [B, T, d]
            saved += (attention, weight_mask)
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
            # The memory's block is filled further while the graph lives. The rows seen here never change.
            ctx.rows, ctx.heads, ctx.scale = rows, heads, 1.0 / (1.0 - rate)
            ctx.save_for_backward(*saved)
        return _beside(mixed)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        query, value_mask, *saved = ctx.saved_tensors
        rows, heads, scale = ctx.rows, ctx.heads, ctx.scale
        first = rows.size(1) - query.size(1)
        start = first // ALIGNED * ALIGNED
        values = rows
        if value_mask is not None:
            values, grad = torch.ops.aten.native_dropout_backward(rows, value_mask, scale), grad * scale
        query_grads, chunk_grads = [], []
        for number, columns in enumerate(head_columns(heads, query.size(2))):
            attention, weight_mask = saved[2 * number : 2 * number + 2]
            upstream = grad[:, :, columns]
            attention_grad = torch.bmm(upstream, values[:, :, columns].transpose(1, 2))  # [B, T, R]
            recent = attention[:, :, start:]
            if weight_mask is not None:
                attention_grad.mul_(weight_mask)
                recent = recent * weight_mask[:, :, start:]
            score_grad = torch._softmax_backward_data(attention_grad, attention, -1, attention.dtype)
            del attention_grad
            query_grads.append(torch.bmm(score_grad, rows[:, :, columns]))
            chunk_grad = torch.bmm(recent.transpose(1, 2), upstream)  # [B, R - start, d]: as values
            if value_mask is not None:
                mask = value_mask[:, start:, columns]
                chunk_grad = torch.ops.aten.native_dropout_backward(chunk_grad, mask, scale)
            chunk_grad.baddbmm_(score_grad[:, :, start:].transpose(1, 2), query[:, :, columns])  # and as keys
            chunk_grads.append(chunk_grad[:, first - start :])
        return _beside(query_grads), _beside(chunk_grads), None, None, None, None


def head_columns(heads: int, width: int) -> List[slice]:
    """Which columns of D each head has."""
    head_width = width // heads
    return [slice(head * head_width, (head + 1) * head_width) for head in range(heads)]


def _beside(parts: List[Tensor]) -> Tensor:
    """The columns of all heads [B, T, D]; no copy for one head."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)
