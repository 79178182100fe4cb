"""The LSTM over one chunk, as a function of parameters and state (PyTorch's gate order i f g o, two biases)."""

from typing import Sequence, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fairseq_sharnn.ops import kernels

# With fewer lanes for each thread, torch's own LSTM is faster: it splits the product of one step over the threads.
_LANES_A_THREAD = 4

OutHiddenCell = Tuple[Tensor, Tensor, Tensor]


def lstm(x: Tensor, weights: Sequence[Tensor], hidden: Tensor, cell: Tensor, training: bool) -> OutHiddenCell:
    """Run an LSTM layer over x [T, B, D] from hidden and cell [B, D], which take no gradient.

    weights: weight_ih, weight_hh [4D, D], bias_ih, bias_hh [4D]. training: torch's CUDA kernels need to know it.
    Returns the outputs [T, B, D], and hidden and cell [B, D] after the chunk.
    """
    length, lanes, width = x.shape
    kind = x.device.type
    if length == 1 and kind in ("cpu", "cuda") and not torch.is_grad_enabled() and not torch.is_autocast_enabled(kind):
        return _plain_step(x[0], weights, hidden, cell)
    if width % 16 == 0 and lanes >= _LANES_A_THREAD * torch.get_num_threads() and kernels.usable(x, *weights, cell):
        return lstm_fused(x, weights, hidden, cell)
    return lstm_plain(x, weights, hidden, cell, training)


def lstm_plain(x: Tensor, weights: Sequence[Tensor], hidden: Tensor, cell: Tensor, training: bool) -> OutHiddenCell:
    """`lstm` by torch's own kernels: oneDNN on CPU, cuDNN on a GPU (with nn.LSTM's flat weights, if they are its)."""
    start = (hidden.unsqueeze(0), cell.unsqueeze(0))
    out, hidden, cell = torch._VF.lstm(x, start, list(weights), True, 1, 0.0, training, False, False)
    return out, hidden.squeeze(0), cell.squeeze(0)


def _plain_step(x: Tensor, weights: Sequence[Tensor], hidden: Tensor, cell: Tensor) -> OutHiddenCell:
    """A step x [B, D] without gradient: on CPU torch's LSTM would spend most of it on reordering its weights. On CUDA
    these operations can be recorded as a graph (portable/replayed.py), and cuDNN's LSTM is made for long chunks.
    """
    weight_ih, weight_hh, bias_ih, bias_hh = weights
    gates = torch.addmm(bias_ih, x, weight_ih.t()).addmm_(hidden, weight_hh.t()).add_(bias_hh)  # [B, 4D]
    width = x.size(1)
    gates[:, : 2 * width].sigmoid_()
    gates[:, 2 * width : 3 * width].tanh_()
    gates[:, 3 * width :].sigmoid_()
    enter, forget, candidate, reveal = gates.split(width, dim=1)
    cell = torch.addcmul(enter * candidate, forget, cell)
    hidden = reveal * torch.tanh(cell)
    return hidden.unsqueeze(0), hidden, cell


def lstm_fused(x: Tensor, weights: Sequence[Tensor], hidden: Tensor, cell: Tensor) -> OutHiddenCell:
    """`lstm` by the CPU kernel, which gives each thread its own lanes."""
    out, cell = _Recurrence.apply(x, *weights, hidden.detach(), cell.detach())
    return out, out[-1].detach().clone(), cell  # a view would keep all of out alive in the state


class _Recurrence(torch.autograd.Function):
    """The kernel and its gradient; the state carries no gradient.

    Kept for the backward pass: x, the activated gates [T, B, 4D], the hidden states [T, B, D]. The backward pass writes
    the gates' gradient over the gates. A second backward pass over the same graph computes them again.
    """

    @staticmethod
    def forward(ctx, x, weight_ih, weight_hh, bias_ih, bias_hh, hidden, cell):
        flat = x.reshape(-1, x.size(2))
        gates = _gates(flat, weight_ih, bias_ih, bias_hh, len(x))
        out, last = kernels.ops.lstm(gates, weight_hh, hidden, cell)
        if any(ctx.needs_input_grad):
            ctx.spent = False
            ctx.save_for_backward(flat, weight_ih, weight_hh, bias_ih, bias_hh, hidden, cell, gates, out)
        ctx.mark_non_differentiable(last)
        return out, last

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, _):
        flat, weight_ih, weight_hh, bias_ih, bias_hh, hidden, cell, gates, out = ctx.saved_tensors
        if ctx.spent:
            gates = _gates(flat, weight_ih, bias_ih, bias_hh, len(out))
            kernels.ops.lstm(gates, weight_hh, hidden, cell)
        gates, ctx.spent = gates.data, True  # .data: autograd must not count the writing as a change
        kernels.ops.lstm_backward(grad, gates, weight_hh, cell)
        lanes, width = hidden.shape
        gate_grads = gates.view(-1, 4 * width)
        x_grad = (gate_grads @ weight_ih).view_as(out)
        weight_ih_grad = gate_grads.t() @ flat
        weight_hh_grad = gate_grads[lanes:].t() @ out[:-1].view(-1, width)
        weight_hh_grad.addmm_(gate_grads[:lanes].t(), hidden)
        bias_grad = gate_grads.sum(0)
        return x_grad, weight_ih_grad, weight_hh_grad, bias_grad, bias_grad.clone(), None, None


def _gates(flat: Tensor, weight_ih: Tensor, bias_ih: Tensor, bias_hh: Tensor, length: int) -> Tensor:
    """What the input [T·B, D] and both biases give to the gates: [T, B, 4D]."""
    return torch.addmm(bias_ih + bias_hh, flat, weight_ih.t()).view(length, -1, len(weight_ih))
