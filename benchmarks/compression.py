#!/usr/bin/env python3
"""Sizes and speeds of `compress`, static and dynamic, and of general compressors on the same file.

    python -m benchmarks.compression FILE --model MODEL [--lanes 8] [--dynamic-lr 5e-4] [--out REPORT.md]

MODEL is a checkpoint or an exported folder; its own bytes are counted in a column. Each compressor runs as a command of
its own, its file is decompressed and compared, and both are timed from start to end, loading included. A compressor that is
not installed is left out, with a line on stderr.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence

import torch

from experiments.harness.folder import write_text
from experiments.harness.machine import processor
from experiments.harness.markdown import NOTHING, table
from fairseq_sharnn.errors import UsageError, exit_with_one_line
from fairseq_sharnn.portable.compressor.rounding import Place


@dataclass(frozen=True)
class Method:
    """A compressor. pack and unpack: commands with {file}, {out} and {back}. score: the command whose figure it proves."""

    name: str
    pack: str
    unpack: str
    score: Optional[str] = None


GENERAL = (
    Method("xz", "xz -9e -k -c {file} >{out}", "xz -d -c {out} >{back}"),
    Method("bzip2", "bzip2 -9 -k -c {file} >{out}", "bzip2 -d -c {out} >{back}"),
    Method("zstd", "zstd -19 --long -q -c {file} >{out}", "zstd -d --long -q -c {out} >{back}"),
    Method("brotli", "brotli -q 11 -w 24 -c {file} >{out}", "brotli -d -c {out} >{back}"),
)


@dataclass(frozen=True)
class Result:
    """What one compressor did. Sizes in bytes, times in seconds."""

    method: Method
    size: int
    pack_seconds: float
    unpack_seconds: float
    bits_by_score: Optional[float]


def own_methods(model: str, options: str, dynamic: str) -> List[Method]:
    """`compress` static and dynamic. options, dynamic: words for both commands, and for the second only."""
    program, model = "python -m fairseq_sharnn", shlex.quote(model)
    methods = []
    for name, extra in (("static", options), ("dynamic", f"{options} {dynamic}")):
        methods.append(
            Method(
                f"compress, {name}",
                f"{program} compress {{file}} {{out}} --model {model} {extra}",
                f"{program} decompress {{out}} {{back}} --model {model}",
                f"{program} score {{file}} --json --model {model} {extra}",
            )
        )
    return methods


def measure(method: Method, file: Path) -> Result:
    """Compress, decompress and compare. Raises UsageError if a command fails or the file does not come back."""
    with tempfile.TemporaryDirectory() as folder:
        names = {"file": file.resolve(), "out": Path(folder) / "out", "back": Path(folder) / "back"}
        bits = None
        if method.score is not None:
            bits = json.loads(_run(method.score, names)[1])["all"]["bits_per_byte"]
        pack_seconds, _ = _run(method.pack, names)
        unpack_seconds, _ = _run(method.unpack, names)
        if names["back"].read_bytes() != file.read_bytes():
            raise UsageError(f"{method.name} does not give {file} back")
        return Result(method, names["out"].stat().st_size, pack_seconds, unpack_seconds, bits)


def _run(command: str, names: dict) -> "tuple[float, str]":
    """Seconds and stdout of a command."""
    line = command.format(**{name: shlex.quote(str(path)) for name, path in names.items()})
    if line.startswith("python "):
        line = f"{shlex.quote(sys.executable)} {line[len('python ') :]}"
    begun = time.perf_counter()
    finished = subprocess.run(["bash", "-c", line], stdout=subprocess.PIPE, check=False)
    if finished.returncode != 0:
        raise UsageError(f"this command failed with exit code {finished.returncode}: {line}")
    return time.perf_counter() - begun, finished.stdout.decode()


def size_of(model: Path) -> int:
    """Bytes of a model: of the file, or of what `load` reads in the folder."""
    if model.is_file():
        return model.stat().st_size
    return sum(path.stat().st_size for path in model.iterdir() if path.suffix in (".safetensors", ".json", ".txt"))


def rows(results: Sequence[Result], size: int, model: int) -> List[List[str]]:
    """The rows of the table, for a file of `size` bytes and a model of `model` bytes."""
    found = []
    for result in results:
        own = model if result.method.score is not None else 0
        found.append(
            [
                result.method.name,
                f"{result.size:,}",
                f"{8 * result.size / size:.4f}",
                NOTHING if result.bits_by_score is None else f"{result.bits_by_score:.4f}",
                f"{result.size + own:,}",
                f"{8 * (result.size + own) / size:.4f}",
                f"{size / result.pack_seconds:,.0f}",
                f"{size / result.unpack_seconds:,.0f}",
            ]
        )
    return found


HEADER = (
    *("", "bytes", "bits per byte", "bits per byte by `score`", "bytes with the model", "bits per byte with the model"),
    *("bytes/s, compressing", "bytes/s, decompressing"),
)


def report(results: Sequence[Result], file: Path, model: Path, command: str) -> str:
    """The report, as Markdown."""
    size = file.stat().st_size
    place = f"{processor()}, torch {torch.__version__}, {dict(Place.here().facts())['CPU kernels']} kernels, 1 thread"
    lines = [f"# Compression of {file}", "", place, "", f"    {command}", ""]
    lines += [f"{file} has {size:,} bytes, the model {size_of(model):,}.", ""]
    lines += table(HEADER, rows(results, size, size_of(model)))
    lines += ["Commands, to compress, to decompress, and of the column `score`:", ""]
    for result in results:
        commands = (result.method.pack, result.method.unpack, result.method.score)
        lines += [f"    {line.format(file=file, out='OUT', back='BACK')}" for line in commands if line]
    return "\n".join(lines) + "\n"


@exit_with_one_line()
def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", metavar="FILE", type=Path)
    parser.add_argument("--model", metavar="MODEL", type=Path, required=True)
    parser.add_argument("--lanes", type=int, default=8)
    parser.add_argument("--dynamic-lr", type=float, default=5e-4)
    parser.add_argument("--only", action="append", help="run only the compressors with this in their name")
    parser.add_argument("--out", type=Path, help="also write the report to this file")
    args = parser.parse_args(arguments)
    if not args.file.is_file() or not args.file.stat().st_size:
        raise UsageError(f"{args.file} is missing or empty: name a file with text")
    own = own_methods(str(args.model), f"--lanes {args.lanes}", f"--dynamic-lr {args.dynamic_lr:g}")
    results = []
    for method in [*own, *GENERAL]:
        program = method.pack.split()[0]
        if args.only and not any(part in method.name for part in args.only):
            continue
        if program != "python" and shutil.which(program) is None:
            print(f"{program} is not installed and is left out", file=sys.stderr)
            continue
        results.append(measure(method, args.file))
        print(*rows(results[-1:], args.file.stat().st_size, size_of(args.model)), file=sys.stderr)
    words = arguments if arguments is not None else sys.argv[1:]
    text = report(results, args.file, args.model, shlex.join(["python", "-m", "benchmarks.compression", *words]))
    print(text)
    if args.out:
        write_text(args.out, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
