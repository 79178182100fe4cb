"""Training a sentencepiece model on any text: prose, text without spaces, one long line, or only line ends."""

import io
import re
from collections import Counter
from typing import Callable, Iterator, Optional, Set, Tuple

from fairseq_sharnn.errors import UsageError

DEFAULT_SIZE = 8000
SMALLEST = 258  # 256 single bytes, sentencepiece's <unk>, and one character
# Characters that are no pieces: sentencepiece leaves them out, or their lines (U+2581 it would take for a space).
_NO_PIECES = "\t\0\x1f\u2581\u2585"
_NOT_LEARNT = re.compile(f"[{_NO_PIECES}]")
_LONGEST = 16384  # characters: sentencepiece leaves a line of a megabyte out
COVERAGES = (0.9999, 0.9995, 0.999, 0.995, 0.99)  # share of the text whose characters are pieces themselves
_TOO_MANY = re.compile(r"Vocabulary size too high \(\d+\)\. Please set it to a value <= (\d+)")
_TOO_FEW = re.compile(r"Vocabulary size is smaller than required_chars\. \d+ vs (\d+)")

Lines = Callable[[], Iterator[str]]


class _TooMany(Exception):
    """The text does not allow as many pieces as were asked for, but `most`."""

    def __init__(self, most: int):
        super().__init__(most)
        self.most = most


class _TooFew(Exception):
    """The text has more characters than there may be pieces."""


def train_pieces(lines: Lines, kind: str, size: Optional[int], most_lines: int = 1_000_000) -> bytes:
    """As `learn_pieces`: the model without its coverage."""
    return learn_pieces(lines, kind, size, most_lines)[0]


def learn_pieces(
    lines: Lines, kind: str, size: Optional[int], most_lines: int = 1_000_000, size_option: str = "--vocab-size"
) -> Tuple[bytes, float]:
    """Train a sentencepiece model on lines: its bytes, the same for the same text, and its character coverage.

    kind: `unigram` or `bpe`. size: all pieces, 256 of them single bytes, one sentencepiece's unused <unk>; None: 8,000,
    or as many as the text allows. Of more than `most_lines`, as many are drawn. Rare characters are left to their bytes
    where there are more than `size` allows. size_option: what the calling program calls `size`, for messages. Raises
    UsageError when the text does not allow `size` pieces.
    """
    if size is not None and size < SMALLEST:
        raise UsageError(
            f"{size_option} {size} is too small for this text's characters: choose at least {SMALLEST} (256 single bytes, "
            "sentencepiece's <unk>, and one character)"
        )
    try:
        return _fitted(lines, kind, size or DEFAULT_SIZE, most_lines)
    except _TooMany as error:
        if size is not None:
            raise UsageError(
                f"{size_option} {size} is larger than the training text allows: choose at most {error.most}"
            ) from None
        return _fitted(lines, kind, error.most, most_lines)


def _fitted(lines: Lines, kind: str, size: int, most_lines: int) -> Tuple[bytes, float]:
    """Train with as many characters as `size` allows. Raises _TooMany, and UsageError for what has no remedy."""
    for coverage in COVERAGES:
        try:
            return _train(_sentences(lines()), kind, size, most_lines, coverage), coverage
        except _TooFew:
            continue
    counts: Counter = Counter()
    for line in lines():
        counts.update(line)
    for sign in _NO_PIECES + "\r":
        counts.pop(sign, None)
    total, room = sum(counts.values()), size - SMALLEST + 1
    ordered = sorted(counts, key=lambda character: (-counts[character], character))
    for number in (max(1, room // 2), room):  # half of the room is for longer pieces, where there are any
        kept = set(ordered[:number])
        share = sum(counts[character] for character in kept) / total
        try:
            return _train(_of_characters(_sentences(lines()), kept), kind, size, most_lines, 1.0), share
        except _TooMany:
            if number == room:
                raise
    raise AssertionError("the last number of characters returns or raises")


def _sentences(lines: Iterator[str]) -> Iterator[str]:
    """What sentencepiece may learn from: at least one space, where a text has nothing else."""
    empty = True
    for line in lines:
        for part in _NOT_LEARNT.split(line):
            if not part.strip("\r"):  # sentencepiece takes carriage returns at an end for part of the line's end
                continue
            for start in range(0, len(part), _LONGEST):
                empty = False
                yield part[start : start + _LONGEST]
    if empty:
        yield " "


def _of_characters(sentences: Iterator[str], kept: Set[str]) -> Iterator[str]:
    """The parts of sentences that have only the given characters."""
    for sentence in sentences:
        start = 0
        for place, character in enumerate(sentence):
            if character not in kept:
                if place > start:
                    yield sentence[start:place]
                start = place + 1
        if start < len(sentence):
            yield sentence[start:]


def _train(sentences: Iterator[str], kind: str, size: int, most_lines: int, coverage: float) -> bytes:
    """One call of sentencepiece's trainer. Raises _TooMany, _TooFew, or UsageError for what has no remedy."""
    import sentencepiece

    out = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=sentences,
            model_writer=out,
            model_type=kind,
            vocab_size=size,
            byte_fallback=True,
            character_coverage=coverage,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            max_sentence_length=1 << 20,
            input_sentence_size=most_lines,
            shuffle_input_sentence=True,
            num_threads=2,
            minloglevel=2,
        )
    except RuntimeError as error:
        many = _TOO_MANY.search(str(error))
        if many:
            raise _TooMany(int(many[1])) from None
        if _TOO_FEW.search(str(error)):
            raise _TooFew() from None
        reason = str(error).strip().splitlines()[-1][-200:]
        raise UsageError(f"sentencepiece cannot learn {size} pieces from this text: {reason}") from None
    return out.getvalue()
