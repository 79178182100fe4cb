"""What an id is: bytes, words, word pieces, or symbols between spaces; text to ids and back, without fairseq."""

import hashlib
import json
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from fairseq_sharnn.data.text.folder import MANIFEST, MODEL
from fairseq_sharnn.data.text.lines import Part, parts_of, short
from fairseq_sharnn.data.text.pieces import PieceModel, PieceTokenizer
from fairseq_sharnn.data.text.tokenizer import SpaceTokenizer
from fairseq_sharnn.data.text.vocabulary import SPECIAL, Vocabulary
from fairseq_sharnn.data.text.words import WordRule, WordTokenizer
from fairseq_sharnn.errors import UsageError

DICTIONARY = "dict.txt"
BYTE_VALUES = 256
FIRST_BYTE = len(SPECIAL)  # id of byte 0


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

    def encode(self, text: bytes, name: str = "the prompt") -> List[int]:
        """Ids of a text whose end is open. Raises UsageError if it is not the model's text. name: for messages."""
        raise NotImplementedError

    def encode_file(self, text: bytes, name: str) -> EncodedFile:
        """Ids of a whole text. Raises UsageError if it is not the model's text."""
        raise NotImplementedError

    def decode(self, ids: Iterable[int]) -> bytes:
        raise NotImplementedError

    def files(self) -> Dict[str, bytes]:
        """The files that an exported model needs next to its weights."""
        return {}


class ByteCodec(Codec):
    """Byte v has id 4 + v."""

    unit = "byte"
    vocab = FIRST_BYTE + BYTE_VALUES
    drawn = range(FIRST_BYTE, FIRST_BYTE + BYTE_VALUES)

    def encode(self, text: bytes, name: str = "the prompt") -> List[int]:
        return [value + FIRST_BYTE for value in text]

    def encode_file(self, text: bytes, name: str) -> EncodedFile:
        return EncodedFile(np.frombuffer(text, dtype=np.uint8).astype(np.int64) + FIRST_BYTE)

    def decode(self, ids: Iterable[int]) -> bytes:
        return bytes(i - FIRST_BYTE for i in ids if 0 <= i - FIRST_BYTE < BYTE_VALUES)


class TokenCodec(Codec):
    """Ids of a dict.txt, cut from text by a tokenizer. `</s>` stands for a line end."""

    def __init__(self, vocabulary: Vocabulary, tokenizer, files: Dict[str, bytes]):
        self.vocabulary, self.tokenizer = vocabulary, tokenizer
        self.vocab = len(vocabulary)
        self.drawn = [i for i in range(self.vocab) if i not in (vocabulary.bos(), vocabulary.pad(), vocabulary.unk())]
        self.fixed = isinstance(tokenizer, PieceTokenizer)
        self._files = files

    def encode(self, text: bytes, name: str = "the prompt") -> List[int]:
        _as_utf8(text, name)
        ids = self.tokenizer.encode_prompt(text)
        if ids and all(i == self.unk for i in ids):
            raise UsageError(f"{name} has no word that the model knows: give it words of the text it was trained on")
        return ids

    def encode_file(self, text: bytes, name: str) -> EncodedFile:
        lines = _as_utf8(text, name).split("\n")
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


def _as_utf8(text: bytes, name: str) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{name} is not UTF-8 at byte {error.start:,}: the model reads words or pieces of UTF-8 text"
        ) from None


def read_codec(folder: Path, kind: Optional[str] = None) -> Codec:
    """The codec of an exported model, or of a DATA folder (then `kind` is None: what the folder says).

    Raises UsageError if a file is missing or damaged, or a package that it needs.
    """
    if kind == "bytes":
        return ByteCodec()
    files = {DICTIONARY: _read(folder / DICTIONARY)}
    if (folder / MANIFEST).is_file():
        files[MANIFEST] = _read(folder / MANIFEST)
    about = _about(files, folder)
    if kind is None:
        kind = "spaces" if about is None else about["kind"]
    vocabulary = Vocabulary.from_text(_as_utf8(files[DICTIONARY], str(folder / DICTIONARY)), str(folder / DICTIONARY))
    if kind == "spaces":
        return TokenCodec(vocabulary, SpaceTokenizer(vocabulary), files)
    if about is None or about.get("kind") != kind:
        raise UsageError(f"{folder / MANIFEST} is missing or of another model: export the checkpoint again")
    if kind == "word":
        return TokenCodec(vocabulary, _words(about, vocabulary, folder), files)
    files[MODEL] = _read(folder / MODEL)
    if hashlib.sha256(files[MODEL]).hexdigest() != about.get("model_sha256"):
        raise UsageError(f"{folder / MODEL} is not the model that {MANIFEST} names: put it back, or export again")
    path = str(folder / MODEL)
    try:
        return TokenCodec(vocabulary, PieceTokenizer(PieceModel(files[MODEL], path), vocabulary, path), files)
    except ModuleNotFoundError:
        raise UsageError("a model of word pieces needs sentencepiece: pip install sentencepiece") from None


def _words(about: Dict, vocabulary: Vocabulary, folder: Path) -> WordTokenizer:
    try:
        rule = WordRule(**about["settings"])
    except (KeyError, TypeError):
        raise UsageError(f"{folder / MANIFEST} is damaged: export the checkpoint again") from None
    if rule.style == "moses":
        try:
            import sacremoses  # noqa: F401
        except ModuleNotFoundError:
            raise UsageError("a model of words cut by Moses needs sacremoses: pip install sacremoses") from None
    return WordTokenizer(rule, vocabulary)


def _about(files: Dict[str, bytes], folder: Path) -> Optional[Dict]:
    if MANIFEST not in files:
        return None
    try:
        about = json.loads(files[MANIFEST].decode("utf-8"))
        if about["kind"] not in ("word", "sentencepiece"):
            raise KeyError(about["kind"])
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{folder / MANIFEST} is damaged, or of a folder of raw bytes: name the model's own") from None
    # what an exported model needs of it: not the splits of the corpus
    kept = {key: about[key] for key in ("kind", "settings", "model_sha256") if key in about}
    files[MANIFEST] = (json.dumps(kept, indent=1, sort_keys=True) + "\n").encode("utf-8")
    return kept


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
