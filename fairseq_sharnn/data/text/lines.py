"""Text files as lines of UTF-8, long ones in parts."""

import os
from typing import Callable, Iterator, NamedTuple

from fairseq_sharnn.errors import UsageError

LONGEST = 8192  # characters: text8 is one line of 100 MB


class Part(NamedTuple):
    """A line, or part of a long one.

    text: without the line end. first, last: whether it begins and ends the line. ended: whether "\\n" follows, which
    only the last line of a file may lack.
    """

    text: str
    first: bool
    last: bool
    ended: bool


def lines_of(path: str, advance: Callable[[int], None] = lambda count: None) -> Iterator[Part]:
    """The lines of a file, split at "\\n" only; `advance` receives the number of bytes read.

    Raises UsageError when the file cannot be read, is empty, or is not UTF-8.
    """
    place = 0
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise UsageError(f"{path} is empty: there is nothing to prepare")
            for raw in file:
                ended = raw.endswith(b"\n")
                try:
                    line = raw[: len(raw) - ended].decode("utf-8")
                except UnicodeDecodeError as error:
                    raise UsageError(
                        f"{path} is not UTF-8 at byte {place + error.start:,}: words and pieces need it; prepare it with "
                        "the bytes command, which takes anything, or convert it (iconv -t utf-8)"
                    ) from None
                place += len(raw)
                yield from parts_of(line, ended)
                advance(len(raw))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None


def parts_of(line: str, ended: bool) -> Iterator[Part]:
    """A line in parts of about LONGEST characters, each but the first beginning with the single space it is cut at."""
    start = 0
    while len(line) - start > LONGEST:
        cut = line.find(" ", start + LONGEST)
        while cut > 0 and (line[cut - 1].isspace() or line[cut + 1 : cut + 2].isspace()):
            cut = line.find(" ", cut + 1)
        if cut < 0 or cut == len(line) - 1:
            break
        yield Part(line[start:cut], start == 0, False, ended)
        start = cut
    yield Part(line[start:], start == 0, True, ended)


def short(parts: Iterator[Part]) -> Iterator[Part]:
    """The parts, each of those without a space to cut at in further ones of LONGEST characters.

    For tokens whose text does not depend on what is around them (pieces): a chromosome, or a novel without a space.
    """
    for part in parts:
        size = len(part.text)
        if size <= 2 * LONGEST:
            yield part
            continue
        for start in range(0, size, LONGEST):
            ends = start + LONGEST >= size
            yield Part(part.text[start : start + LONGEST], part.first and start == 0, part.last and ends, part.ended)
