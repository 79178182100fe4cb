"""`--optimizer lamb_min_trust`: minimum-trust LAMB for fairseq's trainer."""

import ast
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, List, Optional, Tuple

import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.optim import FairseqOptimizer, register_optimizer
from omegaconf import II

from fairseq_sharnn.errors import UsageError, named_as_options
from fairseq_sharnn.optim.lamb import LambMinTrust
from fairseq_sharnn.optim.trust_log import TrustLog

# LambMinTrust's own names of what the options set.
_OPTIONS = {
    "lr": "lr",
    "betas": "lamb-betas",
    "eps": "lamb-eps",
    "weight_decay": "weight-decay",
    "min_trust": "min-trust",
}


@dataclass
class LambMinTrustConfig(FairseqDataclass):
    lamb_betas: Any = field(
        default="(0.9, 0.999)", metadata={"help": "decay rates of LAMB's first and second moment, as '(b1, b2)'"}
    )
    lamb_eps: float = field(
        default=1e-6, metadata={"help": "LAMB's epsilon, which is added to the root of the second moment"}
    )
    min_trust: float = field(
        default=0.25, metadata={"help": "floor under LAMB's trust ratio, in [0, 1); 0 means plain LAMB"}
    )
    weight_decay: float = field(default=1.2e-6, metadata={"help": "weight decay, on all parameters"})
    trust_log: Optional[str] = field(
        default=None, metadata={"help": "write the trust ratio of each tensor to this file, as lines of JSON"}
    )
    trust_log_interval: int = field(default=10, metadata={"help": "number of updates between two lines of --trust-log"})
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
    # compat/training.py sets this if the parameters are float32 copies of half-precision ones: fairseq never saves them.
    parameters_are_masters = False

    def __init__(self, cfg: LambMinTrustConfig, params):
        super().__init__(cfg)
        with named_as_options(_OPTIONS):
            self._optimizer = LambMinTrust(params, **self.optimizer_config)
        # checkpoints from before this option have no such field
        path = getattr(cfg, "trust_log", None)
        self._trust_log = None if path is None else TrustLog(path, cfg.trust_log_interval)
        self._watched: List[Tuple[str, torch.Tensor]] = []
        self._updates: Callable[[], int] = lambda: 0

    def watch_trust(self, names: Iterable[str], updates: Callable[[], int]) -> None:
        """Take what --trust-log needs: the parameters' names and the number of updates (compat/training.py calls it)."""
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
        """Update the parameters, and log their trust ratios if it is time."""
        update = self._updates() + 1 if self._watched else 0
        self._optimizer.keep_trust = bool(self._watched) and self._trust_log.is_due(update)
        super().step(closure, scale, groups)
        if self._optimizer.keep_trust:
            ratios = self._optimizer.trust_ratios
            trust = {name: ratios[tensor].item() for name, tensor in self._watched if tensor in ratios}
            self._trust_log.write(update, trust)

    def state_dict(self):
        """The optimizer's state, with the float32 master weights if fairseq trains in half precision."""
        state = super().state_dict()
        if self.parameters_are_masters:
            state["masters"] = [parameter.detach() for parameter in self.params]
        return state

    def load_state_dict(self, state_dict, optimizer_overrides=None):
        """Load a state. Master weights in it replace those that were rounded to half precision."""
        masters = state_dict.get("masters")
        rest = {name: value for name, value in state_dict.items() if name != "masters"}
        super().load_state_dict(rest, optimizer_overrides)
        if masters is not None and self.parameters_are_masters:
            with torch.no_grad():
                for parameter, master in zip(self.params, masters):
                    parameter.copy_(master)
