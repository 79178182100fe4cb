"""The over-parameterised static vector (paper, section 4.3), and its collapse to a plain one."""

from typing import Optional

import torch
from torch import Tensor, nn


class OverparameterizedVector(nn.Module):
    """A learned vector seen through a small network: o(g) = σ(f) ⊙ tanh(c), [c, f] = W_o σ(g) + b_o.

    The value depends only on parameters, so after training it can be computed once (`collapse`). The parameters stay
    where they are: the `state_dict` of a collapsed model can still be trained. Spec: "Attention".
    """

    def __init__(self, width: int):
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(width))  # g: [D]
        self.expand = nn.Linear(width, 2 * width)  # the first D rows give c, the next D give f
        self._collapsed: Optional[Tensor] = None

    def forward(self) -> Tensor:
        """Return o(g) [D], from the stored vector once collapsed."""
        if self._collapsed is not None:
            return self._collapsed
        candidate, forget = self.expand(torch.sigmoid(self.gate)).chunk(2)  # [D], [D]
        return torch.sigmoid(forget) * torch.tanh(candidate)

    @torch.no_grad()
    def collapse(self) -> None:
        """Compute o(g) once and store it. `train()` and loading parameters undo it; a move or a cast computes it again."""
        self._collapsed = None
        self._collapsed = self()

    @property
    def collapsed(self) -> bool:
        """Whether the stored vector answers."""
        return self._collapsed is not None

    def expand_again(self) -> None:
        """Undo `collapse`: compute o(g) from its parameters, with gradient."""
        self._collapsed = None

    def make_generation_fast_(self, **kwargs) -> None:
        """fairseq calls this when it prepares a model for inference."""
        self.collapse()

    def train(self, mode: bool = True) -> "OverparameterizedVector":
        if mode:
            self._collapsed = None
        return super().train(mode)

    def _load_from_state_dict(self, *args, **kwargs):
        self._collapsed = None
        return super()._load_from_state_dict(*args, **kwargs)

    def _apply(self, *args, **kwargs):
        collapsed = self._collapsed is not None
        super()._apply(*args, **kwargs)
        if collapsed:
            self.collapse()
        return self
