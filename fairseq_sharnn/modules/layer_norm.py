"""The model's layer norms: weight, bias and the eps of the author's code (spec, "Model")."""

from typing import Callable

from torch import nn

LAYER_NORM_EPS = 1e-12

# Makes a LayerNorm from a width and `eps`: nn.LayerNorm, or one like it, such as apex's fused one on CUDA.
LayerNormFactory = Callable[..., nn.LayerNorm]
