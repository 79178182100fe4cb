"""Text to ids and back, for sampling from a model and for showing what it reads."""

from typing import Iterable, List

import torch
from fairseq.data import Dictionary

from fairseq_sharnn.data.corpora.byte_dictionary import BYTE_VALUES, FIRST_BYTE, ByteDictionary
from fairseq_sharnn.data.text.tokenizer import Tokenizer


class TextCodec:
    """Text, as bytes, to ids of a dictionary and back."""

    def __init__(self, dictionary: Dictionary):
        self.dictionary = dictionary

    def encode(self, text: bytes) -> torch.Tensor:
        """Ids [N] (int64) of a text whose last line is still open."""
        raise NotImplementedError

    def decode(self, ids: Iterable[int]) -> bytes:
        """The text of ids."""
        raise NotImplementedError

    def sampleable_ids(self) -> List[int]:
        """The ids that sampling may draw."""
        raise NotImplementedError

    def show(self, ids: torch.Tensor) -> str:
        """The text of ids [N], for people: without a </s> at the end, and with invalid UTF-8 as \\xNN."""
        numbers: List[int] = ids.tolist()
        if numbers and numbers[-1] == self.dictionary.eos():
            numbers.pop()
        return self.decode(numbers).decode("utf-8", "backslashreplace")


class ByteCodec(TextCodec):
    """Each byte is an id."""

    dictionary: ByteDictionary

    def encode(self, text: bytes) -> torch.Tensor:
        return self.dictionary.encode_bytes(text)

    def decode(self, ids: Iterable[int]) -> bytes:
        return self.dictionary.decode_bytes(ids)

    def sampleable_ids(self) -> List[int]:
        return list(range(FIRST_BYTE, FIRST_BYTE + BYTE_VALUES))

    def show(self, ids: torch.Tensor) -> str:
        return self.dictionary.string(ids)


class TokenCodec(TextCodec):
    """Words or word pieces of a tokenizer. </s> is a line end."""

    def __init__(self, dictionary: Dictionary, tokenizer: Tokenizer):
        super().__init__(dictionary)
        self.tokenizer = tokenizer

    def encode(self, text: bytes) -> torch.Tensor:
        return torch.tensor(self.tokenizer.encode_prompt(text), dtype=torch.int64)

    def decode(self, ids: Iterable[int]) -> bytes:
        return self.tokenizer.decode([int(i) for i in ids])

    def sampleable_ids(self) -> List[int]:
        """All but <s>, <pad> and <unk>."""
        never = {self.dictionary.bos(), self.dictionary.pad(), self.dictionary.unk()}
        return [i for i in range(len(self.dictionary)) if i not in never]
