"""The CPU kernels in C++ (csrc/): loads them, and says which tensors they can take.

`pip install -e .` compiles csrc/ where there is a C++ compiler. Without them, for types other than float32 and on other
devices, each operation takes its plain torch function, which is also the kernels' oracle in the tests.
FAIRSEQ_SHARNN_KERNELS=0 turns the kernels off. docs/speed.md says what they do and when they are used.
"""

import logging
import os
import platform
import sysconfig
from pathlib import Path
from typing import Any, Optional

import torch
from torch import Tensor

from fairseq_sharnn.ops.naming import library_name

# Attention draws the masks of its weights from its seed, and those of its values from the seed XOR this key
# (csrc/attention.cpp).
VALUE_KEY = 0x5DEECE66D

logger = logging.getLogger(__name__)


def _load(folder: Path) -> Optional[Any]:
    """The operators of the library in `folder`, or None if it was not compiled or cannot run here."""
    if os.environ.get("FAIRSEQ_SHARNN_KERNELS") == "0":
        return None
    capability = torch.backends.cpu.get_cpu_capability()
    x86 = platform.machine() in ("x86_64", "AMD64")
    if x86 and not capability.startswith("AVX"):
        return None
    variants = ["avx512", "avx2"] if x86 and capability.startswith("AVX512") else ["avx2"] if x86 else [""]
    ending = sysconfig.get_config_var("EXT_SUFFIX")
    paths = [folder / (library_name(torch.__version__, folder / "csrc", variant) + ending) for variant in variants]
    path = next(filter(Path.exists, paths), None)
    if path is None:
        if any(folder.glob("cpu_torch_*")):
            logger.warning(
                f"the CPU kernels in {folder} are of another torch or another fairseq_sharnn and are not used: install "
                "fairseq_sharnn again"
            )
        return None
    try:
        torch.ops.load_library(str(path))
    except (OSError, RuntimeError) as error:
        logger.warning(f"{path} does not load ({str(error).splitlines()[0]}): install fairseq_sharnn again")
        return None
    return torch.ops.fairseq_sharnn


ops: Any = _load(Path(__file__).parent)


def usable(*tensors: Tensor) -> bool:
    """Whether the kernels can take these tensors: compiled, float32, on CPU, outside autocast."""
    if ops is None or torch.is_autocast_enabled("cpu"):
        return False
    return all(tensor.dtype == torch.float32 and tensor.is_cpu for tensor in tensors)


def draw_seed() -> int:
    """A seed for dropout masks, from torch's default generator, which fairseq seeds at each update."""
    return int(torch.empty((), dtype=torch.int64).random_())
