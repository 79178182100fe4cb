"""Dynamic evaluation (Krause et al., arXiv 1709.07432 and 1904.08378): score a chunk, then learn from it.

In torch only. With f the model, w its weights, w_0 the trained ones, and k = 1, 2, ... the chunks of a text:

    score   L_k = mean of -ln p over the scored targets of chunk k, by w_{k-1}
    learn   g_k = dL_k / dw at w_{k-1}, scaled down to a global norm of at most `clip`
            w_k = w_{k-1} - lr u_k + pull_k (w_0 - w_{k-1})

u_k and pull_k, elementwise, for each optimizer:

    sgd     u = g,                   pull = decay
    rms     u = g / (sqrt(s) + eps), pull = min(1, decay sqrt(s) / mean of sqrt(s) over all weights)
            s_k = (g_1^2 + ... + g_k^2) / k
    adam    u = m' / (sqrt(v') + eps), pull = decay
            m_k = 0.9 m_{k-1} + 0.1 g_k, v_k = 0.999 v_{k-1} + 0.001 g_k^2, m' = m / (1 - 0.9^k), v' = v / (1 - 0.999^k)

eps is 1e-6. `rms` is the published rule with one change: the papers gather s on the training data, and here it is gathered
from the chunks scored so far, so that a checkpoint is all that is needed.
"""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Dict, List, Optional, Sequence

import torch
from torch import Tensor, nn

from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.modules.overparameterized import OverparameterizedVector

OPTIMIZERS = ("adam", "rms", "sgd")
EPS = 1e-6
BETA_MEAN, BETA_SQUARE = 0.9, 0.999
FIRST_LOSS_SCALE = 2.0**10  # for weights in float16; it halves when a gradient overflows


@dataclass(frozen=True)
class DynamicSettings:
    """How to learn from what was scored.

    lr: learning rate; 0 leaves the weights as they are (static evaluation). optimizer: one of `OPTIMIZERS`. decay: which
    part of the way back to the trained weights each step takes, from 0 to 1. clip: largest global norm of a gradient (0:
    any). Raises UsageError, naming the option, for values out of range.
    """

    lr: float = 0.0
    optimizer: str = "adam"
    decay: float = 0.0
    clip: float = 0.25

    def __post_init__(self) -> None:
        for name, least in (("lr", 0.0), ("decay", 0.0), ("clip", 0.0)):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= least):
                raise UsageError(f"--dynamic-{name} must be a finite number from 0 up, but it is {value}")
        if self.decay > 1.0:
            raise UsageError(f"--dynamic-decay must be from 0 to 1, but it is {self.decay}")
        if self.optimizer not in OPTIMIZERS:
            raise UsageError(f"--dynamic-optimizer must be one of {', '.join(OPTIMIZERS)}, but it is {self.optimizer}")

    @property
    def learns(self) -> bool:
        """Whether this is dynamic evaluation. Otherwise the weights stay as they are."""
        return self.lr > 0.0

    def __str__(self) -> str:
        if not self.learns:
            return "static"
        return f"dynamic ({self.optimizer}, lr {self.lr:g}, decay {self.decay:g}, clip {self.clip:g})"

    def figures(self) -> Dict[str, Any]:
        """For JSON: `evaluation` is "static" or "dynamic", and with the latter come its settings."""
        if not self.learns:
            return {"evaluation": "static"}
        return {"evaluation": "dynamic", **{f"dynamic_{name}": value for name, value in asdict(self).items()}}


STATIC = DynamicSettings()


def settings_of(options: Any) -> DynamicSettings:
    """The settings in a program's options, or in a task's configuration: `dynamic_lr` and so on; static without them.

    Raises UsageError for values out of range.
    """
    given = {field.name: getattr(options, f"dynamic_{field.name}", None) for field in fields(DynamicSettings)}
    return DynamicSettings(**{name: value for name, value in given.items() if value is not None})


def check_warmup(context_window: int, lanes: int, option: str) -> None:
    """Raises UsageError if lanes that learn would read ids before they are scored. option: the number of lanes."""
    if context_window > 0 and lanes > 1:
        raise UsageError(
            f"--context-window {context_window} has each of {lanes} lanes read what another lane scores later, and with "
            f"--dynamic-lr the weights would learn it before: leave out --context-window, or use one lane ({option} 1)"
        )


