"""The vocabulary of bytes: fairseq's special symbols and the 256 byte values."""

from typing import Any, Iterable, Optional, Union

import numpy as np
import torch
from fairseq.data import Dictionary

from fairseq_sharnn.data.text.vocabulary import BYTE_VALUES, FIRST_BYTE


def _symbol(value: int) -> str:
    """Name of a byte in lists and logs: the character if it is visible ASCII, otherwise its number."""
    return chr(value) if 33 <= value <= 126 else f"<0x{value:02X}>"


class ByteDictionary(Dictionary):
    """Byte value v has id `offset` + v; ids below `offset` are fairseq's <s>, <pad>, </s> and <unk>."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = self.nspecial
        assert self.offset == FIRST_BYTE
        for value in range(BYTE_VALUES):
            self.add_symbol(_symbol(value))

    def encode_bytes(self, data: Union[bytes, np.ndarray]) -> torch.Tensor:
        """Ids [N] (int64) of N bytes."""
        values = np.frombuffer(data, dtype=np.uint8) if isinstance(data, (bytes, bytearray)) else data
        return torch.from_numpy(values.astype(np.int64) + self.offset)

    def decode_bytes(self, ids: Any) -> bytes:
        """The bytes among the ids. Special symbols are left out."""
        ids = torch.as_tensor(ids).flatten().tolist()
        return bytes(i - self.offset for i in ids if 0 <= i - self.offset < BYTE_VALUES)

    def encode_line(
        self,
        line: Union[str, bytes],
        line_tokenizer: Any = None,
        add_if_not_exist: bool = False,
        append_eos: bool = True,
        **unused: Any,
    ) -> torch.Tensor:
        """Ids (int32) of a text's UTF-8 bytes, for fairseq's hub interface. Nothing is split at spaces or added."""
        ids = self.encode_bytes(line if isinstance(line, bytes) else line.encode("utf-8", "surrogateescape")).int()
        return torch.cat([ids, ids.new_tensor([self.eos_index])]) if append_eos else ids

    def string(
        self,
        tensor: Any,
        bpe_symbol: Optional[str] = None,
        escape_unk: bool = False,
        extra_symbols_to_ignore: Optional[Iterable[int]] = None,
        unk_string: Optional[str] = None,
        include_eos: bool = False,
        separator: str = "",
    ) -> str:
        """Text of ids [T] or [B, T] (one line each): UTF-8, with invalid bytes shown as \\xNN. Never raises on ids.

        <s> is left out, and </s> unless `include_eos` is set. <pad>, <unk> and ids that do not exist are shown.
        """
        tensor = torch.as_tensor(tensor)
        if tensor.dim() == 2:
            options = (bpe_symbol, escape_unk, extra_symbols_to_ignore, unk_string, include_eos, separator)
            return "\n".join(self.string(row, *options) for row in tensor)
        hidden = {self.bos_index, *(extra_symbols_to_ignore or ())}
        if not include_eos:
            hidden.add(self.eos_index)
        unknown = self.unk_string(escape_unk) if unk_string is None else unk_string
        pieces = []
        for i in tensor.flatten().tolist():
            if i in hidden:
                continue
            if 0 <= i - self.offset < BYTE_VALUES:
                pieces.append(bytes([int(i) - self.offset]))
            elif i in (self.pad_index, self.eos_index):
                pieces.append(self[int(i)].encode())
            else:
                pieces.append(unknown.encode())
        return separator.encode().join(pieces).decode("utf-8", "backslashreplace")
