"""What a CUDA graph does, on any device: operations recorded with their tensors, and done again on the same tensors."""

from typing import Any, Callable, List, Tuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Tape(TorchDispatchMode):
    """Within the block, operations are recorded. `replay` does them again: Python that ran between them does not run."""

    def __init__(self):
        super().__init__()
        self.operations: List[Tuple[Callable, Any, Any, Any]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, out))
        return out

    def replay(self) -> None:
        for func, args, kwargs, out in self.operations:
            for recorded, found in zip(tree_leaves(out), tree_leaves(func(*args, **kwargs))):
                if isinstance(recorded, torch.Tensor) and recorded.data_ptr() != found.data_ptr():
                    recorded.copy_(found)


def record(work: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """`portable.replayed.record`, with a tape for the graph."""
    work()
    work()
    with Tape() as tape:
        work()
    return tape.replay
