"""On what a comparison ran: for the report, so that its figures can be judged and repeated."""

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from functools import lru_cache
from typing import Dict, Sequence

from experiments.harness.processes import ROOT
from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.ops import kernels

_PACKAGES = ("fairseq", "fairseq-fixed", "torch", "numpy", "matplotlib", "hydra-core", "omegaconf")


def describe() -> Dict[str, str]:
    """Hardware, operating system, versions, and the commit of this repository with whether files differ from it."""
    import torch

    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "memory": _memory(),
        "gpu": ", ".join(gpus) or "none",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "C++ kernels on CPU": "none" if kernels.ops is None else "loaded",
        "commit": here()["commit"],
    }


@lru_cache(maxsize=None)
def here() -> Dict[str, str]:
    """The commit, and a mark that tells machines apart without naming them."""
    return {"commit": _commit(), "host": hashlib.sha256(platform.node().encode()).hexdigest()[:8]}


def device(options: Sequence[str]) -> str:
    """In words, what a training with these options of fairseq-train runs on."""
    if "--cpu" in options:
        return f"one core of {_processor()}"
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "a GPU that is not there"


def check_device(preset: str, options: Sequence[str]) -> None:
    """Raises UsageError for a preset made for a GPU where there is none: fairseq would train on the CPU without a word."""
    import torch

    if "--cpu" not in options and not torch.cuda.is_available():
        raise UsageError(f"--preset {preset} needs a CUDA device, and torch sees none: take --preset cpu")


def gpu_memory() -> int:
    """Bytes of the first GPU's memory, of which fairseq logs what is free."""
    import torch

    return torch.cuda.get_device_properties(0).total_memory


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (ValueError, OSError):
        return "unknown"


def _commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
