"""The Boom layer (paper, section 4.2): a feed-forward layer without its second matrix."""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fairseq_sharnn.modules.dropout import check_rate, keep_mask, keep_scale
from fairseq_sharnn.ops import kernels

_GELU_SLOPE = 1.702


class _ActivateAndFold(torch.autograd.Function):
    """drop(gelu(a)) summed over consecutive chunks of D columns; the gradient arrives by broadcast.

    Saved for the backward pass: a and a one-byte mask, no [N, H] activation and no [N, H] gradient of the sum.
    """

    @staticmethod
    def forward(ctx, a: Tensor, width: int, mask, scale: float) -> Tensor:
        z = torch.sigmoid(a * _GELU_SLOPE).mul_(a)
        if mask is not None:
            z.mul_(mask)
        folded = z.view(*a.shape[:-1], -1, width).sum(-2)
        ctx.save_for_backward(a, mask)
        ctx.width, ctx.scale = width, scale
        return folded.mul_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        a, mask = ctx.saved_tensors
        gate = torch.sigmoid(a * _GELU_SLOPE)
        # d gelu / da = σ(ka) + k a σ(ka) (1 − σ(ka)) = σ(ka) (1 + k a (1 − σ(ka)))
        slope = (1 - gate).mul_(a).mul_(_GELU_SLOPE).add_(1).mul_(gate)
        if mask is not None:
            slope.mul_(mask)
        chunks = slope.view(*a.shape[:-1], -1, ctx.width)
        chunks.mul_((grad * ctx.scale).unsqueeze(-2))
        return slope, None, None, None


class _KernelBoom(torch.autograd.Function):
    """The whole layer by the CPU kernel, whose mask is drawn again from its seed in the backward pass.

    Kept is a [N, H] alone, which gives its place to its gradient; a second backward pass computes it again.
    """

    @staticmethod
    def forward(ctx, f: Tensor, weight: Tensor, bias: Tensor, width: int, rate: float, seed: int) -> Tensor:
        flat = f.reshape(-1, width)
        a = torch.addmm(bias, flat, weight.t())
        if any(ctx.needs_input_grad):
            ctx.spent, ctx.settings = False, (width, rate, seed)
            ctx.save_for_backward(flat, weight, bias, a)
        return kernels.ops.activate_and_fold(a, width, rate, seed).view_as(f)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        flat, weight, bias, a = ctx.saved_tensors
        if ctx.spent:
            a = torch.addmm(bias, flat, weight.t())
        a, ctx.spent = a.data, True  # written to, which autograd is not to hold against us
        kernels.ops.activate_and_fold_backward(grad, a, *ctx.settings)
        return (a @ weight).view_as(grad), a.t() @ flat, a.sum(0), None, None, None


class Boom(nn.Module):
    """Widen to H, activate, and sum the H // D consecutive chunks of D columns back to width D (spec, "Boom").

    z = drop(gelu(W_b f + b_b)), gelu(x) = x ⊙ σ(1.702 x); columns past (H // D)·D are dropped. Raises ValueError when
    H is below D.
    """

    def __init__(self, width: int, boom_width: int, dropout: float = 0.0):
        super().__init__()
        if boom_width < width:
            raise ValueError(f"the Boom width must be at least the model width {width}, but it is {boom_width}")
        self.width = width
        self.used = boom_width // width * width
        self.expand = nn.Linear(width, boom_width)
        self.dropout = check_rate("boom dropout", dropout)

    def forward(self, f: Tensor) -> Tensor:
        """f: [..., D] -> [..., D]"""
        weight, bias = self.expand.weight, self.expand.bias
        if self.used < weight.size(0):
            weight, bias = weight[: self.used], bias[: self.used]
        rate = self.dropout if self.training else 0.0
        if kernels.usable(f, weight):
            seed = kernels.draw_seed() if rate > 0.0 else 0
            return _KernelBoom.apply(f, weight, bias, self.width, rate, seed)
        a = nn.functional.linear(f, weight, bias)  # [..., H // D * D]
        if rate == 0.0:
            return _ActivateAndFold.apply(a, self.width, None, 1.0)
        mask = keep_mask(a.shape, rate, a.device)
        return _ActivateAndFold.apply(a, self.width, mask, keep_scale(rate, a.device))
