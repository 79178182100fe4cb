"""Text as sentencepiece's pieces, exactly: every piece stands for fixed bytes, whatever is around it.

Line ends are `</s>`; sentencepiece sees lines. Its models take text as it is (identity normalisation, no added or
removed space) and spell in bytes what they have no piece for. How a model is trained: learn.py.
"""

from typing import TYPE_CHECKING, Dict, Iterable, Iterator, List, Optional

from fairseq_sharnn.data.text.symbols import name_of, text_of
from fairseq_sharnn.data.text.tokenizer import Tokenizer
from fairseq_sharnn.data.text.vocabulary import Symbols
from fairseq_sharnn.errors import UsageError

if TYPE_CHECKING:
    from fairseq.data import Dictionary

SPACE_SIGN = "\u2581"  # what sentencepiece writes for a space
PROBES = (" a  \u00c5 \ufb01 e\u0301 ", "A b")  # a model that gives these back changes no text


class PieceModel:
    """A sentencepiece model whose pieces stand for bytes: piece number i for `spelling[i]`.

    Raises UsageError when the bytes are no model of sentencepiece, or of one that loses text.
    """

    def __init__(self, proto: bytes, path: str):
        import sentencepiece

        try:
            self.processor = sentencepiece.SentencePieceProcessor(model_proto=proto)
        except RuntimeError:
            raise UsageError(f"{path} is not a model of sentencepiece") from None
        self.proto = proto
        count = self.processor.get_piece_size()
        self.byte_pieces = {}
        self.spelling: List[bytes] = []
        for number in range(count):
            piece = self.processor.id_to_piece(number)
            if self.processor.is_byte(number):
                self.byte_pieces[int(piece[3:5], 16)] = number
                self.spelling.append(bytes([int(piece[3:5], 16)]))
            elif self.processor.is_control(number) or self.processor.is_unknown(number):
                self.spelling.append(b"")
            else:
                self.spelling.append(piece.replace(SPACE_SIGN, " ").encode())
        if len(self.byte_pieces) < 256 or any(self.exactly(probe) is None for probe in PROBES):
            raise UsageError(
                f"{path} loses text (it was trained without --byte_fallback, or normalises, or adds a space): let "
                "scripts/prepare_text.py train one"
            )

    def segment(self, line: str) -> List[int]:
        """Piece numbers of a line; U+2581, which sentencepiece cannot tell from a space, in bytes."""
        numbers: List[int] = []
        for index, part in enumerate(line.split(SPACE_SIGN)):
            if index > 0:
                numbers += self.in_bytes(SPACE_SIGN)
            if part:
                exactly = self.exactly(part)
                numbers += self.in_bytes(part) if exactly is None else exactly
        return numbers

    def exactly(self, text: str) -> Optional[List[int]]:
        """sentencepiece's own numbers for a text without U+2581; None where they do not stand for its very bytes."""
        numbers = self.spaces_as_bytes(self.processor.encode(text))
        return numbers if self.spelled(numbers) == text.encode() else None

    def spaces_as_bytes(self, numbers: List[int]) -> List[int]:
        """The numbers with the byte 0x20 for each space that sentencepiece spells as the three bytes of U+2581.

        It does so where the space is no piece: in a model of text without spaces, or with very few.
        """
        sign = self.in_bytes(SPACE_SIGN)
        if sign[0] not in numbers:
            return numbers
        kept: List[int] = []
        for number in numbers:
            kept.append(number)
            if kept[-3:] == sign:
                kept[-3:] = self.in_bytes(" ")
        return kept

    def in_bytes(self, text: str) -> List[int]:
        return [self.byte_pieces[value] for value in text.encode()]

    def spelled(self, numbers: Iterable[int]) -> bytes:
        return b"".join(self.spelling[number] for number in numbers)


class PieceTokenizer(Tokenizer):
    """Pieces of a sentencepiece model, numbered by a fairseq dictionary."""

    kind = "sentencepiece"

    def __init__(self, model: PieceModel, dictionary: Symbols, path: str):
        self.model = model
        self.dictionary = dictionary
        count = model.processor.get_piece_size()
        self.piece_of: Dict[int, int] = {}
        self.id_of: Dict[int, int] = {}
        for index in range(dictionary.nspecial, len(dictionary)):
            piece = text_of(dictionary[index])
            number = model.processor.piece_to_id(piece)
            if model.processor.id_to_piece(number) != piece or number in self.id_of:
                raise UsageError(f"{path} and dict.txt are of different vocabularies: prepare the text again")
            self.piece_of[index], self.id_of[number] = number, index
        if len(self.id_of) != count - 1:
            raise UsageError(f"{path} and dict.txt are of different vocabularies: prepare the text again")

    def settings(self) -> Dict:
        return {}

    def encode_line(self, line: str) -> List[int]:
        """Ids of a line, without its end."""
        return [self.id_of[number] for number in self.model.segment(line)]

    def encode_prompt(self, text: bytes) -> List[int]:
        ids: List[int] = []
        for number, line in enumerate(text.decode("utf-8", "backslashreplace").split("\n")):
            if number > 0:
                ids.append(self.dictionary.eos())
            ids += self.encode_line(line)
        return ids

    def spell(
        self, ids: Iterable[int], unknown: Optional[Iterator[str]] = None, continues: bool = False
    ) -> List[bytes]:
        """The bytes that each id stands for."""
        return [self.spelling_of(index) for index in ids]

    def spelling_of(self, index: int) -> bytes:
        if index == self.dictionary.eos():
            return b"\n"
        return self.model.spelling[self.piece_of[index]] if index in self.piece_of else self.dictionary[index].encode()

    def decode(self, ids: Iterable[int]) -> bytes:
        return b"".join(self.spell(ids))


def dictionary_of(model: PieceModel, counts: Dict[int, int]) -> "Dictionary":
    """fairseq's dictionary of the pieces, most frequent first, as an adaptive softmax needs them."""
    from fairseq.data import Dictionary

    dictionary = Dictionary()
    numbers = (n for n in range(model.processor.get_piece_size()) if not model.processor.is_unknown(n))
    for number in sorted(numbers, key=lambda n: (-counts.get(n, 0), n)):
        dictionary.add_symbol(name_of(model.processor.id_to_piece(number)), n=counts.get(number, 0))
    return dictionary
