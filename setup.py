"""Packaging. Python 3.11 and 3.12 take fairseq-fixed (fairseq with the fixes they need), 3.8 to 3.10 the official one.

Building fairseq from source needs torch and numpy first: see scripts/setup.sh, or README.md for the commands.
"""

from setuptools import find_packages, setup

setup(
    name="fairseq-sharnn",
    version="0.1.0",
    description='"Single Headed Attention RNN" (arXiv 1911.11423) as a fairseq plugin',
    long_description=open("README.md", encoding="utf-8").read(),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=find_packages(include=["fairseq_sharnn", "fairseq_sharnn.*"]),
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
    ],
    extras_require={"test": ["pytest", "pytest-xdist", "hypothesis", "ruff"]},
)
