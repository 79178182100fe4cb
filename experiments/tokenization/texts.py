"""The text in its splits, and each tokenization of it."""

import lzma
import os
from contextlib import contextmanager
from typing import Dict, List, Optional

from experiments.tokenization.plan import Folder, Plan, read_json
from fairseq_sharnn.data.text import prepare
from fairseq_sharnn.data.text.folder import ABOUT
from fairseq_sharnn.errors import UsageError

SPLITS = prepare.SPLITS


@contextmanager
def no_bar(total: int, what: str):
    yield lambda count: None


def read_text(path: str, first_bytes: Optional[int]) -> bytes:
    """A text file, or one packed by xz; of its first bytes, whole characters. Raises UsageError unless it is UTF-8."""
    try:
        with lzma.open(path) if path.endswith(".xz") else open(path, "rb") as file:
            text = file.read() if first_bytes is None else file.read(first_bytes + 1)
        if first_bytes is not None and len(text) > first_bytes:
            text = text[: character_start(text, first_bytes)]
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 at byte {error.start:,}: words and pieces need it") from None
    except (lzma.LZMAError, EOFError) as error:
        raise UsageError(f"{path} is damaged, or no file of xz: {error}") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    return text


def character_start(text: bytes, place: int) -> int:
    """The place rounded down to a character's beginning."""
    while place > 0 and text[place] & 0xC0 == 0x80:
        place -= 1
    return place


def cuts_of(text: bytes, plan: Plan) -> List[int]:
    """Where the splits of 90 / 5 / 5 percent begin and end. Raises UsageError when one is too small for an update."""
    cuts = [0, *(character_start(text, len(text) * percent // 100) for percent in (90, 95)), len(text)]
    if min(stop - start for start, stop in zip(cuts, cuts[1:])) < plan.window * plan.lanes:
        raise UsageError(
            f"{plan.text} has {len(text):,} bytes, too few for its 5 percent to fill one update: take more text"
        )
    return cuts


def cut_text(text: bytes, plan: Plan, folder: Folder) -> None:
    """Write the splits, where they are not there yet."""
    if all(os.path.exists(folder.raw(split)) for split in SPLITS):
        return
    cuts = cuts_of(text, plan)
    os.makedirs(os.path.dirname(folder.raw("train")), exist_ok=True)
    for split, start, stop in zip(SPLITS, cuts, cuts[1:]):
        with open(f"{folder.raw(split)}.tmp", "wb") as file:
            file.write(text[start:stop])
        os.replace(f"{folder.raw(split)}.tmp", folder.raw(split))


def tokenize(plan: Plan, folder: Folder, tokenization: str) -> Dict:
    """Prepare a tokenization, if it is not there; what its tokenizer.json says."""
    out = folder.data(tokenization)
    about = os.path.join(out, ABOUT)
    if not os.path.exists(about):
        sources = {split: folder.raw(split) for split in SPLITS}
        if tokenization == "bytes":
            prepare.prepare_bytes(out, sources, no_bar)
        elif tokenization == "words":
            prepare.prepare_words(out, sources, no_bar, size=plan.words)
        else:
            prepare.prepare_pieces(out, sources, no_bar, size=int(tokenization.split("-")[1]))
    return read_json(about)


def window_of(plan: Plan, about: Dict) -> int:
    """Tokens that cover `plan.window` bytes of the training text."""
    train = about["splits"]["train"]
    return max(4, round(plan.window * train["tokens"] / train["bytes"]))


def updates_of(plan: Plan, about: Dict) -> int:
    """Updates of `plan.passes` passes over the training text: about the same number for every tokenization."""
    return max(2, int(plan.passes * about["splits"]["train"]["tokens"] / (window_of(plan, about) * plan.lanes)))
