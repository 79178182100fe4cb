"""The text, and its splits."""

import lzma
from typing import List, Optional

from experiments.tokenization.folder import StudyFolder
from experiments.tokenization.plan import Plan
from fairseq_sharnn.data.corpora.prepare import SPLITS
from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.files import write_whole


def read_text(path: str, first_bytes: Optional[int]) -> bytes:
    """A text file, unpacked if its name ends in .xz. Raises UsageError unless it is UTF-8.

    first_bytes: read only so many bytes, and no part of a character.
    """
    try:
        with lzma.open(path) if path.endswith(".xz") else open(path, "rb") as file:
            text = file.read() if first_bytes is None else file.read(first_bytes + 1)
        if first_bytes is not None and len(text) > first_bytes:
            text = text[: character_start(text, first_bytes)]
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 at byte {error.start:,}: words and pieces need UTF-8") from None
    except (lzma.LZMAError, EOFError) as error:
        raise UsageError(f"{path} is damaged, or no xz file: {error}") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    return text


def character_start(text: bytes, place: int) -> int:
    """The place rounded down to the beginning of a character."""
    while place > 0 and text[place] & 0xC0 == 0x80:
        place -= 1
    return place


def find_cuts(text: bytes, plan: Plan) -> List[int]:
    """Where the splits of 90, 5 and 5 percent begin and end. Raises UsageError if one is too small for an update."""
    cuts = [0, *(character_start(text, len(text) * percent // 100) for percent in (90, 95)), len(text)]
    if min(stop - start for start, stop in zip(cuts, cuts[1:])) < plan.window * plan.lanes:
        raise UsageError(
            f"{plan.text} has {len(text):,} bytes, too few for its 5 percent to fill one update: take more text"
        )
    return cuts


def write_splits(text: bytes, plan: Plan, folder: StudyFolder) -> None:
    """Write the splits, unless they are there already."""
    if all(folder.raw(split).exists() for split in SPLITS):
        return
    cuts = find_cuts(text, plan)
    for split, start, stop in zip(SPLITS, cuts, cuts[1:]):
        folder.raw(split).parent.mkdir(parents=True, exist_ok=True)
        write_whole(folder.raw(split), text[start:stop])
