"""The three splits of the data: their sizes, and digests by which an output folder knows its data again."""

import hashlib
from dataclasses import dataclass
from typing import Dict

from fairseq_sharnn.errors import UsageError

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Split:
    """One file of the data."""

    bytes: int
    sha256: str


def read_splits(folder: str) -> Dict[str, Split]:
    """Size and sha256 of each split. Raises UsageError if one is missing or empty."""
    from fairseq_sharnn.data.corpora.base import split_path  # it imports fairseq, which --help does not need

    return {split: _read(split_path(folder, split)) for split in SPLITS}


def _read(path: str) -> Split:
    digest, size = hashlib.sha256(), 0
    try:
        with open(path, "rb") as file:
            for block in iter(lambda: file.read(1 << 22), b""):
                digest.update(block)
                size += len(block)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    if size == 0:
        raise UsageError(f"{path} is empty: there is nothing to train on or to evaluate")
    return Split(size, digest.hexdigest())
