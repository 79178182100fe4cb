"""Single-headed attention over memory (paper, section 4.1)."""

import math
from typing import Callable, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fairseq_sharnn.modules.dropout import check_rate, dropout, keep_mask, keep_scale
from fairseq_sharnn.modules.overparameterized import STATIC_VECTORS
from fairseq_sharnn.ops import kernels

LayerNormFactory = Callable[..., nn.Module]

# On CPU the scores of one group of lanes should stay in cache: about 8 MB in float32.
_CPU_GROUP_SCORES = 1 << 21


def _products(left: Tensor, segments: Sequence[Tensor]) -> Tensor:
    """left [G, T, d] times each of the segments' rows [G, n, d]: [G, T, S + T]."""
    if len(segments) == 1:
        return torch.bmm(left, segments[0].transpose(1, 2))
    out = left.new_empty((*left.shape[:2], sum(segment.size(1) for segment in segments)))
    for piece, segment in zip(out.split([segment.size(1) for segment in segments], dim=2), segments):
        torch.bmm(left, segment.transpose(1, 2), out=piece)
    return out


def _weighted_sum(weights: Tensor, segments: Sequence[Tensor]) -> Tensor:
    """Rows of the segments [G, n, d] summed by weights [G, T, S + T]: [G, T, d], joined in float32."""
    pieces = weights.split([segment.size(1) for segment in segments], dim=2)
    total = torch.bmm(pieces[0], segments[0])
    if len(segments) == 1:
        return total
    total = total.to(torch.promote_types(total.dtype, torch.float32))
    for piece, segment in zip(pieces[1:], segments[1:]):
        total += torch.bmm(piece, segment)
    return total.to(weights.dtype)


class _AttendMemory(torch.autograd.Function):
    """out = drop(softmax(q Mᵀ)) drop(M) with M = [memory; chunk], causal inside the chunk.

    The memory takes no gradient, so its half of the backward pass is never computed: `chunk` [B, T, D] is passed
    for its gradient alone, its values are the last T rows of the segments. The scale 1/√d is in the query.
    Works on groups of lanes, and on the heads' contiguous columns one after the other.
    """

    @staticmethod
    def forward(ctx, query: Tensor, chunk: Tensor, heads: int, rate: float, *segments: Tensor) -> Tensor:
        lanes, length, width = query.shape
        rows, head_width = sum(segment.size(1) for segment in segments), width // heads
        scale = keep_scale(rate, query.device) if rate > 0 else 1.0
        out = torch.empty_like(query, memory_format=torch.contiguous_format)
        saved = []
        future = torch.ones(length, length, dtype=torch.bool, device=query.device).triu_(1) if length > 1 else None
        for group in _lane_groups(lanes, length * rows, query.device):
            value_mask = keep_mask((len(group), rows, width), rate, query.device) if rate > 0 else None
            for columns in _head_columns(heads, head_width):
                keys = _of_head(segments, group, columns)
                scores = _products(query[group.start : group.stop, :, columns], keys)
                if future is not None:
                    scores[:, :, rows - length :].masked_fill_(future, -math.inf)
                attention = torch.softmax(scores, dim=-1)  # [G, T, S + T]; float32 inside for half precision too
                del scores
                if rate > 0:
                    score_mask = keep_mask(attention.shape, rate, query.device)
                    mixed = _weighted_sum(attention * score_mask, _masked(keys, value_mask[:, :, columns]))
                    out[group.start : group.stop, :, columns] = mixed.mul_(scale * scale)
                    saved += (attention, score_mask, value_mask)
                else:
                    out[group.start : group.stop, :, columns] = _weighted_sum(attention, keys)
                    saved += (attention, None, None)
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
            # The memory's blocks are filled further while the graph lives; the rows seen here never change.
            ctx.segments, ctx.heads, ctx.dropout_scale = segments, heads, scale
            ctx.save_for_backward(query, *saved)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        query, *saved = ctx.saved_tensors
        segments, heads, scale = ctx.segments, ctx.heads, ctx.dropout_scale
        lanes, length, width = query.shape
        rows, head_width = sum(segment.size(1) for segment in segments), width // heads
        past = rows - length
        query_grad = torch.empty_like(query, memory_format=torch.contiguous_format)
        chunk_grad = torch.empty_like(query_grad)
        saved = iter(saved)
        for group in _lane_groups(lanes, length * rows, query.device):
            for columns in _head_columns(heads, head_width):
                attention, score_mask, value_mask = next(saved), next(saved), next(saved)
                keys = _of_head(segments, group, columns)
                upstream = grad[group.start : group.stop, :, columns]
                recent = attention[:, :, past:]
                if score_mask is None:
                    attention_grad = _products(upstream, keys)
                    value_grad = torch.bmm(recent.transpose(1, 2), upstream)
                else:
                    upstream = upstream * (scale * scale)
                    value_mask = value_mask[:, :, columns]
                    attention_grad = _products(upstream, _masked(keys, value_mask)).mul_(score_mask)
                    value_grad = torch.bmm((recent * score_mask[:, :, past:]).transpose(1, 2), upstream)
                    value_grad.mul_(value_mask[:, past:])
                score_grad = torch._softmax_backward_data(attention_grad, attention, -1, attention.dtype)
                del attention_grad
                query_grad[group.start : group.stop, :, columns] = _weighted_sum(score_grad, keys)
                key_grad = torch.bmm(
                    score_grad[:, :, past:].transpose(1, 2), query[group.start : group.stop, :, columns]
                )
                chunk_grad[group.start : group.stop, :, columns] = value_grad.add_(key_grad)
        return (query_grad, chunk_grad, None, None, *(None for _ in segments))


