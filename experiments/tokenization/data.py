"""Each tokenization of the text, prepared as users prepare theirs. Importing this imports fairseq."""

from contextlib import contextmanager
from typing import Callable, Iterator

from experiments.harness.records import read_record
from experiments.tokenization.folder import StudyFolder
from experiments.tokenization.plan import Plan
from experiments.tokenization.records import Manifest
from fairseq_sharnn.data.corpora.prepare import SPLITS
from fairseq_sharnn.data.text import prepare
from fairseq_sharnn.data.text.folder import MANIFEST


def read_manifest(folder: StudyFolder, tokenization: str) -> Manifest:
    """What the prepared data of a tokenization says of itself."""
    return read_record(Manifest, folder.data(tokenization) / MANIFEST)


@contextmanager
def no_bar(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """In place of a bar over bytes."""
    yield lambda count: None


def prepare_data(plan: Plan, folder: StudyFolder, tokenization: str) -> Manifest:
    """Prepare the data of a tokenization, unless it is there already."""
    out = folder.data(tokenization)
    if not (out / MANIFEST).exists():
        sources = {split: str(folder.raw(split)) for split in SPLITS}
        if tokenization == "bytes":
            prepare.prepare_bytes(str(out), sources, no_bar)
        elif tokenization == "words":
            prepare.prepare_words(
                str(out), sources, no_bar, size=plan.words, size_option="--words", min_count_option=None
            )
        else:
            size = int(tokenization.split("-")[1])
            prepare.prepare_pieces(str(out), sources, no_bar, size=size, size_option="--piece-sizes")
    return read_manifest(folder, tokenization)
