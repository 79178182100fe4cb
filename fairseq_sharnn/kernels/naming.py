"""The compiled library's name; setup.py runs this file alone, so it needs nothing but Python."""

import zlib
from pathlib import Path


def library_name(torch_version: str, source: Path) -> str:
    """Name without ending of the library that fits one version of torch and the files in `source` as they are."""
    digest = 0
    for path in sorted([*source.glob("*.h"), *source.glob("*.cpp")]):
        digest = zlib.crc32(path.read_bytes(), digest)
    return f"cpu_torch_{torch_version.split('+')[0].replace('.', '_')}_{digest:08x}"
