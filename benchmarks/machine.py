"""The machine and the software that a benchmark ran on, for its report."""

import datetime
import platform
from typing import Dict

import torch

from experiments.harness.machine import processor
from fairseq_sharnn.ops import kernels


def describe(device: str, threads: int) -> Dict:
    """Hardware and versions, as reports keep them."""
    import fairseq

    return {
        "cpu": processor(),
        "threads": threads,
        "gpu": torch.cuda.get_device_name() if device.startswith("cuda") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "fairseq": fairseq.__version__,
        "cpu_kernels": kernels.ops is not None,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "date": datetime.date.today().isoformat(),
    }


def allow_tf32() -> None:
    """Let all float32 products on a GPU use TF32. By torch's default cuDNN's LSTMs use it, and no other product does."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True


def line(machine: Dict) -> str:
    """A described machine in one line."""
    place = machine["gpu"] or f"{machine['cpu']}, {machine['threads']} threads ({machine['capability']})"
    built = "with" if machine["cpu_kernels"] else "without"
    return (
        f"{place}; Python {machine['python']}, torch {machine['torch']}, fairseq {machine['fairseq']}, {built} the CPU "
        f"kernels; {machine['date']}"
    )