def _head_columns(heads: int, head_width: int) -> List[slice]:
    return [slice(head * head_width, (head + 1) * head_width) for head in range(heads)]


def _of_head(segments: Sequence[Tensor], group: range, columns: slice) -> List[Tensor]:
    return [segment[group.start : group.stop, :, columns] for segment in segments]


def _masked(segments: Sequence[Tensor], mask: Tensor) -> List[Tensor]:
    """Segments [G, n, d] times their parts of a mask [G, S + T, d]."""
    parts = mask.split([segment.size(1) for segment in segments], dim=1)
    return [segment * part for segment, part in zip(segments, parts)]


class _AttendInTiles(torch.autograd.Function):
    """The same by the CPU kernel, which stores neither weights nor masks: memory O(T), whatever the context."""

    @staticmethod
    def forward(ctx, query: Tensor, chunk: Tensor, heads: int, rate: float, seed: int, *segments: Tensor) -> Tensor:
        query = query.transpose(0, 1)  # time-major as the network's other values are: no copy
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


def _lane_groups(lanes: int, scores_per_lane: int, device: torch.device):
    """Ranges of lanes that are worked on together: all of them on an accelerator, a cacheful on CPU."""
    size = lanes if device.type != "cpu" else max(1, _CPU_GROUP_SCORES // max(1, scores_per_lane))
    return [range(start, min(start + size, lanes)) for start in range(0, lanes, size)]


def attend_memory(query: Tensor, chunk: Tensor, segments: Sequence[Tensor], heads: int, rate: float) -> Tensor:
    """Softmax attention of `query` [B, T, D] over memory and chunk together, causal among their last T rows.

    segments: the S + T rows in consecutive pieces [B, n, D]. `chunk` [B, T, D] holds the values of the last T of
    them and receives their gradient. Dropout at `rate` falls on the attention weights and on the values (spec,
    "Attention"). Returns [B, T, D].
    """
    kind = query.device.type
    if not torch.is_autocast_enabled(kind):
        return _attend(query, chunk, segments, heads, rate)
    dtype = torch.get_autocast_dtype(kind)
    query, chunk, segments = query.to(dtype), chunk.to(dtype), [segment.to(dtype) for segment in segments]
    with torch.autocast(kind, enabled=False):  # under it softmax saves float32 weights beside half-precision values
        return _attend(query, chunk, segments, heads, rate)


def _attend(query: Tensor, chunk: Tensor, segments: Sequence[Tensor], heads: int, rate: float) -> Tensor:
    """As `attend_memory`, all in one type."""
    if kernels.usable(query, chunk, *segments):
        if query.size(1) == 1 and rate == 0.0 and not torch.is_grad_enabled():
            return kernels.ops.attend_step(query, segments, heads)
        seed = kernels.draw_seed() if rate > 0.0 else 0
        return _AttendInTiles.apply(query, chunk, heads, rate, seed, *segments)
    return _AttendMemory.apply(query, chunk, heads, rate, *segments)


class MemoryAttention(nn.Module):
    """Attention whose keys and values are the memory itself, under static gates (spec, "Attention").

    The gates on keys and values are vectors, so they never touch the memory: q·(σ(g_k) ⊙ m) = (σ(g_k) ⊙ q)·m, and
    Σ a (o ⊙ m) = o ⊙ Σ a m. Dropout falls where the paper has it, on q, on the values and on the attention weights.

    static_vectors: the gate on values, `overparameterized` (the paper's) or `plain`. Raises ValueError when `heads` does
    not divide `width`.
    """

    def __init__(
        self,
        width: int,
        heads: int = 1,
        dropout: float = 0.0,
        layer_norm: LayerNormFactory = nn.LayerNorm,
        static_vectors: str = "overparameterized",
    ):
        super().__init__()
        if heads < 1 or width % heads != 0:
            raise ValueError(f"the number of attention heads ({heads}) must divide the model width ({width})")
        self.heads = heads
        self.scale = 1.0 / math.sqrt(width // heads)
        self.dropout = check_rate("attention dropout", dropout)
        self.query = nn.Linear(width, width)
        self.ln_query = layer_norm(width, eps=1e-12)
        self.query_gate = nn.Parameter(torch.zeros(width))
        self.key_gate = nn.Parameter(torch.zeros(width))
        self.value = STATIC_VECTORS[static_vectors](width)

    def forward(self, h: Tensor, m: Tensor, segments: Sequence[Tensor]) -> Tensor:
        """Attend from h [T, B, D] over `segments`: memory, and this chunk's m [T, B, D] as its last T rows.

        segments: the S + T rows in consecutive pieces [B, n, D]. m takes the gradient of its rows. Returns [T, B, D].
        """
        gates = torch.sigmoid(self.query_gate) * torch.sigmoid(self.key_gate) * self.scale  # dropout may follow both
        q = dropout(gates * self.ln_query(self.query(h)), self.dropout, self.training)
        rate = self.dropout if self.training else 0.0
        mixed = attend_memory(q.transpose(0, 1), m.transpose(0, 1), segments, self.heads, rate)
        return mixed.transpose(0, 1) * self.value()


def parse_attention_layers(text: str, layers: int) -> Tuple[int, ...]:
    """Which layers attend: `none`, `second-to-last`, `all`, or a list of 0-based layer numbers such as `1,3`.

    Returns the layer numbers in ascending order. Raises ValueError, naming the value, when it is neither of these or a
    layer does not exist.
    """
    text = str(text).strip().strip("[]()").replace("_", "-")
    if text == "none" or text == "":
        return ()
    if text == "all":
        return tuple(range(layers))
    if text == "second-to-last":
        if layers < 2:
            raise ValueError("there is no second-to-last layer in a model of 1 layer; choose all, none or 0")
        return (layers - 2,)
    try:
        chosen = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise ValueError(
            f"'{text}' is not a choice of layers: use none, second-to-last, all, or numbers such as 1,3"
        ) from None
    missing: Optional[int] = next((layer for layer in chosen if not 0 <= layer < layers), None)
    if missing is not None:
        raise ValueError(f"layer {missing} does not exist: the model's {layers} layers are numbered 0 to {layers - 1}")
    return tuple(chosen)
