"""The machine and the software that figures were measured with, so that they can be judged and repeated."""

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from typing import Dict, Sequence

from experiments.harness.processes import ROOT
from fairseq_sharnn.ops import kernels

PACKAGES = ("fairseq", "fairseq-fixed", "ve-fairseq", "torch", "numpy", "matplotlib", "hydra-core", "omegaconf")


@dataclass(frozen=True)
class Machine:
    """Hardware, operating system, versions of packages, whether the CPU kernels are loaded, and the commit."""

    processor: str
    cores: int
    memory: str
    gpu: str
    system: str
    python: str
    versions: Dict[str, str]
    kernels: str
    commit: str

    def lines(self) -> Sequence[str]:
        """What a report says of it, a line for each part."""
        packages = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return (
            f"processor: {self.processor}",
            f"cores: {self.cores}",
            f"memory: {self.memory}",
            f"gpu: {self.gpu}",
            f"system: {self.system}",
            f"python: {self.python}",
            f"versions: {packages}",
            f"C++ kernels on CPU: {self.kernels}",
            f"commit: {self.commit}",
        )


@dataclass(frozen=True)
class MadeBy:
    """The commit of the code that trained a model, and a mark that tells machines apart without naming them."""

    commit: str
    host: str


def describe(packages: Sequence[str] = PACKAGES) -> Machine:
    """This machine, with the versions of those packages that are installed."""
    import torch

    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return Machine(
        processor=processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory=_memory(),
        gpu=", ".join(gpus) or "none",
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        versions=versions(packages),
        kernels="none" if kernels.ops is None else "loaded",
        commit=made_by().commit,
    )


def versions(packages: Sequence[str]) -> Dict[str, str]:
    """The version of each of these packages that is installed."""
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@lru_cache(maxsize=None)
def made_by() -> MadeBy:
    """This commit, on this machine."""
    return MadeBy(_commit(), hashlib.sha256(platform.node().encode()).hexdigest()[:8])


def processor() -> str:
    """The name of the processor."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def gpu_memory() -> int:
    """Bytes of memory of the first GPU."""
    import torch

    return torch.cuda.get_device_properties(0).total_memory


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (ValueError, OSError):
        return "unknown"


def _commit() -> str:
    """The short commit hash; "with changes" if tracked files differ from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