class Learner:
    """Lets a model learn from each chunk after it has been scored, and gives its trained weights back.

        with Learner(module, settings) as learner:
            for chunk in chunks:
                with torch.enable_grad():
                    loss = ...  # mean nats of the chunk's scored targets, by `module` as it is now
                learner.learn(loss)

    All parameters learn, in the form in which they were trained: over-parameterised vectors are computed from their
    networks while this is open. Weights in half precision learn by a copy in float32. On exit, also by an exception, the
    module is as it was, bit by bit. The module is in evaluation mode (no dropout) while it learns.

    steps: how many steps were taken. skipped: how many were not, because a gradient was not finite.
    """

    def __init__(self, module: nn.Module, settings: DynamicSettings):
        self.settings = settings
        self.steps, self.skipped = 0, 0
        self._module, self._training = module, module.training
        self._vectors = [part for part in module.modules() if isinstance(part, OverparameterizedVector)]
        self._collapsed = [vector.collapsed for vector in self._vectors]
        self._parameters: List[nn.Parameter] = list(module.parameters())
        self._learned = [parameter.requires_grad for parameter in self._parameters]
        self._trained = [parameter.detach().clone() for parameter in self._parameters]  # w_0
        self._weights = [_in_full(parameter.detach()) for parameter in self._parameters]  # w; the parameters, or copies
        self._targets = [_in_full(trained) for trained in self._trained]  # w_0 in the type of w
        self._rule = _RULES[settings.optimizer](self._weights)
        half = any(parameter.dtype == torch.float16 for parameter in self._parameters)
        self._loss_scale = FIRST_LOSS_SCALE if half else 1.0
        self._open = True
        module.eval()
        for vector in self._vectors:
            vector.expand_again()
        for parameter in self._parameters:
            parameter.requires_grad_(True)

    def learn(self, loss: Tensor) -> None:
        """Take one step on the mean loss of a chunk that has been scored. It frees the graph of the loss."""
        found = torch.autograd.grad(loss * self._loss_scale, self._parameters, allow_unused=True)
        with torch.no_grad():
            grads = [None if grad is None else grad.to(of.dtype) for grad, of in zip(found, self._weights)]
            if self._loss_scale != 1.0:
                grads = [None if grad is None else grad / self._loss_scale for grad in grads]
            norm = math.sqrt(sum(float(grad.double().square().sum()) for grad in grads if grad is not None))
            if not math.isfinite(norm):
                self.skipped += 1
                self._loss_scale = max(1.0, self._loss_scale / 2)
                return
            if 0.0 < self.settings.clip < norm:
                grads = [None if grad is None else grad * (self.settings.clip / norm) for grad in grads]
            self.steps += 1
            self._rule.step(self.settings, self.steps, grads, self._targets)
            for parameter, weight in zip(self._parameters, self._weights):
                if parameter.data_ptr() != weight.data_ptr():
                    parameter.copy_(weight)

    @torch.no_grad()
    def restore(self) -> None:
        """Give the module its trained weights back. A second call does nothing."""
        if not self._open:
            return
        self._open = False
        for parameter, trained, learned in zip(self._parameters, self._trained, self._learned):
            parameter.copy_(trained)
            parameter.requires_grad_(learned)
        self._module.train(self._training)
        for vector, collapsed in zip(self._vectors, self._collapsed):
            if collapsed:
                vector.collapse()

    def __enter__(self) -> "Learner":
        return self

    def __exit__(self, *unused) -> None:
        self.restore()


class _Sgd:
    """w <- w - lr g + decay (w_0 - w)"""

    def __init__(self, weights: Sequence[Tensor]):
        self.weights = weights

    def step(
        self, settings: DynamicSettings, number: int, grads: Sequence[Optional[Tensor]], targets: Sequence[Tensor]
    ) -> None:
        """Step `number` (from 1), in place."""
        for weight, grad, target in zip(self.weights, grads, targets):
            if grad is not None:
                _move(weight, grad, settings, target)


class _Rms(_Sgd):
    """The published rule, with the mean square of all gradients so far."""

    def __init__(self, weights: Sequence[Tensor]):
        super().__init__(weights)
        self.squares = [torch.zeros_like(weight) for weight in weights]

    def step(self, settings, number, grads, targets) -> None:
        for square, grad in zip(self.squares, grads):
            square.mul_((number - 1) / number)
            if grad is not None:
                square.addcmul_(grad, grad, value=1 / number)
        roots = [square.sqrt() for square in self.squares]
        mean = sum(float(root.double().sum()) for root in roots) / max(1, sum(root.numel() for root in roots))
        for weight, grad, target, root in zip(self.weights, grads, targets, roots):
            if grad is None:
                continue
            step = grad / (root + EPS)
            if settings.decay == 0.0 or mean == 0.0:
                weight.sub_(step, alpha=settings.lr)
            else:
                pull = root.mul_(settings.decay / mean).clamp_(max=1.0)
                weight.add_(pull * (target - weight)).sub_(step, alpha=settings.lr)


class _Adam(_Sgd):
    """Kingma & Ba, arXiv 1412.6980, with bias correction, and the pull towards the trained weights."""

    def __init__(self, weights: Sequence[Tensor]):
        super().__init__(weights)
        self.means = [torch.zeros_like(weight) for weight in weights]
        self.squares = [torch.zeros_like(weight) for weight in weights]

    def step(self, settings, number, grads, targets) -> None:
        mean_bias, square_bias = 1 - BETA_MEAN**number, 1 - BETA_SQUARE**number
        for weight, grad, target, mean, square in zip(self.weights, grads, targets, self.means, self.squares):
            if grad is None:
                continue
            mean.mul_(BETA_MEAN).add_(grad, alpha=1 - BETA_MEAN)
            square.mul_(BETA_SQUARE).addcmul_(grad, grad, value=1 - BETA_SQUARE)
            denominator = square.sqrt().mul_(1 / math.sqrt(square_bias)).add_(EPS)
            _move(weight, (mean / mean_bias).div_(denominator), settings, target)


_RULES = {"sgd": _Sgd, "rms": _Rms, "adam": _Adam}


def _move(weight: Tensor, step: Tensor, settings: DynamicSettings, target: Tensor) -> None:
    """w <- w - lr u + decay (w_0 - w), in place."""
    if settings.decay > 0.0:
        weight.lerp_(target, settings.decay)
    weight.sub_(step, alpha=settings.lr)


def _in_full(tensor: Tensor) -> Tensor:
    """The tensor itself, or a float32 copy of one in half precision."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
