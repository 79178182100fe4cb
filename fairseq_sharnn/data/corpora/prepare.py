"""From files to the three splits of a byte corpus: train, valid and test, which appear when all three are complete.

This needs neither torch nor fairseq; tqdm shows a progress bar if it is there.
"""

import filecmp
import hashlib
import os
import sys
import sysconfig
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, BinaryIO, Callable, Dict, Iterator, List, Optional

from fairseq_sharnn.errors import UsageError

SPLITS = ("train", "valid", "test")
PERCENT = {"train": 90, "valid": 5, "test": 5}
STDLIB_BYTES = 6_000_000
BLOCK = 1 << 20

Advance = Callable[[int], object]  # is called with the number of bytes that were just done


@contextmanager
def byte_progress(total: Optional[int], what: str) -> Iterator[Advance]:
    """A progress bar over bytes; only a line that says what is done where tqdm is missing."""
    try:
        from tqdm import tqdm
    except ImportError:
        print(f"{what} ...", file=sys.stderr)
        yield lambda count: None
        return
    with tqdm(total=total, desc=what, unit="B", unit_scale=True, mininterval=0.5) as bar:
        yield bar.update


def source_size(path: str) -> int:
    """Bytes of a file that a corpus is made of. Raises UsageError if it is missing or not a regular file."""
    try:
        size = os.path.getsize(path)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    if os.path.isdir(path):
        raise UsageError(f"cannot read {path}: it is a folder; name its files")
    if not os.path.isfile(path):
        raise UsageError(f"cannot read {path}: it is not a regular file; save its content to a file and name that")
    return size


def copy_bytes(source: IO[bytes], target: IO[bytes], advance: Advance, limit: Optional[int] = None) -> int:
    """Copy at most `limit` bytes (None: all that are left); returns how many."""
    copied = 0
    while limit is None or copied < limit:
        block = source.read(BLOCK if limit is None else min(BLOCK, limit - copied))
        if not block:
            break
        target.write(block)
        advance(len(block))
        copied += len(block)
    return copied


def copy_file(source: str, target: str, advance: Advance) -> None:
    """Copy a whole file. Raises UsageError if it cannot be read or is empty."""
    try:
        with open(source, "rb") as file, open(target, "wb") as copy:
            copied = copy_bytes(file, copy, advance)
    except OSError as error:
        raise UsageError(f"cannot read {source}: {error.strerror or error}") from None
    if copied == 0:
        raise UsageError(f"{source} is empty: there is nothing to prepare")


@contextmanager
def new_splits(out: str) -> Iterator[Dict[str, BinaryIO]]:
    """The three files of `out`, open for writing. They get their names only when all three are complete.

    A split that exists stays as it is: it must be equal to the new one. Raises UsageError if it is not, if a split is
    empty, and if `out` cannot be written.
    """
    try:
        os.makedirs(out, exist_ok=True)
        names = {split: os.path.join(out, f".{split}.{os.getpid()}.tmp") for split in SPLITS}
        try:
            with ExitStack() as stack:
                yield {split: stack.enter_context(open(name, "wb")) for split, name in names.items()}
            for split, name in names.items():
                if os.path.getsize(name) == 0:
                    raise UsageError(f"the {split} split would be empty: give more text")
            for split, name in names.items():
                path = os.path.join(out, split)
                if os.path.exists(path) and not filecmp.cmp(name, path, shallow=False):
                    raise _other_content(path)
            for split, name in names.items():
                _put_in_place(name, os.path.join(out, split))
        finally:
            for name in names.values():
                with suppress(FileNotFoundError):
                    os.remove(name)
    except OSError as error:
        raise UsageError(f"cannot write {error.filename or out}: {error.strerror or error}") from None


def _put_in_place(name: str, path: str) -> None:
    if not os.path.exists(path):
        with open(name, "rb") as file:
            os.fsync(file.fileno())
        os.replace(name, path)


def refuse_other_sizes(out: str, sizes: Dict[str, int]) -> None:
    """Raise UsageError if `out` has a split that is not as long as the new one will be, before any work is done."""
    for split, size in sizes.items():
        path = os.path.join(out, split)
        if os.path.exists(path) and (not os.path.isfile(path) or os.path.getsize(path) != size):
            raise _other_content(path)


def _other_content(path: str) -> UsageError:
    return UsageError(f"{path} exists and has other content: name another OUT folder, or delete {path} first")


def write_files(out: str, paths: List[str]) -> None:
    """Make a corpus of files, one after the other, cut at 90 % and at 95 % (rounded down).

    Raises UsageError, and changes nothing, if a file is missing or if `out` has other splits.
    """
    total = sum(source_size(path) for path in paths)
    train, valid = total * 90 // 100, total * 95 // 100
    sizes = {"train": train, "valid": valid - train, "test": total - valid}
    for split, size in sizes.items():
        if size == 0:
            raise UsageError(f"the {split} split would be empty: give more text")
    _refuse_own_splits(out, paths)
    refuse_other_sizes(out, sizes)
    write_cut(out, paths, sizes)


def _refuse_own_splits(out: str, paths: List[str]) -> None:
    """Raise UsageError if a source is itself a split of `out`."""
    for split in SPLITS:
        own = os.path.join(out, split)
        for path in paths:
            if os.path.exists(own) and os.path.samefile(path, own):
                raise UsageError(f"{path} is itself the {split} split of {out}: name another OUT folder")


def write_cut(out: str, paths: List[str], sizes: Dict[str, int]) -> None:
    """Copy the bytes of files, one after the other, into splits of these sizes."""
    with new_splits(out) as files, byte_progress(sum(sizes.values()), f"writing {out}") as advance:
        splits = iter(SPLITS)
        split = next(splits)
        room = sizes[split]
        for path in paths:
            with _opened(path) as source:
                while True:
                    copied = copy_bytes(source, files[split], advance, room)
                    room -= copied
                    if room > 0:
                        break  # the file has ended
                    following = next(splits, None)
                    if following is None:
                        return
                    split, room = following, sizes[following]


def _opened(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None


def write_stdlib(out: str) -> None:
    """Make a corpus of this Python's standard library: whole files, in a fixed order, up to 6 MB.

    Each file goes to the split that is furthest behind its share.
    """
    written = dict.fromkeys(SPLITS, 0)
    with new_splits(out) as files:
        for path in stdlib_files():
            with open(path, "rb") as source:
                data = source.read()
            if not data or sum(written.values()) + len(data) > STDLIB_BYTES:
                continue
            split = min(SPLITS, key=lambda name: (written[name] + len(data)) / PERCENT[name])
            files[split].write(data)
            written[split] += len(data)


def stdlib_files() -> List[str]:
    """Source files of this Python's standard library, without tests and code tables, in a fixed order."""
    root = sysconfig.get_path("stdlib")
    skipped = {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test", "encodings"}
    paths = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in skipped and not name.startswith("config-")]
        paths += [os.path.join(folder, name) for name in files if name.endswith(".py")]
    if not paths:
        raise UsageError(f"the standard library in {root} has no source files: use the enwik8 or the file command")
    # by digest of the name, so that neighbours in the alphabet spread over the splits
    return sorted(paths, key=lambda path: hashlib.sha256(os.path.relpath(path, root).encode()).hexdigest())
