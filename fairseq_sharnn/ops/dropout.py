"""Dropout and DropConnect: the paper's plain elementwise masks, drawn cheaply (spec, "Dropout sites")."""

from typing import Sequence

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fairseq_sharnn.ops import kernels

# One keep/drop decision takes 16 random bits, so the rate is exact to 2**-17: 0.1 becomes 0.100006.
_LEVELS = 1 << 16


def dropout(x: Tensor, rate: float, training: bool) -> Tensor:
    """Drop elements of x: a new mask each call, kept entries scaled by 1 / (1 − rate).

    x: any shape. Returns x itself outside training or at rate 0.
    """
    if not training or rate == 0.0:
        return x
    if x.device.type != "cpu":
        return torch.nn.functional.dropout(x, rate, training=True)
    if kernels.usable(x):
        return dropout_fused(x, rate)
    return dropout_plain(x, rate)


def dropconnect(weight: Tensor, rate: float, training: bool) -> Tensor:
    """Drop entries of a weight matrix: one mask each call. Returns the matrix itself outside training or at rate 0."""
    if not training or rate == 0.0:
        return weight
    return weight * keep_mask(weight.shape, rate, weight.device) * keep_scale(rate, weight.device)


def dropout_plain(x: Tensor, rate: float) -> Tensor:
    """Dropout in plain torch, with a mask of `keep_mask`."""
    return _MaskedScale.apply(x, keep_mask(x.shape, rate, x.device), keep_scale(rate, x.device))


class _MaskedScale(torch.autograd.Function):
    """x ⊙ mask · scale. It keeps the one-byte mask for the backward pass instead of a float copy."""

    @staticmethod
    def forward(ctx, x: Tensor, mask: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.scale = scale
        return (x * scale).mul_(mask)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (mask,) = ctx.saved_tensors
        return (grad * ctx.scale).mul_(mask), None, None


def dropout_fused(x: Tensor, rate: float) -> Tensor:
    """Dropout by the CPU kernel, which needs no memory for a mask."""
    return _SeededDropout.apply(x, rate, kernels.draw_seed())


class _SeededDropout(torch.autograd.Function):
    """Dropout whose backward pass draws the mask again from its seed."""

    @staticmethod
    def forward(ctx, x: Tensor, rate: float, seed: int) -> Tensor:
        ctx.rate, ctx.seed = rate, seed
        return kernels.ops.dropout(x, rate, seed)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        return kernels.ops.dropout(grad, ctx.rate, ctx.seed), None, None


def keep_mask(shape: Sequence[int], rate: float, device: torch.device) -> Tensor:
    """Draw a boolean mask of `shape`, True with probability 1 − `rate`, from torch's default generator.

    On CPU the generator's 64-bit words are cut into four decisions each. That is several times faster than
    `bernoulli_`, which spends a double on every element.
    """
    if device.type != "cpu":
        return torch.empty(shape, dtype=torch.bool, device=device).bernoulli_(1.0 - rate)  # a byte each, no floats
    shape = torch.Size(shape)
    words = torch.empty((shape.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    draws = words.view(torch.int16)[: shape.numel()].view(shape)
    return draws >= _threshold(rate)


def keep_scale(rate: float, device: torch.device) -> float:
    """The factor 1 / P(kept) that keeps the mean, for the masks that `keep_mask` draws on `device`."""
    if device.type != "cpu":
        return 1.0 / (1.0 - rate)
    return _LEVELS / (_LEVELS // 2 - _threshold(rate))


def _threshold(rate: float) -> int:
    """Smallest 16-bit draw that is kept: draws are uniform over [−2¹⁵, 2¹⁵); at least one level is kept."""
    return min(round(rate * _LEVELS), _LEVELS - 1) - _LEVELS // 2
