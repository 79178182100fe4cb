"""Tokens on disk: one split in fairseq's binarized format (`train.bin`, `train.idx`), memory-mapped."""

import os
import struct
from typing import Tuple, Type

import numpy as np
from fairseq.data import indexed_dataset

from fairseq_sharnn.data.corpora.base import Corpus, digest_of
from fairseq_sharnn.errors import UsageError

_HEADER = struct.Struct("<9sQBQ")  # magic, version, type code, number of items
_PER_ITEM = 4 + 8  # an int32 size and an int64 pointer


class TokenCorpus(Corpus):
    """The N tokens of all items (lines) of a split, one after another, as fairseq's own reader maps them.

    prefix: the path without `.bin`. vocabulary: number of symbols in the dictionary. Raises UsageError when the split
    is missing, damaged, empty or of another format than `mmap`, and while reading when it has a larger vocabulary.
    """

    unit = "token"

    def __init__(self, prefix: str, vocabulary: int):
        super().__init__()
        self.path = f"{prefix}.bin"
        self._prefix = prefix
        self._vocabulary = vocabulary
        self._check_files()
        self._reader = indexed_dataset.MMapIndexedDataset(prefix)  # kept: it closes the map when it goes
        self.sizes = self._reader.sizes
        itemsize = np.dtype(self._reader._index.dtype).itemsize
        stored, expected = os.path.getsize(self.path), int(self.sizes.sum(dtype=np.int64)) * itemsize
        if stored != expected:
            raise UsageError(
                f"{self.path} has {stored:,} bytes, but {prefix}.idx says {expected:,}: prepare the text again"
            )
        # Items lie one after another: fairseq's writer has no other way.
        self.data = np.frombuffer(self._reader._bin_buffer, dtype=self._reader._index.dtype)

    def _check_files(self) -> None:
        """Raises UsageError for files at which fairseq's reader would end in a traceback."""
        index = f"{self._prefix}.idx"
        try:
            if os.path.getsize(self.path) == 0:
                raise UsageError(f"{self.path} is empty: there is nothing to train on or to evaluate")
            size = os.path.getsize(index)
            with open(index, "rb") as file:
                header = file.read(_HEADER.size)
            kind = indexed_dataset.infer_dataset_impl(self._prefix)
        except OSError as error:
            raise UsageError(f"cannot read {error.filename or self._prefix}: {error.strerror or error}") from None
        if kind != "mmap":
            raise UsageError(
                f"{index} is damaged or of another format than fairseq-preprocess --dataset-impl mmap: prepare the text "
                "again, with scripts/prepare_text.py"
            )
        if len(header) < _HEADER.size or size != _HEADER.size + _PER_ITEM * _HEADER.unpack(header)[3]:
            raise UsageError(f"{index} is damaged: prepare the text again")

    def __reduce__(self) -> Tuple[Type["TokenCorpus"], Tuple[str, int]]:
        return TokenCorpus, (self._prefix, self._vocabulary)

    def __len__(self) -> int:
        return len(self.data)

    def ids(self, position: np.ndarray) -> np.ndarray:
        ids = self.data[position].astype(np.int64)
        if ids.size and int(ids.max()) >= self._vocabulary:
            raise UsageError(
                f"{self.path} holds token number {int(ids.max())}, but the vocabulary ends at {self._vocabulary - 1}: it "
                "was prepared with another dict.txt; prepare the text again"
            )
        return ids

    def fingerprint(self) -> str:
        """Digest of the number of tokens and of 66 places of the file."""
        return digest_of(np.frombuffer(self._reader._bin_buffer, dtype=np.uint8), [str(len(self))])
