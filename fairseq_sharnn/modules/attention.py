"""Single-headed attention over memory (paper, section 4.1)."""

import math
from typing import Callable, Optional, Tuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fairseq_sharnn.modules.dropout import check_rate, dropout, keep_mask, keep_scale
from fairseq_sharnn.modules.overparameterized import OverparameterizedVector

LayerNormFactory = Callable[..., nn.Module]

# On CPU the scores of one group of lanes should stay in cache: about 8 MB in float32.
_CPU_GROUP_SCORES = 1 << 21


class _AttendMemory(torch.autograd.Function):
    """out = drop(softmax(q Mᵀ)) drop(M) with M = [memory; chunk], causal inside the chunk.

    The memory takes no gradient, so its half of the backward pass is never computed: `chunk` [B, T, D] is passed
    for its gradient alone, its values are the last T rows of `memory` [B, S + T, D]. The scale 1/√d is in the query.
    Works on groups of lanes, and on the heads' contiguous columns one after the other.
    """

    @staticmethod
    def forward(ctx, query: Tensor, chunk: Tensor, memory: Tensor, heads: int, rate: float) -> Tensor:
        lanes, length, width = query.shape
        rows, head_width = memory.size(1), width // heads
        scale = keep_scale(rate, query.device) if rate > 0 else 1.0
        out = torch.empty_like(query, memory_format=torch.contiguous_format)
        saved = []
        future = torch.ones(length, length, dtype=torch.bool, device=query.device).triu_(1) if length > 1 else None
        for group in _lane_groups(lanes, length * rows, query.device):
            value_mask = keep_mask((len(group), rows, width), rate, query.device) if rate > 0 else None
            for head in range(heads):
                columns = slice(head * head_width, (head + 1) * head_width)
                keys = memory[group.start : group.stop, :, columns]
                scores = torch.bmm(query[group.start : group.stop, :, columns], keys.transpose(1, 2))
                if future is not None:
                    scores[:, :, rows - length :].masked_fill_(future, -math.inf)
                attention = torch.softmax(scores, dim=-1)  # [G, T, S + T]; float32 inside for half precision too
                del scores
                if rate > 0:
                    score_mask = keep_mask(attention.shape, rate, query.device)
                    values = keys * value_mask[:, :, columns]
                    mixed = torch.bmm(attention * score_mask, values)
                    out[group.start : group.stop, :, columns] = mixed.mul_(scale * scale)
                    saved += (attention, score_mask, value_mask)
                else:
                    out[group.start : group.stop, :, columns] = torch.bmm(attention, keys)
                    saved += (attention, None, None)
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
            # The memory's buffer grows behind these rows while the graph lives; they themselves never change.
            ctx.memory, ctx.heads, ctx.dropout_scale = memory, heads, scale
            ctx.save_for_backward(query, *saved)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        query, *saved = ctx.saved_tensors
        memory, heads, scale = ctx.memory, ctx.heads, ctx.dropout_scale
        lanes, length, width = query.shape
        rows, head_width = memory.size(1), width // heads
        past = rows - length
        query_grad = torch.empty_like(query, memory_format=torch.contiguous_format)
        chunk_grad = torch.empty_like(query_grad)
        saved = iter(saved)
        for group in _lane_groups(lanes, length * rows, query.device):
            for head in range(heads):
                attention, score_mask, value_mask = next(saved), next(saved), next(saved)
                columns = slice(head * head_width, (head + 1) * head_width)
                keys = memory[group.start : group.stop, :, columns]
                upstream = grad[group.start : group.stop, :, columns]
                recent = attention[:, :, past:]
                if score_mask is None:
                    attention_grad = torch.bmm(upstream, keys.transpose(1, 2))
                    value_grad = torch.bmm(recent.transpose(1, 2), upstream)
                else:
                    upstream = upstream * (scale * scale)
                    value_mask = value_mask[:, :, columns]
                    attention_grad = torch.bmm(upstream, (keys * value_mask).transpose(1, 2)).mul_(score_mask)
                    value_grad = torch.bmm((recent * score_mask[:, :, past:]).transpose(1, 2), upstream)
                    value_grad.mul_(value_mask[:, past:])
                score_grad = torch._softmax_backward_data(attention_grad, attention, -1, attention.dtype)
                del attention_grad
                query_grad[group.start : group.stop, :, columns] = torch.bmm(score_grad, keys)
                key_grad = torch.bmm(
                    score_grad[:, :, past:].transpose(1, 2), query[group.start : group.stop, :, columns]
                )
                chunk_grad[group.start : group.stop, :, columns] = value_grad.add_(key_grad)
        ctx.memory = None
        return query_grad, chunk_grad, None, None, None


def _lane_groups(lanes: int, scores_per_lane: int, device: torch.device):
    """Ranges of lanes that are worked on together: all of them on an accelerator, a cacheful on CPU."""
    size = lanes if device.type != "cpu" else max(1, _CPU_GROUP_SCORES // max(1, scores_per_lane))
    return [range(start, min(start + size, lanes)) for start in range(0, lanes, size)]


def attend_memory(query: Tensor, chunk: Tensor, memory: Tensor, heads: int, rate: float) -> Tensor:
    """Softmax attention of `query` [B, T, D] over `memory` [B, S + T, D], causal among its last T rows.

    `chunk` [B, T, D] holds the values of those last T rows and receives their gradient. Dropout at `rate` falls on
    the attention weights and on the values (spec, "Attention"). Returns [B, T, D].
    """
    if torch.is_autocast_enabled() and query.is_cuda:
        dtype = torch.get_autocast_gpu_dtype()
        query, chunk, memory = query.to(dtype), chunk.to(dtype), memory.to(dtype)
    return _AttendMemory.apply(query, chunk, memory, heads, rate)


class MemoryAttention(nn.Module):
    """Attention whose keys and values are the memory itself, under static gates (spec, "Attention").

    The gates on keys and values are vectors, so they never touch the memory: q·(σ(g_k) ⊙ m) = (σ(g_k) ⊙ q)·m, and
    Σ a (o ⊙ m) = o ⊙ Σ a m. Dropout falls where the paper has it, on q, on the values and on the attention weights.

    Raises ValueError when `heads` does not divide `width`.
    """

    def __init__(
        self,
        width: int,
        heads: int = 1,
        dropout: float = 0.0,
        layer_norm: LayerNormFactory = nn.LayerNorm,
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
        self.value = OverparameterizedVector(width)

    def forward(self, h: Tensor, m: Tensor, rows: Tensor) -> Tensor:
        """Attend from h [T, B, D] over `rows` [B, S + T, D]: memory, and this chunk's m [T, B, D] as the last T.

        m takes the gradient of its rows. Returns [T, B, D].
        """
        q = torch.sigmoid(self.query_gate) * self.ln_query(self.query(h))
        q = dropout(q, self.dropout, self.training)
        q = q * (torch.sigmoid(self.key_gate) * self.scale)
        rate = self.dropout if self.training else 0.0
        mixed = attend_memory(q.transpose(0, 1), m.transpose(0, 1), rows, self.heads, rate)
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
