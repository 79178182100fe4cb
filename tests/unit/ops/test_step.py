"""Single steps of a block by the fused kernels against a whole chunk."""

import pytest
import torch

from fairseq_sharnn.modules.block import Block
from fairseq_sharnn.modules.sizes import SHARNNDropout, SHARNNSizes
from fairseq_sharnn.ops import kernels
from tests.unit.ops.oracle import close, needs_kernels


@needs_kernels
@pytest.mark.parametrize("heads", [0, 1, 2])
@pytest.mark.parametrize("boom_width", [64, 100])
@pytest.mark.parametrize("context", [4, 20])
def test_single_steps_equal_a_chunk(heads, boom_width, context, monkeypatch):
    """Steps by the kernels against one chunk; where the context is cut, against steps in float64 torch."""
    torch.manual_seed(heads)
    sizes = SHARNNSizes(50, 32, boom_width, heads=max(heads, 1), context=context)
    block = Block(sizes, SHARNNDropout(), heads > 0).eval()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    h = torch.randn(9, 2, 32)

    def steps(x):
        state, outs = None, []
        for step in x.split(1):
            out, state = block(step, state)
            outs.append(out)
        return torch.cat(outs), state

    ran = []
    run = kernels.ops.boom_step
    monkeypatch.setattr(kernels.ops, "boom_step", lambda *given: ran.append(1) or run(*given))
    with torch.no_grad():
        ours, state = steps(h)
        block.double()
        exact, exact_state = steps(h.double()) if context < 9 else block(h.double(), None)
    assert len(ran) == 9
    close(ours, exact)
    close(state.cell, exact_state.cell)
