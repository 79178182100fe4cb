"""Bytes on disk: one split of a corpus, memory-mapped."""

import hashlib
import os

import numpy as np
from fairseq.data import FairseqDataset

from fairseq_sharnn.errors import UsageError

_PROBE = 4096


class ByteCorpus(FairseqDataset):
    """The N bytes of a file, read where they are needed: opening costs the same for any size.

    Raises UsageError when the file is missing, unreadable or empty.
    """

    def __init__(self, path: str):
        super().__init__()
        self.path = path
        try:
            size = os.path.getsize(path)
            if os.path.isdir(path):
                raise IsADirectoryError("it is a folder")
            if size == 0:
                raise UsageError(f"{path} is empty: there is nothing to train on or to evaluate")
            self.data = np.memmap(path, dtype=np.uint8, mode="r")
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror or error}") from None

    def __len__(self) -> int:
        return len(self.data)

    def fingerprint(self) -> str:
        """Digest of the size and of 66 places of the file, for any size in no time: has it changed since?"""
        digest = hashlib.sha256(str(len(self)).encode())
        step = max(1, len(self) // 65)
        for start in [0, *range(step // 2, len(self), step), max(0, len(self) - _PROBE)]:
            digest.update(self.data[start : start + _PROBE].tobytes())
        return digest.hexdigest()[:32]

    def __getitem__(self, index: int) -> int:
        return int(self.data[index])


def split_path(folder: str, split: str) -> str:
    """Path of a split's file in a data folder. Raises UsageError naming what is there instead."""
    if not os.path.isdir(folder):
        raise UsageError(
            f"DATA folder {folder} does not exist: give a folder with one file per split (train, valid, test); "
            "scripts/prepare_corpus.py makes one"
        )
    path = os.path.join(folder, split)
    if not os.path.exists(path):
        present = ", ".join(sorted(os.listdir(folder))[:8]) or "nothing"
        raise UsageError(
            f"DATA folder {folder} has no file named {split} (it has: {present}): add it, or choose another "
            "split with --train-subset, --valid-subset or --gen-subset"
        )
    return path
