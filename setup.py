"""The CPU kernels, compiled for torch; everything else about the package stands in pyproject.toml.

The kernels need the torch that they will run with. A build in isolation (`python -m build`) has the newest one, which
pip installs with the package too. `pip install --no-build-isolation -e .` and `python -m build --no-isolation` take the one
of the environment. Where torch or a C++ compiler is missing, the package installs without kernels and computes in plain
torch.
"""

import importlib.util
import platform
import runpy
import sys
from pathlib import Path

from setuptools import setup

OPS = Path("fairseq_sharnn/ops")
SOURCES = sorted(OPS.glob("csrc/*.cpp"))
HEADERS = sorted(OPS.glob("csrc/*.h"))
OPTIONS = ["-O3", "-g0", "-fopenmp", "-fno-math-errno", "-fno-trapping-math"]

# One library for each variant. The keys are torch's names for what a CPU can do. -march=native would bind a library to
# the machine that built it; these run on every machine of a cluster.
AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"]
X86 = {"avx2": ["-mavx2", "-mfma"], "avx512": ["-mavx2", "-mfma", *AVX512]}


def compiled_kernels():
    """Arguments of `setup` that build the CPU kernels: empty without torch."""
    if importlib.util.find_spec("torch") is None:
        print("torch is not installed where this package is built: its CPU kernels are left out", file=sys.stderr)
        return {}
    import torch
    from torch.utils.cpp_extension import BuildExtension, CppExtension

    library_name = runpy.run_path(str(OPS / "naming.py"))["library_name"]
    variants = X86 if platform.machine() in ("x86_64", "AMD64") else {"": []}
    kernels = [
        CppExtension(
            f"fairseq_sharnn.ops.{library_name(torch.__version__, OPS / 'csrc', variant)}",
            [str(path) for path in SOURCES],
            depends=[str(path) for path in HEADERS],
            extra_compile_args=[*OPTIONS, *options],
            extra_link_args=["-fopenmp"],
            optional=True,
        )
        for variant, options in variants.items()
    ]

    class Build(BuildExtension):
        """All variants at once. A variant that fails to compile is left out, and so is everything without a compiler."""

        def build_extensions(self):
            self.parallel = len(self.extensions)
            self.failed = set()
            try:
                super().build_extensions()
            except Exception as error:  # setuptools forgives optional extensions its own errors only, not torch's
                self.leave_out("CPU kernels", error)
                self.failed.update(extension.name for extension in self.extensions)
            self.extensions = [extension for extension in self.extensions if extension.name not in self.failed]

        def build_extension(self, extension):
            try:
                extension.sources = [self.one_source(extension)]
                super().build_extension(extension)
            except Exception as error:  # an old compiler may not know one kind of CPU
                self.leave_out(extension.name, error)
                self.failed.add(extension.name)

        def one_source(self, extension):
            """A file that includes all sources, for torch's headers take most of the time: once instead of six times."""
            path = Path(self.build_temp, f"{extension.name.rpartition('.')[2]}.cpp")
            lines = [f'#include "{source.resolve().as_posix()}"\n' for source in SOURCES]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(lines), encoding="utf-8")
            return str(path.resolve())

        @staticmethod
        def leave_out(what, error):
            print(f"{what}: left out, everything works without: {error}", file=sys.stderr)

    return {"ext_modules": kernels, "cmdclass": {"build_ext": Build.with_options(use_ninja=False)}}


setup(**compiled_kernels())
