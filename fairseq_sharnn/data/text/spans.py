"""How much of the original text each token covers: bytes, and words that begin in it.

Beside a split's tokens lie `SPLIT.bytes.npy` and `SPLIT.words.npy`, one number a token. A word is what stands between
white bytes (space, \\t, \\n, \\v, \\f, \\r), in any tokenization, so that all count the same words; it is the token's in
which its first byte lies.
"""

import os
from typing import Iterator, NamedTuple, Sequence

import numpy as np

from fairseq_sharnn.errors import UsageError

WHITE = np.zeros(256, dtype=bool)
WHITE[list(b" \t\n\v\f\r")] = True
_BLOCK = 1 << 22


class Spans(NamedTuple):
    """For each of N tokens: bytes [N] that it covers and words [N] that begin in it."""

    bytes: np.ndarray
    words: np.ndarray


def word_starts(data: np.ndarray) -> Iterator[np.ndarray]:
    """For blocks of a text's bytes (uint8), in order: at which of them a word begins (bool)."""
    before = True
    for start in range(0, len(data), _BLOCK):
        white = WHITE[data[start : start + _BLOCK]]
        previous = np.concatenate([[before], white[:-1]])
        before = bool(white[-1])
        yield ~white & previous


def count_words(data: np.ndarray) -> int:
    """Words in a text's bytes (uint8)."""
    return sum(int(block.sum()) for block in word_starts(data))


def words_of_tokens(data: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Words that begin in each of N tokens that cover `lengths` [N] bytes of a text, one after the other: [N] uint32."""
    words = np.empty(len(lengths), dtype=np.uint32)
    place, before = 0, True
    for first in range(0, len(lengths), _BLOCK):
        ends = np.cumsum(lengths[first : first + _BLOCK], dtype=np.int64)
        white = WHITE[data[place : place + int(ends[-1])]]
        begun = np.concatenate([[0], np.cumsum(~white & np.concatenate([[before], white])[:-1])])
        words[first : first + len(ends)] = np.diff(begun[ends], prepend=0)
        place, before = place + len(white), bool(white[-1]) if len(white) else before
    return words


def write_spans(prefix: str, spans: Spans) -> None:
    """Write both arrays, each in the smallest unsigned type that holds it."""
    for name, values in spans._asdict().items():
        kind = np.min_scalar_type(int(values.max()) if len(values) else 0)
        np.save(f"{prefix}.{name}.npy", values.astype(kind))


def read_spans(prefix: str, tokens: int) -> Spans:
    """The arrays that belong to a split, memory-mapped. Raises UsageError if one is missing or has another length."""
    arrays = []
    for name in Spans._fields:
        path = f"{prefix}.{name}.npy"
        if not os.path.isfile(path):
            raise UsageError(
                f"{path} is missing: without the bytes and words that each token covers there is no common scale; "
                "prepare the text with scripts/prepare_text.py"
            )
        try:
            arrays.append(np.load(path, mmap_mode="r"))
        except (ValueError, OSError, EOFError) as error:
            raise UsageError(f"{path} is damaged ({error}): prepare the text again") from None
        if arrays[-1].shape != (tokens,):
            raise UsageError(f"{path} is of another text than the split's {tokens:,} tokens: prepare the text again")
    return Spans(*arrays)


def positions_in_words(words: Sequence[int]) -> np.ndarray:
    """For each token, how many tokens ago the last word began: 0 for a word's first; −1 before the first word."""
    counts = np.asarray(words)
    places = np.arange(len(counts))
    last = np.maximum.accumulate(np.where(counts > 0, places, -1))
    return np.where(last >= 0, places - last, -1)
