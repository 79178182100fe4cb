"""The compiled library's name; setup.py runs this file without the package, so it needs only Python."""

import zlib
from pathlib import Path


def library_name(torch_version: str, source: Path, variant: str) -> str:
    """Name without ending of the library for one version of torch, the files in `source` as they are, and a kind of CPU:
    "avx2", "avx512", or "" where there is only one.
    """
    digest = 0
    for path in sorted([*source.glob("*.h"), *source.glob("*.cpp")]):
        digest = zlib.crc32(path.read_bytes(), digest)
    parts = ["cpu_torch", torch_version.split("+")[0].replace(".", "_"), f"{digest:08x}", variant]
    return "_".join(filter(None, parts))
