"""What an id is: bytes, words, word pieces, or symbols between spaces; text to ids and back, without fairseq."""

from typing import Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from fairseq_sharnn.data.text.lines import Part, parts_of, short
from fairseq_sharnn.data.text.pieces import PieceTokenizer
from fairseq_sharnn.data.text.tokenizer import Tokenizer
from fairseq_sharnn.data.text.vocabulary import BYTE_VALUES, FIRST_BYTE, Symbols
from fairseq_sharnn.errors import UsageError


class EncodedFile:
    """The ids [N] (int64) of a text, and the names of what is <unk> in it, in their order."""

    def __init__(self, ids: np.ndarray, unknown: Sequence[str] = ()):
        self.ids = ids
        self.unknown = list(unknown)


class Codec:
    """Text, as bytes, to ids and back. start: the id before a text. pad: an id that stands for nothing.

    drawn: the ids that sampling draws from. unit: what one id is, for messages. Each id is shown at once when it is drawn
    if `fixed`; else what it stands for depends on the ids after it.
    """

    start, pad, unk = 2, 1, 3
    unit = "token"
    fixed = True
    drawn: Sequence[int]
    vocab: int

    def encode(self, text: bytes, name: str = "the text") -> List[int]:
        """Ids of a text whose last line is still open. Raises UsageError if it is not the model's text.

        name: for messages.
        """
        raise NotImplementedError

    def encode_file(self, text: bytes, name: str) -> EncodedFile:
        """Ids of a whole text. Raises UsageError if it is not the model's text."""
        raise NotImplementedError

    def decode(self, ids: Iterable[int]) -> bytes:
        """The text of ids."""
        raise NotImplementedError

    def encode_prompt(self, text: bytes) -> List[int]:
        """Ids of a text to continue. Raises UsageError if it is not the model's text, or if all of it is unknown."""
        ids = self.encode(text, "the prompt")
        if ids and all(i == self.unk for i in ids):
            raise UsageError("the prompt has no word that the model knows: give it words of the text it was trained on")
        return ids

    def show(self, ids: Iterable[int]) -> str:
        """The text of ids, for people: without a </s> at the end, and with invalid UTF-8 as \\xNN."""
        numbers = [int(i) for i in ids]
        if numbers and numbers[-1] == self.start:
            numbers.pop()
        return self.decode(numbers).decode("utf-8", "backslashreplace")

    def files(self) -> Dict[str, bytes]:
        """The files that an exported model needs next to its weights."""
        return {}


class ByteCodec(Codec):
    """Byte v has id 4 + v. Ids of fairseq's special symbols stand for nothing."""

    unit = "byte"
    vocab = FIRST_BYTE + BYTE_VALUES
    drawn = range(FIRST_BYTE, FIRST_BYTE + BYTE_VALUES)

    def encode(self, text: bytes, name: str = "the text") -> List[int]:
        return [value + FIRST_BYTE for value in text]

    def encode_file(self, text: bytes, name: str) -> EncodedFile:
        return EncodedFile(np.frombuffer(text, dtype=np.uint8).astype(np.int64) + FIRST_BYTE)

    def decode(self, ids: Iterable[int]) -> bytes:
        return bytes(i - FIRST_BYTE for i in ids if 0 <= i - FIRST_BYTE < BYTE_VALUES)


class TokenCodec(Codec):
    """Ids of a dict.txt, cut from text by a tokenizer. `</s>` stands for a line end."""

    def __init__(self, vocabulary: Symbols, tokenizer: Tokenizer, files: Optional[Dict[str, bytes]] = None):
        self.vocabulary, self.tokenizer = vocabulary, tokenizer
        self.vocab = len(vocabulary)
        self.drawn = [i for i in range(self.vocab) if i not in (vocabulary.bos(), vocabulary.pad(), vocabulary.unk())]
        self.fixed = isinstance(tokenizer, PieceTokenizer)
        self._files = files or {}

    def encode(self, text: bytes, name: str = "the text") -> List[int]:
        as_utf8(text, name)
        return self.tokenizer.encode_prompt(text)

    def encode_file(self, text: bytes, name: str) -> EncodedFile:
        lines = as_utf8(text, name).split("\n")
        ids: List[int] = []
        unknown: List[str] = []
        for number, line in enumerate(lines):
            ended = number < len(lines) - 1
            for part in self._parts(line, ended) if line or ended else ():
                found, names = self._line(part)
                ids += found
                unknown += names
            if ended:
                ids.append(self.start)
        return EncodedFile(np.asarray(ids, dtype=np.int64), unknown)

    def _parts(self, line: str, ended: bool) -> Iterator[Part]:
        """A line as scripts/prepare_text.py cuts it."""
        parts = parts_of(line, ended)
        return short(parts) if isinstance(self.tokenizer, PieceTokenizer) else parts

    def _line(self, part: Part) -> Tuple[List[int], List[str]]:
        """Ids of a line, and the names of its unknown words."""
        if isinstance(self.tokenizer, PieceTokenizer):
            return self.tokenizer.encode_line(part.text), []
        rule = getattr(self.tokenizer, "rule", None)
        names = part.text.split() if rule is None else list(rule.names(part))
        ids = [self.vocabulary.index(name) for name in names]
        return ids, [name for name, index in zip(names, ids) if index == self.unk]

    def decode(self, ids: Iterable[int]) -> bytes:
        return self.tokenizer.decode([int(i) for i in ids])

    def files(self) -> Dict[str, bytes]:
        return dict(self._files)


def as_utf8(text: bytes, name: str) -> str:
    """A text as a string. Raises UsageError if it is not UTF-8. name: for the message."""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{name} is not UTF-8 at byte {error.start:,}: the model reads words or pieces of UTF-8 text"
        ) from None
