"""Text as sentencepiece's pieces, exactly: every piece stands for fixed bytes, whatever is around it.

Line ends are `</s>`; sentencepiece sees lines. Its models take text as it is (identity normalisation, no added or
removed space) and spell in bytes what they have no piece for.
"""

import io
import re
from typing import TYPE_CHECKING, Callable, Dict, Iterable, Iterator, List, Optional, Tuple

from fairseq_sharnn.data.text.symbols import name_of, text_of
from fairseq_sharnn.data.text.tokenizer import Tokenizer
from fairseq_sharnn.data.text.vocabulary import Symbols
from fairseq_sharnn.errors import UsageError

if TYPE_CHECKING:
    from fairseq.data import Dictionary

SPACE_SIGN = "\u2581"  # what sentencepiece writes for a space
# Lines that hold these sentencepiece leaves out of training (U+2581 it would take for a space).
_NOT_LEARNT = re.compile("[\t\0\u2581\u2585]")
COVERAGES = (0.9999, 0.9995, 0.999, 0.995, 0.99)  # share of the text whose characters are pieces of their own
_TOO_MANY = re.compile(r"Vocabulary size too high \(\d+\)\. Please set it to a value <= (\d+)")
_TOO_FEW = re.compile(r"Vocabulary size is smaller than required_chars\. \d+ vs (\d+)")


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
        if len(self.byte_pieces) < 256 or any(
            not exact(self, probe) for probe in (" a  \u00c5 \ufb01 e\u0301 ", "A b")
        ):
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
                found = self.processor.encode(part)
                numbers += found if self.spelled(found) == part.encode() else self.in_bytes(part)
        return numbers

    def in_bytes(self, text: str) -> List[int]:
        return [self.byte_pieces[value] for value in text.encode()]

    def spelled(self, numbers: Iterable[int]) -> bytes:
        return b"".join(self.spelling[number] for number in numbers)


def exact(model: PieceModel, text: str) -> bool:
    """Whether sentencepiece itself keeps a text as it is."""
    return model.spelled(model.processor.encode(text)) == text.encode()


def train_pieces(lines: Callable[[], Iterator[str]], kind: str, size: int, most_lines: int = 1_000_000) -> bytes:
    """As `learn_pieces`: the model alone."""
    return learn_pieces(lines, kind, size, most_lines)[0]


def learn_pieces(
    lines: Callable[[], Iterator[str]], kind: str, size: int, most_lines: int = 1_000_000
) -> Tuple[bytes, float]:
    """Train a sentencepiece model on lines: its bytes, the same for the same text, and its character coverage.

    kind: `unigram` or `bpe`. size: pieces in all, 256 of them single bytes, one sentencepiece's unused <unk>. Of more
    than `most_lines`, as many are drawn. Rare characters are left to their bytes where there are more than `size` allows.
    Raises UsageError when the text does not allow that many pieces.
    """
    for coverage in COVERAGES:
        try:
            return _train(lines(), kind, size, most_lines, coverage), coverage
        except RuntimeError as error:
            many, few = _TOO_MANY.search(str(error)), _TOO_FEW.search(str(error))
            if many:
                raise UsageError(
                    f"--vocab-size {size} is larger than the training text allows: choose at most {many[1]}"
                ) from None
            if few and coverage != COVERAGES[-1]:
                continue
            if few:
                raise UsageError(
                    f"--vocab-size {size} is too small for this text's characters: choose at least {few[1]}"
                ) from None
            reason = str(error).strip().splitlines()[-1][-200:]
            raise UsageError(f"sentencepiece cannot learn {size} pieces from this text: {reason}") from None
    raise AssertionError("the last coverage returns or raises")


def _train(lines: Iterator[str], kind: str, size: int, most_lines: int, coverage: float) -> bytes:
    import sentencepiece

    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(part for line in lines for part in _NOT_LEARNT.split(line) if part),
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
    return out.getvalue()


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
