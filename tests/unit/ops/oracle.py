"""What the tests of the kernels share: a seed whose masks are replayed, and a comparison with float64."""

import platform

import pytest
import torch

from fairseq_sharnn.ops import kernels

needs_kernels = pytest.mark.skipif(kernels.ops is None, reason="the CPU kernels were not compiled")

# The library that every CPU of this kind has. If there is one for AVX-512 too, torch's own switch chooses.
VARIANT = "avx2" if platform.machine() in ("x86_64", "AMD64") else ""

SEED = 77
VALUE_SEED = SEED ^ kernels.VALUE_KEY


def close(ours: torch.Tensor, exact: torch.Tensor, tolerance: float = 1e-5) -> None:
    assert ours.shape == exact.shape
    assert (ours.double() - exact).abs().max() <= tolerance * exact.abs().max()
