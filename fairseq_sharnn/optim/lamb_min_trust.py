"""`--optimizer lamb_min_trust`: minimum-trust LAMB for fairseq's trainer."""

import ast
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, List, Optional, Tuple

import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.optim import FairseqOptimizer, register_optimizer
from omegaconf import II

from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.optim.lamb import LambMinTrust
from fairseq_sharnn.optim.trust_log import TrustLog


@dataclass
class LambMinTrustConfig(FairseqDataclass):
    lamb_betas: Any = field(
        default="(0.9, 0.999)", metadata={"help": "decay of LAMB's first and second moment, as '(b1, b2)'"}
    )
    lamb_eps: float = field(default=1e-6, metadata={"help": "LAMB's epsilon, added to the root of the second moment"})
    min_trust: float = field(
        default=0.25, metadata={"help": "floor under LAMB's trust ratio, in [0, 1); 0 is plain LAMB"}
    )
    weight_decay: float = field(default=1.2e-6, metadata={"help": "weight decay, on every parameter"})
    trust_log: Optional[str] = field(
        default=None, metadata={"help": "file to which the trust ratio of each tensor is written, as lines of JSON"}
    )
    trust_log_interval: int = field(default=10, metadata={"help": "updates between two lines of --trust-log"})
    lr: List[float] = II("optimization.lr")


def parse_betas(value: Any) -> Tuple[float, float]:
    """Read `--lamb-betas`, text such as '(0.9, 0.999)' or a list from a hydra config. Raises UsageError."""
    try:
        betas = ast.literal_eval(value) if isinstance(value, str) else value
        first, second = (float(beta) for beta in betas)
    except (ValueError, SyntaxError, TypeError):
        raise UsageError(f"--lamb-betas takes two numbers such as '(0.9, 0.999)', not '{value}'") from None
    return first, second


@register_optimizer("lamb_min_trust", dataclass=LambMinTrustConfig)
class FairseqLambMinTrust(FairseqOptimizer):
    """LambMinTrust under fairseq's trainer. Its norms are per tensor, so parameters must not be flattened."""

    never_flat = True
    # Set (compat/training.py) where fairseq hands over float32 copies of half-precision parameters, which it never saves.
    parameters_are_masters = False
    # torch's GradScaler leaves the gradients of such an optimizer alone: see `step`.
    _step_supports_amp_scaling = True

    def __init__(self, cfg: LambMinTrustConfig, params):
        super().__init__(cfg)
        options = self.optimizer_config
        try:
            self._optimizer = LambMinTrust(params, **options)
        except ValueError as error:
            raise UsageError(f"--{error}") from None
        # configurations of checkpoints from before the option lack it
        path = getattr(cfg, "trust_log", None)
        self._trust_log = None if path is None else TrustLog(path, cfg.trust_log_interval)
        self._watched: List[Tuple[str, torch.Tensor]] = []

    def watch_trust(self, names: Iterable[str], updates: Callable[[], int]) -> None:
        """Told by the trainer (compat/training.py) what --trust-log needs: names of parameters, the number of updates."""
        if self._trust_log is not None:
            self._watched, self._updates = list(zip(names, self.params)), updates

    @property
    def optimizer_config(self):
        """Keyword arguments of LambMinTrust, from the configuration."""
        lr = self.cfg.lr
        return {
            "lr": float(lr if isinstance(lr, (int, float)) else lr[0]),
            "betas": parse_betas(self.cfg.lamb_betas),
            "eps": self.cfg.lamb_eps,
            "weight_decay": self.cfg.weight_decay,
            "min_trust": self.cfg.min_trust,
        }

    @property
    def supports_flat_params(self):
        return not self.never_flat

    @property
    def supports_memory_efficient_fp16(self):
        return True

    def step(self, closure=None, scale=1.0, groups=None):
        """Update the parameters, unless the loss scaler of --amp found an overflow.

        fairseq's AMP optimizer unscales the gradients when it clips them, and then has the scaler unscale them once more
        in front of the step, under another object's name. LAMB's ε notices; so the second time is declined here.
        """
        found_inf = getattr(self, "found_inf", None)
        if found_inf is None or found_inf.item() == 0:
            update = self._updates() + 1 if self._watched else 0
            self._optimizer.keep_trust = bool(self._watched) and self._trust_log.wants(update)
            super().step(closure, scale, groups)
            if self._optimizer.keep_trust:
                ratios = self._optimizer.trust_ratios
                trust = {name: ratios[tensor].item() for name, tensor in self._watched if tensor in ratios}
                self._trust_log.write(update, trust)

    def state_dict(self):
        """The optimizer's state, and the float32 master weights where fairseq trains in half precision."""
        state = super().state_dict()
        if self.parameters_are_masters:
            state["masters"] = [parameter.detach() for parameter in self.params]
        return state

    def load_state_dict(self, state_dict, optimizer_overrides=None):
        """Load a state; master weights in it replace the ones that were rounded to half precision."""
        masters = state_dict.get("masters")
        rest = {name: value for name, value in state_dict.items() if name != "masters"}
        super().load_state_dict(rest, optimizer_overrides)
        if masters is not None and self.parameters_are_masters:
            with torch.no_grad():
                for parameter, master in zip(self.params, masters):
                    parameter.copy_(master)
