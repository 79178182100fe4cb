"""What streams and blocks read: a sequence of ids on disk, of bytes or of tokens."""

import hashlib
import os
from typing import Iterable

import numpy as np
from fairseq.data import FairseqDataset

from fairseq_sharnn.errors import UsageError

FAIRSEQS_SPLIT_OPTIONS = "--train-subset, --valid-subset or --gen-subset"
_PROBE = 4096


class Corpus(FairseqDataset):
    """One split of a corpus: N ids of a dictionary. Only the parts that are needed are read.

    path: the file, for messages. unit: what one id stands for ("byte", "token").
    """

    path: str
    unit: str

    def __len__(self) -> int:
        raise NotImplementedError

    def ids(self, position: np.ndarray) -> np.ndarray:
        """Dictionary ids (int64) of the given places in the file, in their shape."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Digest of the split's size and of some places in it, to notice a change. It takes no longer for a large file."""
        raise NotImplementedError

    def __getitem__(self, index: int) -> int:
        return int(self.ids(np.asarray(index)))


def digest_of(data: np.ndarray, parts: Iterable[str]) -> str:
    """Digest of some texts and of 66 places of 4 KB of a file's bytes [N] (uint8)."""
    digest = hashlib.sha256("".join(parts).encode())
    step = max(1, len(data) // 65)
    for start in [0, *range(step // 2, len(data), step), max(0, len(data) - _PROBE)]:
        digest.update(data[start : start + _PROBE].tobytes())
    return digest.hexdigest()[:32]


def split_path(
    folder: str,
    split: str,
    file_of_split: str = "{}",
    made_by: str = "scripts/prepare_corpus.py",
    options: str = FAIRSEQS_SPLIT_OPTIONS,
) -> str:
    """Path of a split's file in a data folder. Raises UsageError that lists what is there instead.

    file_of_split: the file's name, with {} for the split. made_by: the script that makes such folders. options: those of
    the program that choose a split.
    """
    if not os.path.isdir(folder):
        raise UsageError(
            f"DATA folder {folder} does not exist: give a folder with one file per split (train, valid, test); "
            f"{made_by} makes one"
        )
    name = file_of_split.format(split) if split else ""
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        present = ", ".join(sorted(os.listdir(folder))[:8]) or "nothing"
        raise UsageError(
            f"DATA folder {folder} has no file named {name} (it has: {present}): add it, or choose another "
            f"split with {options}"
        )
    return path
