"""Boom's arithmetic: widen, activate, drop, and fold the columns back (paper, section 4.2)."""

from typing import Optional, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fairseq_sharnn.ops import kernels
from fairseq_sharnn.ops.dropout import keep_mask, keep_scale

GELU_SLOPE = 1.702


def has_few_passes(device: torch.device) -> bool:
    """Whether Boom on a device is computed in as few passes as plain torch allows: on every accelerator."""
    return device.type != "cpu"


def boom(f: Tensor, weight: Tensor, bias: Tensor, rate: float, training: bool) -> Tensor:
    """Sum drop(gelu(W f + b)) over consecutive chunks of D columns (spec, "Boom").

    f: [..., D]; weight [H', D] and bias [H'], H' a multiple of D. Dropout only in training. Returns [..., D].
    """
    rate = rate if training else 0.0
    if has_few_passes(f.device):
        return boom_few_passes(f, weight, bias, rate)
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


def boom_few_passes(f: Tensor, weight: Tensor, bias: Tensor, rate: float) -> Tensor:
    """`boom` in plain torch, in a third of `boom_plain`'s passes over [N, H']: gelu(a) = silu(k a) / k with k = 1.702."""
    kind = f.device.type
    if kind == "meta" or not torch.is_autocast_enabled(kind):
        return _SiluAndFold.apply(f, weight, bias, rate)
    dtype = torch.get_autocast_dtype(kind)
    with torch.autocast(kind, enabled=False):  # under it the sum would be in float32, of values in half precision
        return _SiluAndFold.apply(f.to(dtype), weight.to(dtype), bias.to(dtype), rate)


class _SiluAndFold(torch.autograd.Function):
    """The product gives k a at no cost: k is a factor of it. One pass each for the activation, dropout and the sum.

    Saved for the backward pass: k a [N, H'] and a one-byte mask.
    """

    @staticmethod
    def forward(ctx, f: Tensor, weight: Tensor, bias: Tensor, rate: float) -> Tensor:
        width = f.size(-1)
        flat = f.reshape(-1, width)
        # k in the bias, not as `beta`: then cuBLAS adds the bias in the product, without a pass of its own
        ka = torch.addmm(bias * GELU_SLOPE, flat, weight.t(), alpha=GELU_SLOPE)
        z, mask = torch.nn.functional.silu(ka), None
        if rate > 0.0:
            z, mask = torch.native_dropout(z, rate, True)  # kept entries are scaled by 1 / (1 - rate)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(flat, weight, ka, mask)
            ctx.rate = rate
        return z.view(len(flat), -1, width).sum(1).mul_(1.0 / GELU_SLOPE).view_as(f)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tuple[Optional[Tensor], ...]:
        flat, weight, ka, mask = ctx.saved_tensors
        count, width = flat.shape
        upstream = grad.reshape(count, 1, width)
        if mask is not None:
            upstream = upstream * (1.0 / (1.0 - ctx.rate))
        chunks = ka.view(count, -1, width)
        a_grad = torch.ops.aten.silu_backward(upstream.expand_as(chunks), chunks).view_as(ka)
        if mask is not None:
            a_grad.mul_(mask)
        return (a_grad @ weight).view_as(grad), a_grad.t() @ flat, a_grad.sum(0), None


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
