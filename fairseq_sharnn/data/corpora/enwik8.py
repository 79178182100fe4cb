"""enwik8, the benchmark of the paper: the first 100 million bytes of a dump of Wikipedia, cut as published."""

import hashlib
import os
import urllib.error
import urllib.request
import zipfile
import zlib
from contextlib import ExitStack, suppress
from typing import List, Optional

from fairseq_sharnn.data.corpora.prepare import (
    BLOCK,
    SPLITS,
    byte_progress,
    copy_bytes,
    refuse_other_sizes,
    source_size,
    write_cut,
)
from fairseq_sharnn.errors import UsageError

URL = "http://mattmahoney.net/dc/enwik8.zip"
MD5 = "a1fa5ffddb56f4953e226637dabbb36a"
SIZES = {"train": 90_000_000, "valid": 5_000_000, "test": 5_000_000}


def write_enwik8(out: str, source: Optional[str] = None) -> None:
    """Make the corpus from a URL or a local file, zip or raw (default: `URL`).

    Raises UsageError if the source is missing, damaged or something else, or if `out` has other splits.
    """
    source = source or URL
    is_url = "://" in source
    if not is_url and not os.path.exists(source):
        raise UsageError(f"--source {source} does not exist")
    refuse_other_sizes(out, SIZES)
    splits = [os.path.join(out, split) for split in SPLITS]
    if all(map(os.path.exists, splits)) and md5_of(splits) == MD5:
        return
    if not is_url:
        source_size(source)
    try:
        os.makedirs(out, exist_ok=True)
        with ExitStack() as stack:
            path = source
            if is_url:
                path = _temporary(stack, out, ".enwik8.download")
                download(source, path)
            if zipfile.is_zipfile(path):
                path = _unpacked(path, _temporary(stack, out, ".enwik8.raw"))
            digest = md5_of([path])
            if digest != MD5:
                raise UsageError(f"{source} is not enwik8: its md5 is {digest}, expected {MD5}; get it from {URL}")
            write_cut(out, [path], SIZES)
    except (zipfile.BadZipFile, zlib.error, IndexError, EOFError) as error:
        raise UsageError(f"{source} is damaged: {error}; delete it and download it again") from None
    except OSError as error:
        raise UsageError(f"cannot read or write {error.filename or out}: {error.strerror or error}") from None


def md5_of(paths: List[str]) -> str:
    """The md5 digest of files, one after the other."""
    digest = hashlib.md5()
    for path in paths:
        with open(path, "rb") as file:
            while True:
                block = file.read(BLOCK)
                if not block:
                    break
                digest.update(block)
    return digest.hexdigest()


def _temporary(stack: ExitStack, out: str, name: str) -> str:
    """A path in `out`; the file is removed when the stack closes."""
    path = os.path.join(out, name)
    stack.callback(_remove, path)
    return path


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.remove(path)


def _unpacked(archive_path: str, target: str) -> str:
    """Unpack the first file of an archive to `target`; returns `target`."""
    with zipfile.ZipFile(archive_path) as archive:
        name = archive.namelist()[0]
        size = archive.getinfo(name).file_size
        with archive.open(name) as packed, open(target, "wb") as file, byte_progress(size, "unpacking") as advance:
            copy_bytes(packed, file, advance)
    return target


def download(url: str, target: str) -> None:
    """Fetch `url` into `target`. An earlier try that broke off left `target`.part: the download resumes there."""
    part = target + ".part"
    start = os.path.getsize(part) if os.path.exists(part) else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            resumed = answer.status == 206
            length = answer.headers.get("Content-Length")
            total = int(length) + (start if resumed else 0) if length else None
            with open(part, "ab" if resumed else "wb") as file, byte_progress(total, f"downloading {url}") as advance:
                advance(start if resumed else 0)
                copy_bytes(answer, file, advance)
        if total is not None and os.path.getsize(part) < total:
            raise OSError("the connection closed early")
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: the part is the whole file already
            raise UsageError(f"cannot download {url}: {error}") from None
    except (OSError, urllib.error.URLError) as error:
        kept = os.path.getsize(part) if os.path.exists(part) else 0
        raise UsageError(
            f"cannot download {url}: {error}; {kept:,} bytes are kept, and the same command resumes from there (or give a "
            "local file with --source)"
        ) from None
    os.replace(part, target)
