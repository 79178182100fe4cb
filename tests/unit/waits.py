"""Operations for which the host waits for a GPU, counted on any device."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = {"_local_scalar_dense", "item", "nonzero", "multinomial", "equal", "is_nonzero"}


class Waits(TorchDispatchMode):
    """Within the block, the names of such operations are collected in `found`."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.split("::")[1]
        indexed = name in ("index", "index_put_") and any(
            index.dtype == torch.bool for index in args[1] if index is not None
        )
        if indexed or name in WAITING:
            self.found.append(name)
        return func(*args, **(kwargs or {}))
