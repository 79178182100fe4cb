"""CPU kernels in C++ for what torch spreads over many passes: LSTM, attention over memory, Boom, dropout.

`pip install` compiles csrc/ where there is a C++ compiler. Where it was not compiled, for other types than float32
and on other devices, the modules take their path in plain torch, which is also the kernels' oracle in the tests. To
do without: FAIRSEQ_SHARNN_KERNELS=0. Measured in benchmarks/reports/; when they are used: docs/speed.md.
"""

import logging
import os
import platform
import sysconfig
from pathlib import Path
from typing import Any, Optional

import torch
from torch import Tensor

# Raised with every change of an operator's arguments or meaning; csrc/register.cpp has the same number.
VERSION = 1

# Up to here a step is bound by reading the weights, and the kernels for single steps read them once.
FEW_LANES = 4

# Attention draws its values' masks from its seed with this key, the weights' from the seed itself (csrc/attention.cpp).
VALUE_KEY = 0x5DEECE66D

logger = logging.getLogger(__name__)


def library_name(torch_version: str) -> str:
    """Name of the compiled library: it fits one version of torch (and, by its ending, of Python) alone."""
    return "cpu_torch_" + torch_version.split("+")[0].replace(".", "_")


def _load() -> Optional[Any]:
    """The operators, or None where they were not compiled or cannot run here."""
    path = Path(__file__).parent / (library_name(torch.__version__) + sysconfig.get_config_var("EXT_SUFFIX"))
    if os.environ.get("FAIRSEQ_SHARNN_KERNELS") == "0" or not path.exists():
        return None
    capability = torch.backends.cpu.get_cpu_capability()
    if platform.machine() in ("x86_64", "AMD64") and not capability.startswith("AVX"):
        return None
    try:
        torch.ops.load_library(str(path))
        found = torch.ops.fairseq_sharnn.version()
    except (OSError, RuntimeError, AttributeError) as error:
        logger.warning(f"{path} does not load ({str(error).splitlines()[0]}): install fairseq_sharnn again")
        return None
    if found != VERSION:
        logger.warning(f"{path} is of an older fairseq_sharnn and is not used: install fairseq_sharnn again")
        return None
    return torch.ops.fairseq_sharnn


ops = _load()


def usable(*tensors: Tensor) -> bool:
    """Whether the kernels can work on these tensors: compiled, float32, on CPU, and outside autocast."""
    return (
        ops is not None
        and all(tensor.dtype == torch.float32 and tensor.device.type == "cpu" for tensor in tensors)
        and not torch.is_autocast_enabled("cpu")
    )


def draw_seed() -> int:
    """A seed of dropout masks from torch's default generator, which fairseq seeds for each update."""
    return int(torch.empty((), dtype=torch.int64).random_())
