"""What decides how sums round: the place where a file was written, and a probe that computes and compares.

A range decoder needs the very probabilities of the encoder. They come from floating-point sums. Another version of torch,
other kernels or another kind of CPU may add in another order, and then the last bits differ.
"""

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, List, Sequence, Tuple

import torch

_CAPABILITIES = ("of another kind", "DEFAULT", "NO AVX", "AVX2", "AVX512", "SVE256", "VSX", "Z VECTOR")
_VARIANTS = ("none", "compiled", "avx2", "avx512")
_PACKED = struct.Struct("<3BBH")


@dataclass(frozen=True)
class Place:
    """Versions and kinds that may change how sums round. Numbers, because a header holds them in six bytes."""

    torch: Tuple[int, ...]  # major, minor, patch
    kernels: int  # index in _VARIANTS
    capability: int  # index in _CAPABILITIES
    source: int  # 16 bits of the checksum of the kernels' source

    SIZE: ClassVar[int] = _PACKED.size

    @classmethod
    def here(cls) -> "Place":
        """This process."""
        capability = torch.backends.cpu.get_cpu_capability()
        known = _CAPABILITIES.index(capability) if capability in _CAPABILITIES else 0
        kernels, source = _kernels()
        found = [min(int(part), 255) for part in re.findall(r"\d+", torch.__version__.partition("+")[0])]
        return cls(tuple([*found, 0, 0, 0][:3]), kernels, known, source)

    def pack(self) -> bytes:
        return _PACKED.pack(*self.torch, self.kernels << 4 | self.capability, self.source)

    @classmethod
    def unpack(cls, data: bytes) -> "Place":
        *found, kinds, source = _PACKED.unpack(data)
        return cls(tuple(found), kinds >> 4, kinds & 15, source)

    def facts(self) -> List[Tuple[str, str]]:
        """(name, value) of each part, for people."""
        kernels = _name(_VARIANTS, self.kernels)
        return [
            ("torch", ".".join(map(str, self.torch))),
            ("CPU kernels", kernels if self.kernels == 0 else f"{kernels} {self.source:04x}"),
            ("CPU", _name(_CAPABILITIES, self.capability)),
        ]

    def differences(self, other: "Place") -> str:
        """What differs between this place ("there") and another ("here"), in a line; empty if nothing does."""
        pairs = zip(self.facts(), other.facts())
        return ", ".join(f"{name} {there} there and {here} here" for (name, there), (_, here) in pairs if there != here)


def _name(names: Sequence[str], number: int) -> str:
    return names[number] if number < len(names) else "unknown"


def _kernels() -> Tuple[int, int]:
    """Variant of the loaded CPU kernels, and 16 bits of the checksum of their source."""
    for path in sorted(torch.ops.loaded_libraries):
        found = re.match(r"cpu_torch_.*?_([0-9a-f]{8})(?:_(avx2|avx512))?\.", Path(path).name)
        if found:
            return _VARIANTS.index(found[2] or "compiled"), int(found[1], 16) & 0xFFFF
    return 0, 0
