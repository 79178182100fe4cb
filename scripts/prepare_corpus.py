#!/usr/bin/env python3
"""Make a byte corpus: OUT/train, OUT/valid and OUT/test, raw bytes.

    scripts/prepare_corpus.py stdlib OUT                          code and documentation of this Python, split by file
    scripts/prepare_corpus.py enwik8 OUT [--source FILE_OR_URL]   the paper's benchmark, 90 M / 5 M / 5 M bytes
    scripts/prepare_corpus.py file OUT PATH...                    any files one after the other, 90 / 5 / 5 percent

Files are written under temporary names and put in place at the end; needs nothing but Python (and tqdm for a
progress bar, if it is there).
"""

import argparse
import hashlib
import os
import sys
import sysconfig
import urllib.error
import urllib.request
import zipfile
import zlib
from contextlib import contextmanager
from typing import BinaryIO, Dict, Iterator, List, Optional

SPLITS = ("train", "valid", "test")
PERCENT = {"train": 90, "valid": 5, "test": 5}
STDLIB_BYTES = 6_000_000
ENWIK8_URL = "http://mattmahoney.net/dc/enwik8.zip"
ENWIK8_MD5 = "a1fa5ffddb56f4953e226637dabbb36a"
ENWIK8_BYTES = {"train": 90_000_000, "valid": 5_000_000, "test": 5_000_000}
BLOCK = 1 << 20


class CorpusError(Exception):
    """Something the user can put right, in one line."""


@contextmanager
def progress(total: Optional[int], what: str):
    """A tqdm bar over bytes, or nothing where tqdm is missing."""
    try:
        from tqdm import tqdm
    except ImportError:
        print(f"{what} ...", file=sys.stderr)
        yield lambda count: None
        return
    with tqdm(total=total, desc=what, unit="B", unit_scale=True, mininterval=0.5) as bar:
        yield bar.update


@contextmanager
def splits_written(out: str) -> Iterator[Dict[str, BinaryIO]]:
    """Open the three files of `out` for writing; they take their names only when all three are complete."""
    os.makedirs(out, exist_ok=True)
    names = {split: os.path.join(out, f".{split}.{os.getpid()}.tmp") for split in SPLITS}
    files = {split: open(name, "wb") for split, name in names.items()}
    try:
        yield files
        for file in files.values():
            file.flush()
            os.fsync(file.fileno())
            file.close()
        for split, name in names.items():
            if os.path.getsize(name) == 0:
                raise CorpusError(f"the {split} split would be empty: give more text")
        for split, name in names.items():
            os.replace(name, os.path.join(out, split))
    finally:
        for split, name in names.items():
            files[split].close()
            if os.path.exists(name):
                os.remove(name)


def stdlib_files() -> List[str]:
    """Source files of this interpreter's standard library, in an order fixed by name, without tests and code tables."""
    root = sysconfig.get_path("stdlib")
    skipped = {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test", "encodings"}
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in skipped and not name.startswith("config-")]
        found += [os.path.join(folder, name) for name in files if name.endswith(".py")]
    if not found:
        raise CorpusError(f"the standard library in {root} has no source files; use the enwik8 or file command")
    # by digest of the name, so that neighbours in the alphabet spread over the splits
    return sorted(found, key=lambda path: hashlib.sha256(os.path.relpath(path, root).encode()).hexdigest())


def make_stdlib(out: str) -> None:
    """Deal whole files, in their fixed order, to the split that is furthest behind its share, up to 6 MB."""
    written = dict.fromkeys(SPLITS, 0)
    with splits_written(out) as files:
        for path in stdlib_files():
            with open(path, "rb") as source:
                data = source.read()
            if not data or sum(written.values()) + len(data) > STDLIB_BYTES:
                continue
            split = min(SPLITS, key=lambda name: (written[name] + len(data)) / PERCENT[name])
            files[split].write(data)
            written[split] += len(data)


