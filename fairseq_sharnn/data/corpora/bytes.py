"""Bytes on disk: one split of a corpus, memory-mapped."""

import os

import numpy as np

from fairseq_sharnn.data.corpora.base import Corpus, digest_of
from fairseq_sharnn.data.text.vocabulary import FIRST_BYTE
from fairseq_sharnn.errors import UsageError


class ByteCorpus(Corpus):
    """The N bytes of a file. Only the parts that are needed are read, so opening takes no longer for a large file.

    Raises UsageError when the file is missing, unreadable or empty.
    """

    unit = "byte"

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

    def ids(self, position: np.ndarray) -> np.ndarray:
        return self.data[position].astype(np.int64) + FIRST_BYTE

    def fingerprint(self) -> str:
        """Digest of the size and of 66 places of the file."""
        return digest_of(self.data, [str(len(self))])
