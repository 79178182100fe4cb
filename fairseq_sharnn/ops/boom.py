"""Boom's arithmetic: widen, activate, drop, and fold the columns back (paper, section 4.2)."""

from typing import Optional, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fairseq_sharnn.ops import kernels
from fairseq_sharnn.ops.dropout import keep_mask, keep_scale

GELU_SLOPE = 1.702


def boom(f: Tensor, weight: Tensor, bias: Tensor, rate: float, training: bool) -> Tensor:
    """Sum drop(gelu(W f + b)) over consecutive chunks of D columns (spec, "Boom").

    f: [..., D]; weight [H', D] and bias [H'], H' a multiple of D. Dropout only in training. Returns [..., D].
    """
    rate = rate if training else 0.0
    if kernels.usable(f, weight):
        return boom_fused(f, weight, bias, rate)
    return boom_plain(f, weight, bias, rate)


def gelu(a: Tensor) -> Tensor:
    """The paper's activation gelu(x) = x ⊙ σ(1.702 x), any shape."""
    return a * torch.sigmoid(GELU_SLOPE * a)


def boom_plain(f: Tensor, weight: Tensor, bias: Tensor, rate: float) -> Tensor:
    """`boom` in plain torch."""
    a = torch.nn.functional.linear(f, weight, bias)  # [..., H']
    if rate == 0.0:
        return _ActivateAndFold.apply(a, f.size(-1), None, 1.0)
    return _ActivateAndFold.apply(a, f.size(-1), keep_mask(a.shape, rate, a.device), keep_scale(rate, a.device))


class _ActivateAndFold(torch.autograd.Function):
    """drop(gelu(a)) summed over consecutive chunks of D columns; the gradient arrives by broadcast.

    Saved for the backward pass: a and a one-byte mask. No [N, H'] activation and no [N, H'] gradient of the sum.
    """

    @staticmethod
    def forward(ctx, a: Tensor, width: int, mask: Optional[Tensor], scale: float) -> Tensor:
        z = torch.sigmoid(a * GELU_SLOPE).mul_(a)
        if mask is not None:
            z.mul_(mask)
        folded = z.view(*a.shape[:-1], -1, width).sum(-2)
        ctx.save_for_backward(a, mask)
        ctx.width, ctx.scale = width, scale
        return folded.mul_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tuple[Optional[Tensor], ...]:
        a, mask = ctx.saved_tensors
        gate = torch.sigmoid(a * GELU_SLOPE)
        # d gelu / da = σ(ka) + k a σ(ka) (1 − σ(ka)) = σ(ka) (1 + k a (1 − σ(ka)))
        slope = (1 - gate).mul_(a).mul_(GELU_SLOPE).add_(1).mul_(gate)
        if mask is not None:
            slope.mul_(mask)
        chunks = slope.view(*a.shape[:-1], -1, ctx.width)
        chunks.mul_((grad * ctx.scale).unsqueeze(-2))
        return slope, None, None, None


def boom_fused(f: Tensor, weight: Tensor, bias: Tensor, rate: float) -> Tensor:
    """`boom` by the CPU kernel."""
    seed = kernels.draw_seed() if rate > 0.0 else 0
    return _FusedBoom.apply(f, weight, bias, rate, seed)


class _FusedBoom(torch.autograd.Function):
    """The kernel and its gradient. The backward pass draws the mask again from its seed.

    Only a [N, H'] is kept. The backward pass writes its gradient over it. A second backward pass over the same graph
    computes it again.
    """

    @staticmethod
    def forward(ctx, f: Tensor, weight: Tensor, bias: Tensor, rate: float, seed: int) -> Tensor:
        width = f.size(-1)
        flat = f.reshape(-1, width)
        a = torch.addmm(bias, flat, weight.t())
        if any(ctx.needs_input_grad):
            ctx.spent, ctx.settings = False, (width, rate, seed)
            ctx.save_for_backward(flat, weight, bias, a)
        return kernels.ops.activate_and_fold(a, width, rate, seed).view_as(f)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tuple[Optional[Tensor], ...]:
        flat, weight, bias, a = ctx.saved_tensors
        if ctx.spent:
            a = torch.addmm(bias, flat, weight.t())
        a, ctx.spent = a.data, True  # .data: autograd must not count the writing as a change
        kernels.ops.activate_and_fold_backward(grad, a, *ctx.settings)
        return (a @ weight).view_as(grad), a.t() @ flat, a.sum(0), None, None
