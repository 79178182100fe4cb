"""Minimum-trust LAMB in torch only (paper, section 4.4; spec, "Minimum-trust LAMB")."""

from collections import defaultdict
from typing import Callable, Dict, List, Optional, Sequence

import torch
from torch import Tensor

_LARGEST_WEIGHT_NORM = 10.0


def adds_in_one_pass(device: torch.device) -> bool:
    """Whether scaled updates are added in one pass on a device: on every accelerator. (It rounds otherwise than on CPU.)"""
    return device.type != "cpu"


class LambMinTrust(torch.optim.Optimizer):
    """LAMB whose trust ratio never falls below a floor.

    m ← β₁ m + (1 − β₁) g;  v ← β₂ v + (1 − β₂) g²  (no bias correction)
    u = m / (√v + ε) + λ w;  trust = max(min(‖w‖, 10) / ‖u‖, min_trust), 1 where a norm is 0;  w ← w − lr · trust · u

    Norms are over one parameter tensor at a time, so parameters must not be flattened into one buffer. A tensor without
    a gradient is skipped. Half-precision parameters are updated in float32 arithmetic with float32 moments. A step never
    waits for the device.

    Args:
        min_trust: the floor, in [0, 1); 0 is plain LAMB.
        keep_trust: keep the last trust ratio of each parameter in `trust_ratios`, as 0-d tensors, for plots and tests.

    Raises ValueError for a value out of range, with the argument's name in backquotes.
    """

    # without it fairseq's memory-efficient fp16 replaces the loaded state by the checkpoint's own tensors, on CPU
    disable_mem_eff_fp16_loading_hack = True

    def __init__(
        self,
        params,
        lr: float = 2e-3,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 1.2e-6,
        min_trust: float = 0.25,
        keep_trust: bool = False,
    ):
        if not 0.0 <= min_trust < 1.0:
            raise ValueError(f"`min_trust` must be in [0, 1), but it is {min_trust}")
        if len(betas) != 2 or not all(0.0 <= beta < 1.0 for beta in betas):
            raise ValueError(f"`betas` must be two numbers in [0, 1), but they are {tuple(betas)}")
        for name, value in (("lr", lr), ("eps", eps), ("weight_decay", weight_decay)):
            if value < 0.0:
                raise ValueError(f"`{name}` must not be negative, but it is {value}")
        defaults = {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay, "min_trust": min_trust}
        super().__init__(params, defaults)
        self.keep_trust = keep_trust
        self.trust_ratios: Dict[Tensor, Tensor] = {}

    @torch.no_grad()
    def step(self, closure: Optional[Callable] = None):
        """Update every parameter that has a gradient. Returns the closure's loss, if a closure is given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            alike = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if parameter.grad.is_sparse:
                    raise ValueError("LAMB takes no sparse gradients; use a dense embedding")
                alike[parameter.device, parameter.dtype].append(parameter)
            for parameters in alike.values():
                self._update(parameters, group)
        return loss

    def _update(self, parameters: List[Tensor], group: Dict) -> None:
        """Update tensors of one device and type, by operations over lists."""
        beta1, beta2 = group["betas"]
        moments, squares = [], []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                precise = torch.promote_types(parameter.dtype, torch.float32)
                state["exp_avg"] = torch.zeros_like(parameter, dtype=precise, memory_format=torch.preserve_format)
                state["exp_avg_sq"] = torch.zeros_like(state["exp_avg"])
            moments.append(state["exp_avg"])
            squares.append(state["exp_avg_sq"])
        precise = moments[0].dtype
        weights: List[Tensor] = [parameter.to(precise) for parameter in parameters]  # the parameters, if in float32
        grads = [parameter.grad.to(precise) for parameter in parameters if parameter.grad is not None]  # all have one

        torch._foreach_mul_(moments, beta1)
        torch._foreach_add_(moments, grads, alpha=1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, value=1 - beta2)
        denominators = torch._foreach_sqrt(squares)
        torch._foreach_add_(denominators, group["eps"])
        updates = list(torch._foreach_div(moments, denominators))
        if group["weight_decay"] != 0:
            torch._foreach_add_(updates, weights, alpha=group["weight_decay"])

        trust = self._trust(torch._foreach_norm(weights), torch._foreach_norm(updates), group["min_trust"])
        self._add(weights, updates, trust * -group["lr"])
        for parameter, weight in zip(parameters, weights):
            if weight is not parameter:
                parameter.copy_(weight)
        if self.keep_trust:
            self.trust_ratios.update(zip(parameters, trust.unbind()))

    @staticmethod
    def _add(weights: List[Tensor], updates: List[Tensor], factors: Tensor) -> None:
        """Add to each weight its update times its factor [number of tensors].

        On an accelerator torch has no operation over lists that takes such factors: it would multiply one tensor after
        the other, and then add. There one operation a tensor does both.
        """
        if adds_in_one_pass(factors.device):
            for weight, update, factor in zip(weights, updates, factors.unbind()):
                weight.addcmul_(update, factor)
            return
        torch._foreach_mul_(updates, list(factors.unbind()))
        torch._foreach_add_(weights, updates)

    @staticmethod
    def _trust(weight_norms: Sequence[Tensor], update_norms: Sequence[Tensor], min_trust: float) -> Tensor:
        """Trust ratios [number of tensors] from the norms of weights and updates."""
        weight_norm, update_norm = torch.stack(list(weight_norms)), torch.stack(list(update_norms))
        trust = weight_norm.clamp(max=_LARGEST_WEIGHT_NORM) / update_norm
        trust = torch.where((weight_norm == 0) | (update_norm == 0), torch.ones_like(trust), trust)
        return trust.clamp_(min=min_trust)

    def load_state_dict(self, state_dict: Dict) -> None:
        """Load a state. Moments stay float32: torch would cast those of half-precision parameters to half."""
        super().load_state_dict(state_dict)
        saved_order = [index for group in state_dict["param_groups"] for index in group["params"]]
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        for index, parameter in zip(saved_order, parameters):
            for name, value in state_dict["state"].get(index, {}).items():
                if torch.is_tensor(value) and value.dtype != self.state[parameter][name].dtype:
                    self.state[parameter][name] = value.to(device=parameter.device, copy=True)
