"""Packaging. Python 3.11 and 3.12 take fairseq-fixed (fairseq with the fixes they need), 3.8 to 3.10 the official one.

Building fairseq-fixed from source needs torch and numpy first: see scripts/setup.sh. The CPU
kernels (fairseq_sharnn/ops) are compiled where torch and a C++ compiler are at hand, and left out elsewhere.
"""

import importlib.util
import platform
import runpy
from glob import glob
from pathlib import Path

from setuptools import find_packages, setup

# A library for each; torch's own names for what a CPU can do. Not -march=native: what is built on one machine of a
# cluster runs on the others.
AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"]
X86 = {"avx2": ["-mavx2", "-mfma"], "avx512": ["-mavx2", "-mfma", *AVX512]}


def compiled_kernels():
    """Arguments of `setup` that build the CPU kernels: none without torch, and no failure without a compiler."""
    if importlib.util.find_spec("torch") is None:
        return {}
    import torch
    from torch.utils.cpp_extension import BuildExtension, CppExtension

    x86 = platform.machine() in ("x86_64", "AMD64")
    naming = runpy.run_path("fairseq_sharnn/ops/naming.py")
    kernels = []
    for variant, options in (X86 if x86 else {"": []}).items():
        name = naming["library_name"](torch.__version__, Path("fairseq_sharnn/ops/csrc"), variant)
        kernels.append(
            CppExtension(
                f"fairseq_sharnn.ops.{name}",
                sorted(glob("fairseq_sharnn/ops/csrc/*.cpp")),
                depends=sorted(glob("fairseq_sharnn/ops/csrc/*.h")),
                extra_compile_args=["-O3", "-g0", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", *options],
                extra_link_args=["-fopenmp"],
                optional=True,
            )
        )

    class Build(BuildExtension):
        def build_extensions(self):
            self.parallel = None  # the libraries' objects have the same names
            try:
                super().build_extensions()
            except Exception as error:  # torch's own errors are none that setuptools lets an optional extension have
                print(f"CPU kernels are left out, everything works without them: {error}")
                self.extensions = []

        def build_extension(self, extension):
            try:
                super().build_extension(extension)
            except Exception as error:  # an old compiler may not know one kind of CPU
                print(f"{extension.name} is left out, everything works without it: {error}")
                self.extensions = [other for other in self.extensions if other is not extension]

    return {"ext_modules": kernels, "cmdclass": {"build_ext": Build.with_options(use_ninja=False)}}


setup(
    name="fairseq-sharnn",
    version="0.1.0",
    description='"Single Headed Attention RNN" (arXiv 1911.11423) as a fairseq plugin',
    long_description=open("README.md", encoding="utf-8").read(),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=find_packages(include=["fairseq_sharnn", "fairseq_sharnn.*"]),
    package_data={"fairseq_sharnn.ops": ["csrc/*"]},
    python_requires=">=3.8,<3.13",
    install_requires=[
        "torch>=2.4,<2.6; python_version < '3.11'",
        "torch>=2.6; python_version >= '3.11'",
        "fairseq==0.12.2; python_version < '3.11'",
        "fairseq-fixed==0.12.3.1; python_version >= '3.11'",
        "numpy<1.24; python_version < '3.11'",
        "hydra-core<1.1; python_version < '3.11'",
        "omegaconf<2.1; python_version < '3.11'",
        "numpy",
        "tqdm",
        "sentencepiece>=0.1.99,<0.3",
        "sacremoses>=0.1,<0.2",
    ],
    extras_require={
        "plots": ["matplotlib>=3.7,<4"],
        "test": ["pytest", "pytest-xdist", "hypothesis", "ruff", "matplotlib>=3.7,<4"],
    },
    **compiled_kernels(),
)
