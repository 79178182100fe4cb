"""The over-parameterised static vector (paper, section 4.3), its collapse, and the plain vector it is compared with."""

from typing import Optional

import torch
from torch import Tensor, nn


class OverparameterizedVector(nn.Module):
    """A learned vector seen through a small network of its own: o(g) = σ(f) ⊙ tanh(c), [c, f] = W_o σ(g) + b_o.

    The value depends on parameters alone, so after training it can be computed once (`collapse`). The parameters stay
    where they are: a collapsed model's `state_dict` still trains. Spec: "Attention".
    """

    def __init__(self, width: int):
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(width))  # g: [D]
        self.expand = nn.Linear(width, 2 * width)  # first D rows give c, the next D give f
        self._collapsed: Optional[Tensor] = None

    def forward(self) -> Tensor:
        """Return o(g) [D], from the stored vector once collapsed."""
        if self._collapsed is not None:
            return self._collapsed
        candidate, forget = self.expand(torch.sigmoid(self.gate)).chunk(2)
        return torch.sigmoid(forget) * torch.tanh(candidate)

    @torch.no_grad()
    def collapse(self) -> None:
        """Compute o(g) once and store it; undone by `train()`, by loading parameters, and by a move or cast."""
        self._collapsed = None
        self._collapsed = self()

    def make_generation_fast_(self, **kwargs) -> None:
        """fairseq's hook when a model is prepared for inference."""
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


class PlainVector(nn.Module):
    """A learned static vector without a network of its own: o = g [D].

    It starts with the value that an over-parameterised one drawn in its place has, so that two models that differ in this
    alone start as the same function. (At 0 attention would be silent at first, and LAMB's trust ratio without a norm.)
    """

    def __init__(self, width: int):
        super().__init__()
        self.gate = nn.Parameter(OverparameterizedVector(width)().detach().clone())  # g: [D]

    def forward(self) -> Tensor:
        return self.gate

    def collapse(self) -> None:
        """Nothing to store: it is one vector already."""


STATIC_VECTORS = {"overparameterized": OverparameterizedVector, "plain": PlainVector}
