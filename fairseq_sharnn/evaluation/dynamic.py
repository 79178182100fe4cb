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
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

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
        self._saved = [parameter.detach().clone() for parameter in self._parameters]
        self._trained = _flat(self._saved)  # w_0
        self._weights, self._grad = self._trained.clone(), torch.empty_like(self._trained)  # w, g
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
            parts = [torch.zeros_like(of) if one is None else one for one, of in zip(found, self._parameters)]
            grad = _flat(parts, self._grad)
            if self._loss_scale != 1.0:
                grad /= self._loss_scale
            norm = float(torch.linalg.vector_norm(grad))
            if not math.isfinite(norm):
                self.skipped += 1
                self._loss_scale = max(1.0, self._loss_scale / 2)
                return
            if 0.0 < self.settings.clip < norm:
                grad *= self.settings.clip / norm
            self.steps += 1
            self._move(*self._rule.step(self.steps, grad, self.settings.decay))

    def _move(self, step: Tensor, pull: Union[float, Tensor]) -> None:
        """w <- w - lr u + pull (w_0 - w), and the parameters are w."""
        if self.settings.decay > 0.0:
            self._weights.add_((self._trained - self._weights).mul_(pull))
        self._weights.sub_(step, alpha=self.settings.lr)
        sizes = [parameter.numel() for parameter in self._parameters]
        for parameter, part in zip(self._parameters, self._weights.split(sizes)):
            parameter.copy_(part.view_as(parameter))

    @torch.no_grad()
    def restore(self) -> None:
        """Give the module its trained weights back. A second call does nothing."""
        if not self._open:
            return
        self._open = False
        for parameter, saved, learned in zip(self._parameters, self._saved, self._learned):
            parameter.copy_(saved)
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
    """u = g, pull = decay"""

    def __init__(self, weights: Tensor):
        """weights: all of them in one vector [N]."""

    def step(self, number: int, grad: Tensor, decay: float) -> Tuple[Tensor, Union[float, Tensor]]:
        """u [N] and pull (a number, or [N]) of step `number`, which counts from 1."""
        return grad, decay


class _Rms:
    """The published rule, with the mean square of all gradients so far. Buffers are kept: new ones cost page faults."""

    def __init__(self, weights: Tensor):
        self.squares, self._root, self._step = (torch.zeros_like(weights) for _ in range(3))

    def step(self, number: int, grad: Tensor, decay: float) -> Tuple[Tensor, Union[float, Tensor]]:
        self.squares.lerp_(torch.square(grad, out=self._step), 1 / number)
        root = torch.sqrt(self.squares, out=self._root)
        step = torch.div(grad, torch.add(root, EPS, out=self._step), out=self._step)
        if decay == 0.0:
            return step, 0.0
        mean = float(root.mean())
        return step, root.mul_(decay / mean).clamp_(max=1.0) if mean > 0.0 else 0.0


class _Adam:
    """Kingma & Ba, arXiv 1412.6980, with bias correction; pull = decay"""

    def __init__(self, weights: Tensor):
        self.means, self.squares, self._root, self._step = (torch.zeros_like(weights) for _ in range(4))

    def step(self, number: int, grad: Tensor, decay: float) -> Tuple[Tensor, Union[float, Tensor]]:
        self.means.lerp_(grad, 1 - BETA_MEAN)
        self.squares.mul_(BETA_SQUARE).addcmul_(grad, grad, value=1 - BETA_SQUARE)
        root = torch.div(self.squares, 1 - BETA_SQUARE**number, out=self._root).sqrt_().add_(EPS)
        return torch.div(self.means, 1 - BETA_MEAN**number, out=self._step).div_(root), decay


_RULES = {"sgd": _Sgd, "rms": _Rms, "adam": _Adam}


def _flat(tensors: Sequence[Tensor], out: Optional[Tensor] = None) -> Tensor:
    """All numbers in one vector, in float32 (float64 where one of them has it). out: where to put them."""
    exact = any(tensor.dtype == torch.float64 for tensor in tensors)
    parts = [tensor.flatten().to(torch.float64 if exact else torch.float32) for tensor in tensors]
    return torch.cat(parts) if out is None else torch.cat(parts, out=out)
