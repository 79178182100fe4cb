"""Pieces of a long text in a random order, so that the few lanes of a training read many documents.

A lane reads one stretch of the training file from its start to its end. Where documents are long (books), 16 lanes read
16 of them for thousands of updates, and the model learns these few. Pieces of some kilobytes in a random order are more
varied, and longer than what the memory holds. This needs neither torch nor fairseq.
"""

import mmap
import os
import random
from contextlib import suppress
from typing import List, Tuple, Union

from fairseq_sharnn.data.corpora.prepare import byte_progress, source_size
from fairseq_sharnn.errors import UsageError

PIECE = 16_384
PARAGRAPH = b"\n\n"


def pieces(text: Union[bytes, mmap.mmap], size: int) -> List[Tuple[int, int]]:
    """Cut `text` into pieces (start, end) of at least `size` bytes, each at the end of a paragraph (a blank line).

    The last piece may be shorter. A text without blank lines is cut after exactly `size` bytes, and so is a paragraph
    of more than `size` bytes at the end of a piece.
    """
    cuts, cut = [], 0
    while cut < len(text):
        cuts.append(cut)
        wanted = cut + size
        found = text.find(PARAGRAPH, wanted, wanted + size)
        cut = wanted if found < 0 else found + len(PARAGRAPH)
    return list(zip(cuts, [*cuts[1:], len(text)]))


def write_shuffled(source: str, target: str, size: int = PIECE, seed: int = 1) -> int:
    """Write the pieces of the file `source` to the new file `target`, in the random order of `seed`; returns how many.

    Every byte is written once. The file gets its name when it is complete. Raises UsageError if `size` is below 1, if
    `source` cannot be read or is empty, and if `target` exists or cannot be written.
    """
    if size < 1:
        raise UsageError(f"--piece must be at least 1 byte, not {size}")
    if source_size(source) == 0:
        raise UsageError(f"{source} is empty: there is nothing to shuffle")
    if os.path.exists(target):
        raise UsageError(f"{target} exists: name another OUT, or delete it first")
    partial = f"{target}.{os.getpid()}.tmp"
    try:
        with open(source, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            order = pieces(text, size)
            random.Random(seed).shuffle(order)
            with open(partial, "wb") as out, byte_progress(len(text), f"writing {target}") as advance:
                for start, end in order:
                    out.write(text[start:end])
                    advance(end - start)
        os.replace(partial, target)
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            os.remove(partial)
    return len(order)
