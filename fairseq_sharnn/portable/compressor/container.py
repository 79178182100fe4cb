"""The file that `compress` writes: a header of about 60 bytes, then the words of the range coder.

    3 bytes   MAGIC
    1 byte    version of the format
    4 bytes   CRC-32 of all that follows
    1 byte    kind: 0 static, else the number of the optimizer in OPTIMIZERS, from 1; plus TOKENS if ids are not bytes,
              DECAY and CLIP if these rates are not the defaults
    6 bytes   digest of the model
    6 bytes   where it was written (rounding.py)
    4 bytes   what the model computed there for a fixed text (rounding.py)
    32 bytes  sha256 of the content
    numbers   lanes, threads, ids; with TOKENS also bytes; if dynamic also the chunk
    rates     if dynamic: the learning rate, with DECAY the decay, with CLIP the clipping norm, 4 bytes each (float32)
    words     of 32 bits

All is little-endian. Numbers have 7 bits a byte, the lowest first, and the high bit says that another byte follows.
"""

import struct
import zlib
from dataclasses import dataclass
from typing import Tuple

import numpy as np

from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.evaluation.dynamic import OPTIMIZERS, STATIC, DynamicSettings
from fairseq_sharnn.portable.compressor.rounding import Place

MAGIC = b"\x8fSH"
VERSION = 1
OPTIMIZER, DECAY, CLIP, TOKENS = 0x03, 0x04, 0x08, 0x80  # parts of the kind
MOST_LANES, MOST_THREADS, MOST_IN_A_CHUNK = 256, 64, 1 << 16
MODEL_DIGEST, PROBE_DIGEST = 6, 4
_START = len(MAGIC) + 1 + 4
_FIXED = struct.Struct(f"<B{MODEL_DIGEST}s{Place.SIZE}s{PROBE_DIGEST}s32s")
_RATE = struct.Struct("<f")
_LONGEST = 9  # bytes of a number
_OPTIONAL = {DECAY: "decay", CLIP: "clip"}


@dataclass(frozen=True)
class Settings:
    """What decides the probabilities, besides the model.

    lanes: stretches that are read together. threads: of torch. dynamic: how the model learns; then it learns after each
    `chunk` ids of a lane (0 if static). Rates are rounded to float32, as the file keeps them. Raises UsageError, naming the
    option, for values out of range.
    """

    lanes: int = 1
    threads: int = 1
    chunk: int = 0
    dynamic: DynamicSettings = STATIC

    def __post_init__(self) -> None:
        chunk = (1 if self.dynamic.learns else 0, MOST_IN_A_CHUNK)
        limits = {"lanes": (1, MOST_LANES), "threads": (1, MOST_THREADS), "chunk": chunk}
        for name, (least, most) in limits.items():
            if not least <= getattr(self, name) <= most:
                raise UsageError(f"--{name} must be from {least} to {most:,}, but it is {getattr(self, name):,}")
        if self.lanes * self.chunk > MOST_IN_A_CHUNK:
            raise UsageError(
                f"--lanes {self.lanes} times --chunk {self.chunk} is more than {MOST_IN_A_CHUNK:,}: lower one of them"
            )
        dynamic = self.dynamic
        try:
            lr, decay, clip = (_RATE.unpack(_RATE.pack(rate))[0] for rate in (dynamic.lr, dynamic.decay, dynamic.clip))
        except OverflowError:
            raise UsageError(f"--dynamic-lr {dynamic.lr} or --dynamic-clip {dynamic.clip} is too large") from None
        if dynamic.learns and lr == 0.0:
            raise UsageError(f"--dynamic-lr {dynamic.lr} is too small")
        object.__setattr__(self, "dynamic", DynamicSettings(lr, dynamic.optimizer, decay, clip))


@dataclass(frozen=True)
class Header:
    """What a compressed file says of itself. model, probe, content: digests. tokens: ids are not bytes.

    count: how many ids. size: how many bytes they stand for.
    """

    settings: Settings
    model: bytes
    place: Place
    probe: bytes
    tokens: bool
    count: int
    size: int
    content: bytes


