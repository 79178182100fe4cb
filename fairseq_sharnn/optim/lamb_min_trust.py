"""`--optimizer lamb_min_trust`: minimum-trust LAMB for fairseq's trainer."""

import ast
from dataclasses import dataclass, field
from typing import Any, List, Tuple

from fairseq.dataclass import FairseqDataclass
from fairseq.optim import FairseqOptimizer, register_optimizer
from omegaconf import II

from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.optim.lamb import LambMinTrust


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

    def __init__(self, cfg: LambMinTrustConfig, params):
        super().__init__(cfg)
        try:
            self._optimizer = LambMinTrust(params, **self.optimizer_config)
        except ValueError as error:
            raise UsageError(f"--{error}") from None

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
