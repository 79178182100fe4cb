"""What operations would cost on a GPU, counted on any device: waits of the host, and bytes that are moved."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAITING = {"_local_scalar_dense", "item", "nonzero", "multinomial", "equal", "is_nonzero"}

PRODUCTS = {"mm", "addmm", "bmm", "baddbmm_"}
VIEWS = {
    "view",
    "_unsafe_view",
    "expand",
    "t",
    "transpose",
    "slice",
    "split_with_sizes",
    "unsqueeze",
    "alias",
    "detach",
}
NOT_FILLED = {"empty", "empty_like", "new_empty"}


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


class Moved(TorchDispatchMode):
    """Within the block, `bytes` that operations read and write, without products and views."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func._schema.name.split("::")[1] not in PRODUCTS | VIEWS | NOT_FILLED:
            for leaf in tree_leaves((args, kwargs, out)):
                if isinstance(leaf, torch.Tensor):  # an expanded tensor is read once
                    self.bytes += min(leaf.numel() * leaf.element_size(), leaf.untyped_storage().nbytes())
        return out
