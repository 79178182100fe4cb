"""Bytes to a compressed file and back, by the probabilities of a model."""

import hashlib
from contextlib import contextmanager
from dataclasses import replace
from typing import Callable, Iterator, Tuple

import numpy as np
import torch

from fairseq_sharnn.data.text.vocabulary import BYTE_VALUES
from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.portable.compressor.coding import Damaged, Decoder, Encoder, run, together
from fairseq_sharnn.portable.compressor.container import MODEL_DIGEST, PROBE_DIGEST, Header, Settings, pack, unpack
from fairseq_sharnn.portable.compressor.rounding import Place
from fairseq_sharnn.portable.model import Model

MOST_BYTES = 1 << 30
_PROBED, _PROBED_CHUNK = 24, 32  # columns of the probe, and the chunk it learns from

Advance = Callable[[int], object]


def nothing(_: object) -> None:
    """For callers who need no progress and no warnings."""


def compress(
    model: Model, content: bytes, settings: Settings, name: str = "the content", advance: Advance = nothing
) -> bytes:
    """The compressed file of any bytes; a model of words or pieces takes text that its tokens give back exactly.

    advance: called with the number of ids that are done. Raises UsageError if the content or the settings do not fit.
    """
    ids = model.codec.encode_file(content, name).ids
    tokens = model.codec.unit != "byte"
    if tokens and model.codec.decode(ids.tolist()) != content:
        raise UsageError(
            f"{name} does not come back exactly from the model's tokens: use a model of bytes, or of word pieces"
        )
    settings = replace(settings, lanes=min(settings.lanes, max(1, len(ids))))
    _check_chunk(model, settings)
    encoder = Encoder(ids if tokens else np.frombuffer(content, dtype=np.uint8))
    with _prepared(model, settings):
        most = together(len(ids), settings)
        probe = _probe(model, settings, most)
        run(model, len(ids), settings, most, encoder, advance)
    digest = hashlib.sha256(content).digest()
    header = Header(settings, digest_of(model), Place.here(), probe, tokens, len(ids), len(content), digest)
    return pack(header, encoder.words())


def checked(data: bytes, name: str, most_bytes: int = MOST_BYTES) -> Tuple[Header, np.ndarray]:
    """Header and words of a compressed file, before a model is loaded. name: for messages.

    Raises UsageError if it is damaged, or if its content is longer than `most_bytes`.
    """
    header, words = unpack(data, name)
    longest = max(header.size, header.count)
    if longest > most_bytes:
        raise UsageError(
            f"{name} says that it holds {longest:,} bytes, more than {most_bytes:,}: if you trust it, raise --max-bytes"
        )
    return header, words


def decompress(
    model: Model,
    data: bytes,
    name: str = "the data",
    most_bytes: int = MOST_BYTES,
    advance: Advance = nothing,
    warn: Callable[[str], object] = nothing,
) -> bytes:
    """The content of a compressed file, which has the sha256 that the file names.

    warn: called with a line if the file was written elsewhere but can probably be read. Raises UsageError if the file is
    damaged, too long, of another model, or cannot be read here.
    """
    header, words = checked(data, name, most_bytes)
    if header.model != digest_of(model):
        raise UsageError(
            f"{name} was compressed with another model: name that one with --model (a checkpoint and its export are two "
            "models)"
        )
    settings = header.settings
    _check_chunk(model, settings)
    elsewhere = header.place.differences(Place.here())
    cause = elsewhere or "another type of CPU, or another build of torch or constriction"
    decoder = Decoder(words, header.count, model.codec.vocab if header.tokens else BYTE_VALUES)
    with _prepared(model, settings):
        most = together(header.count, settings)
        if _probe(model, settings, most) != header.probe:
            raise UsageError(
                f"{name} cannot be read here, because sums round differently where it was compressed ({cause}): decompress "
                "it there, or with the same versions on the same type of CPU"
            )
        if elsewhere:
            warn(
                f"{name} was compressed elsewhere ({elsewhere}), but a trial computes the same numbers here: reading it"
            )
        try:
            run(model, header.count, settings, most, decoder, advance)
            content = model.codec.decode(decoder.symbols.tolist()) if header.tokens else decoder.symbols.tobytes()
        except Damaged:
            content = None
    if content is None or len(content) != header.size or hashlib.sha256(content).digest() != header.content:
        raise UsageError(
            f"{name} does not decompress to what was compressed: it is damaged, or sums round differently where it was "
            f"compressed ({cause}); decompress it there, or get it again"
        )
    return content


def digest_of(model: Model) -> bytes:
    """Digest of configuration, weights and vocabulary."""
    found = hashlib.sha256(repr((model.config.sizes, model.config.adaptive, model.config.text)).encode())
    for name, tensor in model.module.state_dict().items():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.contiguous().view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    for name, content in sorted(model.codec.files().items()):
        found.update(name.encode() + hashlib.sha256(content).digest())
    return found.digest()[:MODEL_DIGEST]


@contextmanager
def _prepared(model: Model, settings: Settings) -> Iterator[None]:
    """With the settings' threads, and weights at addresses that suit vector registers: both can change how sums round."""
    if model.device.type != "cpu" or model.dtype != torch.float32:
        raise UsageError("compress and decompress run on cpu in float32: load the model so")
    for parameter in model.module.parameters():
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _check_chunk(model: Model, settings: Settings) -> None:
    sizes = model.config.sizes
    if sizes.attention_layers and settings.chunk >= sizes.context:
        raise UsageError(
            f"--chunk {settings.chunk} leaves no memory of the model's context of {sizes.context}: choose at most "
            f"{sizes.context - 1}"
        )


def _probe(model: Model, settings: Settings, lanes: int) -> bytes:
    """What the model computes for a fixed text with these settings: probabilities to the last bit, and the coder's words.

    lanes: how many are read at the same time.
    """
    short = replace(settings, lanes=lanes, chunk=min(settings.chunk, _PROBED_CHUNK))
    count = lanes * (_PROBED + short.chunk)
    symbols = BYTE_VALUES if model.codec.unit == "byte" else model.codec.vocab
    numbers = np.arange(count, dtype=np.int64)
    encoder = Encoder(numbers * (numbers + 7) // 3 % symbols)
    found = hashlib.sha256()

    def exchange(places: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        found.update(probabilities.tobytes())
        return encoder(places, probabilities)

    run(model, count, short, lanes, exchange)
    found.update(encoder.words().astype("<u4").tobytes())
    return found.digest()[:PROBE_DIGEST]
