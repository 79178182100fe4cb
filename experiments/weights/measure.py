"""What the card of the shipped model says about its quality: each figure with the command that prints it."""

import hashlib
import sys
from pathlib import Path
from typing import List, NamedTuple, Optional

from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.evaluation.dynamic import DynamicSettings
from fairseq_sharnn.portable.compressor.compressor import compress, decompress
from fairseq_sharnn.portable.compressor.container import Settings
from fairseq_sharnn.portable.model import Model
from fairseq_sharnn.portable.sampling import Settings as Draw

PROGRAM = "python -m fairseq_sharnn"
PROMPTS = ("It was ", "The ", "Chapter ")
LENGTH, TEMPERATURE = 400, 0.7
PINNED = "LICENSE"  # the text of this repository whose figure a test checks


class Figure(NamedTuple):
    """One row of the card: what was measured, on how many bytes, the result, and the command that prints it."""

    what: str
    count: int
    result: str
    command: str


class Sample(NamedTuple):
    """A text that the model drew, and the command that draws it again."""

    text: str
    command: str


class Lengths(NamedTuple):
    """How many of the first bytes of the test split are scored, and how many are learned from and compressed."""

    scored: int
    learned: int


def quality(model: Model, test: bytes, lengths: Lengths, rate: float) -> List[Figure]:
    """Static, dynamic, and compressed, on the first bytes of a test split. rate: of dynamic evaluation.

    Raises UsageError if the compressed file does not come back.
    """
    scored, learned = test[: lengths.scored], test[: lengths.learned]
    figures = [_score(model, scored, "static")]
    if len(learned) < len(scored):
        figures.append(_score(model, learned, "static, the same bytes as below"))
    figures.append(_score(model, learned, "dynamic", rate))
    _say(f"compress, {len(learned):,} bytes")
    packed = compress(model, learned, Settings())
    if decompress(model, packed) != learned:
        raise UsageError("the test split does not come back from what compress wrote")
    bits = f"{len(packed):,} bytes, {8 * len(packed) / len(learned):.4f} bits per byte"
    return [*figures, Figure("compressed, static", len(learned), bits, f"{PROGRAM} compress FILE OUT")]


def _score(model: Model, text: bytes, what: str, rate: Optional[float] = None) -> Figure:
    _say(f"{what}, {len(text):,} bytes")
    dynamic = DynamicSettings() if rate is None else DynamicSettings(lr=rate)
    found = model.score(text, dynamic=dynamic)
    option = "" if rate is None else f" --dynamic-lr {rate:g}"
    return Figure(what, len(text), f"{found.bits_per_byte:.4f} bits per byte", f"{PROGRAM} score FILE{option}")


def pinned(model: Model, path: Path) -> Figure:
    """The figure that a test checks: of a text in this repository, in one lane."""
    text = path.read_bytes()
    found = model.score(text, lanes=1)
    command = f"{PROGRAM} score {path.name} --lanes 1"
    return Figure(f"{path.name} of this package", len(text), f"{found.bits_per_byte:.4f} bits per byte", command)


def samples(model: Model) -> List[Sample]:
    """Three texts with their seeds."""
    found = []
    for seed, prompt in enumerate(PROMPTS, start=1):
        settings = Draw(LENGTH, TEMPERATURE)
        text = b"".join(piece.text for piece in model.draw([prompt], settings, [seed]))
        options = f'--prompt "{prompt}" --length {LENGTH} --temperature {TEMPERATURE:g} --seed {seed}'
        found.append(Sample(text.decode("utf-8", "backslashreplace"), f"{PROGRAM} sample {options}"))
    return found


def _say(step: str) -> None:
    print(f"measuring: {step}", file=sys.stderr, flush=True)


def digest(path: Path) -> str:
    """The sha256 of a file."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            found.update(block)
    return found.hexdigest()
