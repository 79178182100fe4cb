"""The text in its splits, and each tokenization of it."""

import os
from contextlib import contextmanager
from typing import Dict

from fairseq_sharnn.data.text import prepare
from fairseq_sharnn.data.text.folder import ABOUT
from fairseq_sharnn.errors import UsageError
from study.plan import Folder, Plan, read_json

SPLITS = prepare.SPLITS


@contextmanager
def no_bar(total: int, what: str):
    yield lambda count: None


def cut_text(path: str, plan: Plan, folder: Folder) -> None:
    """90 / 5 / 5 percent of the text, each cut rounded down to a character's beginning."""
    if all(os.path.exists(folder.raw(split)) for split in SPLITS):
        return
    with open(path, "rb") as file:
        text = file.read()
    cuts = [0, len(text) * 90 // 100, len(text) * 95 // 100, len(text)]
    for number in (1, 2):
        while cuts[number] > 0 and text[cuts[number]] & 0xC0 == 0x80:
            cuts[number] -= 1
    if min(stop - start for start, stop in zip(cuts, cuts[1:])) < plan.window * plan.lanes:
        raise UsageError(
            f"{path} has {len(text):,} bytes, too few for its 5 percent to fill one update: take more text"
        )
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
