"""The file that `compress` writes: a header of at most 60 bytes in common cases, then the words of the range coder.

    2 bytes   MAGIC
    1 byte    version of the format
    2 bytes   CRC-16 of all that follows
    1 byte    kind: 0 static, else the number of the optimizer in OPTIMIZERS, from 1; plus TOKENS if ids are not bytes,
              DECAY, CLIP and THREADS if these settings are not the defaults
    4 bytes   digest of the model
    6 bytes   where it was written (rounding.py)
    4 bytes   what the model computed there for a fixed text (rounding.py)
    32 bytes  sha256 of the content
    numbers   lanes, ids; with THREADS also threads; with TOKENS also bytes; if dynamic also the chunk
    rates     if dynamic: the learning rate, with DECAY the decay, with CLIP the clipping norm
    words     of 32 bits

All is little-endian. Numbers have 7 bits a byte, the lowest first, and the high bit says that another byte follows. A rate
is a number and a signed byte e: number times 10^e. A rate such as 5e-4 takes two bytes.
"""

import binascii
import struct
from dataclasses import dataclass
from decimal import Decimal
from typing import Tuple

import numpy as np

from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.evaluation.dynamic import OPTIMIZERS, STATIC, DynamicSettings
from fairseq_sharnn.portable.compressor.rounding import Place

MAGIC = b"\x8fS"
VERSION = 2
OPTIMIZER, DECAY, CLIP, THREADS, TOKENS = 0x03, 0x04, 0x08, 0x10, 0x80  # parts of the kind
MOST_LANES, MOST_THREADS, MOST_IN_A_CHUNK = 256, 64, 1 << 16
LEAST_RATE, MOST_RATE = 1e-38, 1e38
MODEL_DIGEST, PROBE_DIGEST = 4, 4
_BEFORE = struct.Struct("<BH")  # version and checksum
_START = len(MAGIC) + _BEFORE.size
_FIXED = struct.Struct(f"<B{MODEL_DIGEST}s{Place.SIZE}s{PROBE_DIGEST}s32s")
_LONGEST = 9  # bytes of a number
_OPTIONAL = {DECAY: "decay", CLIP: "clip"}


@dataclass(frozen=True)
class Settings:
    """What decides the probabilities, besides the model.

    lanes: stretches that are read together. threads: of torch. dynamic: how the model learns; then it learns after each
    `chunk` ids of a lane (0 if static). Raises UsageError, naming the option, for values out of range.
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
        for name in ("lr", "decay", "clip"):
            rate = getattr(self.dynamic, name)
            if rate and not LEAST_RATE <= rate <= MOST_RATE:
                raise UsageError(f"--dynamic-{name} {rate:g} is too {'small' if rate < 1 else 'large'} for `compress`")


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
    numbers = [settings.lanes, header.count]
    if settings.threads != 1:
        kind |= THREADS
        numbers.append(settings.threads)
    numbers += [header.size] if header.tokens else []
    rates = b""
    if dynamic.learns:
        kind |= OPTIMIZERS.index(dynamic.optimizer) + 1
        numbers.append(settings.chunk)
        rates = _packed_rate(dynamic.lr)
        for flag, name in _OPTIONAL.items():
            if getattr(dynamic, name) != getattr(STATIC, name):
                kind |= flag
                rates += _packed_rate(getattr(dynamic, name))
    body = bytearray(_FIXED.pack(kind, header.model, header.place.pack(), header.probe, header.content))
    for number in numbers:
        body += _packed(number)
    body += rates
    body += words.astype("<u4").tobytes()
    return MAGIC + _BEFORE.pack(VERSION, checksum(bytes(body))) + bytes(body)


def checksum(body: bytes) -> int:
    """What the header holds of all that follows it."""
    return binascii.crc_hqx(body, 0)


def unpack(data: bytes, name: str) -> Tuple[Header, np.ndarray]:
    """Header and words of a file. name: for messages. Raises UsageError if it is not one, or is damaged."""
    if data[: len(MAGIC)] != MAGIC:
        raise UsageError(f"{name} is not a file that `compress` wrote")
    damaged = UsageError(f"{name} is cut short or damaged: get it again from where it was written")
    if len(data) < _START:
        raise damaged
    version, expected = _BEFORE.unpack_from(data, len(MAGIC))
    if version != VERSION:
        raise UsageError(
            f"{name} has format version {version}, and this fairseq_sharnn reads version {VERSION}: it is damaged, or "
            "another version of fairseq_sharnn wrote it"
        )
    if expected != checksum(data[_START:]):
        raise damaged
    try:
        return _parsed(data)
    except (struct.error, IndexError, ValueError):  # a UsageError of the settings is a ValueError too
        raise damaged from None


def _parsed(data: bytes) -> Tuple[Header, np.ndarray]:
    """Raises struct.error, IndexError or ValueError for what `pack` cannot have written."""
    kind, model, place, probe, content = _FIXED.unpack_from(data, _START)
    numbers = _Numbers(data, _START + _FIXED.size)
    lanes, count = numbers.next(), numbers.next()
    threads = numbers.next() if kind & THREADS else 1
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


def _packed_rate(rate: float) -> bytes:
    """The shortest decimal number that is this float."""
    _, digits, exponent = Decimal(repr(rate)).normalize().as_tuple()
    return _packed(int("".join(map(str, digits)))) + struct.pack("<b", exponent)


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
        """Raises IndexError or struct.error at the end."""
        digits = self.next()
        (exponent,) = struct.unpack_from("<b", self.data, self.place)
        self.place += 1
        return float(f"{digits}e{exponent}")
