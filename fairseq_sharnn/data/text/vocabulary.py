"""The symbols of a dict.txt without fairseq, numbered as fairseq's Dictionary numbers them."""

import hashlib
from typing import Dict, List, Protocol

from fairseq_sharnn.errors import UsageError

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
FIRST_BYTE = len(SPECIAL)  # id of byte 0 where ids are bytes
BYTE_VALUES = 256


class Symbols(Protocol):
    """What tokenizers need of a vocabulary: fairseq's Dictionary, or `Vocabulary`."""

    nspecial: int

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> str: ...

    def index(self, symbol: str) -> int: ...

    def bos(self) -> int: ...

    def pad(self) -> int: ...

    def eos(self) -> int: ...

    def unk(self) -> int: ...


class Vocabulary:
    """Symbols in the order of their ids: fairseq's four special ones, then those of dict.txt."""

    nspecial = len(SPECIAL)

    def __init__(self, symbols: List[str]):
        """symbols: without the special ones."""
        self.symbols = [*SPECIAL, *symbols]
        self._ids: Dict[str, int] = {symbol: number for number, symbol in enumerate(self.symbols)}

    @classmethod
    def from_text(cls, text: str, path: str) -> "Vocabulary":
        """The vocabulary of the text of a dict.txt: a symbol and its count on each line.

        path: for messages. Raises UsageError if the text is no dictionary.
        """
        symbols: List[str] = []
        seen = set(SPECIAL)
        lines = text.split("\n")
        for number, line in enumerate(lines[:-1] if lines[-1] == "" else lines, start=1):
            symbol, _, count = line.rstrip().rpartition(" ")
            if not symbol or not count.lstrip("-").isdigit():
                raise UsageError(f"{path} is damaged in line {number}: it must hold a symbol and its count")
            if symbol in seen:
                raise UsageError(f"{path} is damaged in line {number}: {symbol} is there twice")
            seen.add(symbol)
            symbols.append(symbol)
        return cls(symbols)

    @classmethod
    def load(cls, path: str) -> "Vocabulary":
        """The vocabulary of a dict.txt. Raises UsageError if it cannot be read."""
        try:
            with open(path, encoding="utf-8", newline="\n") as file:
                return cls.from_text(file.read(), path)
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None

    def __len__(self) -> int:
        return len(self.symbols)

    def __getitem__(self, index: int) -> str:
        return self.symbols[index] if index < len(self.symbols) else self.symbols[self.unk()]

    def index(self, symbol: str) -> int:
        """Id of a symbol, that of <unk> for an unknown one."""
        return self._ids.get(symbol, self.unk())

    def bos(self) -> int:
        return 0

    def pad(self) -> int:
        return 1

    def eos(self) -> int:
        return 2

    def unk(self) -> int:
        return 3


def digest_of(vocabulary: Symbols) -> str:
    """Digest of the symbols in their order, as checkpoints of `streaming_lm` keep it."""
    symbols = "\n".join(vocabulary[index] for index in range(len(vocabulary)))
    return hashlib.sha256(symbols.encode("utf-8", "surrogateescape")).hexdigest()[:32]