def pack(header: Header, words: np.ndarray) -> bytes:
    """The file: header and words [W] (uint32)."""
    settings, dynamic = header.settings, header.settings.dynamic
    kind = TOKENS if header.tokens else 0
    numbers = [settings.lanes, settings.threads, header.count]
    numbers += [header.size] if header.tokens else []
    rates = b""
    if dynamic.learns:
        kind |= OPTIMIZERS.index(dynamic.optimizer) + 1
        numbers.append(settings.chunk)
        rates = _RATE.pack(dynamic.lr)
        for flag, name in _OPTIONAL.items():
            if getattr(dynamic, name) != getattr(STATIC, name):
                kind |= flag
                rates += _RATE.pack(getattr(dynamic, name))
    body = bytearray(_FIXED.pack(kind, header.model, header.place.pack(), header.probe, header.content))
    for number in numbers:
        body += _packed(number)
    body += rates
    body += words.astype("<u4").tobytes()
    return MAGIC + struct.pack("<BI", VERSION, zlib.crc32(body)) + bytes(body)


def unpack(data: bytes, name: str) -> Tuple[Header, np.ndarray]:
    """Header and words of a file. name: for messages. Raises UsageError if it is not one, or is damaged."""
    if data[: len(MAGIC)] != MAGIC:
        raise UsageError(f"{name} is not a file that `compress` wrote")
    damaged = UsageError(f"{name} is cut short or damaged: get it again from where it was written")
    if len(data) < _START:
        raise damaged
    version, checksum = struct.unpack_from("<BI", data, len(MAGIC))
    if version != VERSION:
        raise UsageError(
            f"{name} has format version {version}, and this fairseq_sharnn reads version {VERSION}: it is damaged, or "
            "another version of fairseq_sharnn wrote it"
        )
    if checksum != zlib.crc32(data[_START:]):
        raise damaged
    try:
        return _parsed(data)
    except (struct.error, IndexError, ValueError):  # a UsageError of the settings is a ValueError too
        raise damaged from None


def _parsed(data: bytes) -> Tuple[Header, np.ndarray]:
    """Raises struct.error, IndexError or ValueError for what `pack` cannot have written."""
    kind, model, place, probe, content = _FIXED.unpack_from(data, _START)
    numbers = _Numbers(data, _START + _FIXED.size)
    lanes, threads, count = numbers.next(), numbers.next(), numbers.next()
    size = numbers.next() if kind & TOKENS else count
    chunk, dynamic = 0, STATIC
    if kind & OPTIMIZER:
        chunk, rates = numbers.next(), {"lr": numbers.rate()}
        for flag, name in _OPTIONAL.items():
            if kind & flag:
                rates[name] = numbers.rate()
        dynamic = DynamicSettings(optimizer=OPTIMIZERS[(kind & OPTIMIZER) - 1], **rates)
        if not dynamic.learns:
            raise ValueError("a rate of 0")
    words = np.frombuffer(data[numbers.place :], dtype="<u4").astype(np.uint32)
    settings = Settings(lanes, threads, chunk, dynamic)
    return Header(settings, model, Place.unpack(place), probe, bool(kind & TOKENS), count, size, content), words


def _packed(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


class _Numbers:
    """Reads numbers from `place` on."""

    def __init__(self, data: bytes, place: int):
        self.data, self.place = data, place

    def next(self) -> int:
        """Raises IndexError at the end, ValueError if the number is too long."""
        found = 0
        for shift in range(0, 7 * _LONGEST, 7):
            byte = self.data[self.place]
            self.place += 1
            found |= (byte & 0x7F) << shift
            if byte < 0x80:
                return found
        raise ValueError("a number of more than 63 bits")

    def rate(self) -> float:
        """Raises struct.error at the end."""
        (found,) = _RATE.unpack_from(self.data, self.place)
        self.place += _RATE.size
        return float(found)
