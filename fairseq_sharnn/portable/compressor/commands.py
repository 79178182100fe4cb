"""The commands `compress FILE OUT` and `decompress OUT FILE`."""

import argparse
import os
import sys
from pathlib import Path

from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.files import write_whole
from fairseq_sharnn.portable.commands import dynamic_settings
from fairseq_sharnn.portable.compressor.coding import coder
from fairseq_sharnn.portable.compressor.compressor import checked, compress, decompress
from fairseq_sharnn.portable.compressor.container import Settings
from fairseq_sharnn.portable.compressor.progress import Progress
from fairseq_sharnn.portable.loading import load
from fairseq_sharnn.portable.model import Model


def run_compress(options: argparse.Namespace) -> None:
    """`compress FILE OUT`: prints the size, bits per byte, and how fast it was."""
    coder()
    _check_free(options.out)
    dynamic = dynamic_settings(options)
    if options.chunk is not None and not dynamic.learns:
        raise UsageError("--chunk is for --dynamic-lr: the model learns after each chunk")
    Settings(options.lanes, options.threads)  # before the model is loaded
    content = _read(options.file)
    model = load(options.model, data=options.data)
    settings = Settings(options.lanes, options.threads, _chunk(options, model) if dynamic.learns else 0, dynamic)
    with Progress("compressing", len(content), "bytes") as progress:
        advance = progress.advance if model.codec.unit == "byte" else lambda count: None
        packed = compress(model, content, settings, options.file, advance)
    _write(options.out, packed)
    bits = f", {8 * len(packed) / len(content):.4f} bits per byte" if content else ""
    rate = len(content) / max(progress.seconds, 1e-9)
    lanes = f"{settings.lanes} lane{'' if settings.lanes == 1 else 's'}"
    print(
        f"{options.out}: {len(packed):,} bytes of {len(content):,}{bits}, {dynamic}, {lanes}, "
        f"{progress.seconds:.1f} s, {rate:,.0f} bytes/s"
    )


def run_decompress(options: argparse.Namespace) -> None:
    """`decompress OUT FILE`: writes FILE when its sha256 fits."""
    coder()
    _check_free(options.file)
    if options.max_bytes < 0:
        raise UsageError(f"--max-bytes must be at least 0, but it is {options.max_bytes}")
    data = _read(options.out)
    header, _ = checked(data, options.out, options.max_bytes)
    model = load(options.model, data=options.data)
    with Progress("decompressing", header.count, f"{model.codec.unit}s") as progress:
        content = decompress(model, data, options.out, options.max_bytes, progress.advance, _warn)
    _write(options.file, content)
    rate = len(content) / max(progress.seconds, 1e-9)
    print(f"{options.file}: {len(content):,} bytes, sha256 checked, {progress.seconds:.1f} s, {rate:,.0f} bytes/s")


def _chunk(options: argparse.Namespace, model: Model) -> int:
    """After how many ids of a lane the model learns: the chunk of `score`."""
    if options.chunk is not None:
        return int(options.chunk)
    return max(1, min(model.config.chunk, model.config.sizes.context - 1))


def _warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr)


def _check_free(path: str) -> None:
    """Raises UsageError unless a file can be made at the path, or there is a pipe or device."""
    if os.path.isdir(path):
        raise UsageError(f"{path} is a folder: name a file to write")
    if os.path.isfile(path):
        raise UsageError(f"{path} is there already: remove it, or name another file")
    folder = Path(path).parent
    if not folder.is_dir():
        raise UsageError(f"cannot write {path}: {folder} is not a folder")
    if not os.access(path if os.path.exists(path) else folder, os.W_OK):
        raise UsageError(f"cannot write {path}: permission denied")


def _write(path: str, content: bytes) -> None:
    try:
        write_whole(path, content)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from None


def _read(path: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