def make_from_files(out: str, paths: List[str]) -> None:
    """Write the files one after the other as one sequence of bytes, cut at 90 % and at 95 %, rounded down."""
    try:
        total = sum(os.path.getsize(path) for path in paths)
    except OSError as error:
        raise CorpusError(f"cannot read {error.filename}: {error.strerror}") from None
    cuts = {"train": total * 90 // 100, "valid": total * 95 // 100, "test": total}
    copy_in_splits(out, paths, {"train": cuts["train"], "valid": cuts["valid"] - cuts["train"], "test": None}, total)


def copy_in_splits(out: str, paths: List[str], sizes: Dict[str, Optional[int]], total: int) -> None:
    """Copy the files' bytes into the splits, `sizes` bytes each (None: all that is left)."""
    with splits_written(out) as files, progress(total, f"writing {out}") as advance:
        split_names = iter(SPLITS)
        split = next(split_names)
        room = sizes[split]
        for path in paths:
            try:
                source = open(path, "rb")
            except OSError as error:
                raise CorpusError(f"cannot read {path}: {error.strerror}") from None
            with source:
                while True:
                    while room == 0:
                        split = next(split_names)
                        room = sizes[split]
                    block = source.read(BLOCK if room is None else min(BLOCK, room))
                    if not block:
                        break
                    files[split].write(block)
                    advance(len(block))
                    room = None if room is None else room - len(block)


def download(url: str, target: str) -> None:
    """Fetch `url` into `target`, going on from `target.part` where an earlier try stopped."""
    part = target + ".part"
    start = os.path.getsize(part) if os.path.exists(part) else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            resumed = answer.status == 206
            length = answer.headers.get("Content-Length")
            total = int(length) + (start if resumed else 0) if length else None
            with open(part, "ab" if resumed else "wb") as file, progress(total, f"downloading {url}") as advance:
                advance(start if resumed else 0)
                while True:
                    block = answer.read(BLOCK)
                    if not block:
                        break
                    file.write(block)
                    advance(len(block))
        if total is not None and os.path.getsize(part) < total:
            raise OSError("the connection closed early")
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: the part is already the whole file
            raise CorpusError(f"cannot download {url}: {error}") from None
    except (OSError, urllib.error.URLError) as error:
        kept = os.path.getsize(part) if os.path.exists(part) else 0
        raise CorpusError(
            f"cannot download {url}: {error}; {kept:,} bytes are kept, the same command goes on from there "
            "(or give a local file with --source)"
        ) from None
    os.replace(part, target)


def make_enwik8(out: str, source: Optional[str]) -> None:
    """Get enwik8 from a URL or a local file (zip or raw), check its md5, cut it as published."""
    source = source or ENWIK8_URL
    os.makedirs(out, exist_ok=True)
    temporary = []
    if "://" in source:
        path = os.path.join(out, ".enwik8.download")
        download(source, path)
        temporary.append(path)
    else:
        path = source
    try:
        if not os.path.isfile(path):
            raise CorpusError(f"--source {path} does not exist")
        if zipfile.is_zipfile(path):
            raw = os.path.join(out, ".enwik8.raw")
            temporary.append(raw)
            with zipfile.ZipFile(path) as archive:
                name = archive.namelist()[0]
                size = archive.getinfo(name).file_size
                with archive.open(name) as packed, open(raw, "wb") as file, progress(size, "unpacking") as advance:
                    for block in iter(lambda: packed.read(BLOCK), b""):
                        file.write(block)
                        advance(len(block))
            path = raw
        digest = hashlib.md5()
        with open(path, "rb") as file:
            for block in iter(lambda: file.read(BLOCK), b""):
                digest.update(block)
        if digest.hexdigest() != ENWIK8_MD5:
            raise CorpusError(
                f"{source} is not enwik8: its md5 is {digest.hexdigest()}, expected {ENWIK8_MD5}; "
                f"get it from {ENWIK8_URL}"
            )
        copy_in_splits(out, [path], {**ENWIK8_BYTES, "test": None}, sum(ENWIK8_BYTES.values()))
    except (zipfile.BadZipFile, zlib.error, IndexError, EOFError) as error:
        raise CorpusError(f"{source} is damaged: {error}; delete it and download it again") from None
    finally:
        for name in temporary:
            if os.path.exists(name):
                os.remove(name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    stdlib = commands.add_parser("stdlib", help="code and documentation of the running Python's standard library")
    enwik8 = commands.add_parser("enwik8", help="the paper's benchmark")
    enwik8.add_argument("--source", help=f"a local zip or raw file, or a URL (default: {ENWIK8_URL})")
    files = commands.add_parser("file", help="any files, 90/5/5")
    for command in (stdlib, enwik8, files):
        command.add_argument("out", metavar="OUT", help="folder to write train, valid and test into")
    files.add_argument("paths", metavar="PATH", nargs="+")
    args = parser.parse_args()
    try:
        if args.command == "stdlib":
            make_stdlib(args.out)
        elif args.command == "enwik8":
            make_enwik8(args.out, args.source)
        else:
            make_from_files(args.out, args.paths)
    except CorpusError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: cannot write {error.filename or args.out}: {error.strerror}", file=sys.stderr)
        return 1
    for split in SPLITS:
        print(f"{os.path.join(args.out, split)}: {os.path.getsize(os.path.join(args.out, split)):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
