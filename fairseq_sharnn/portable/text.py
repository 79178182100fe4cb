"""The codec of an exported model, or of a DATA folder, from its files."""

import hashlib
import json
from pathlib import Path
from typing import Dict, Optional

from fairseq_sharnn.data.codecs import ByteCodec, Codec, TokenCodec, as_utf8
from fairseq_sharnn.data.text.folder import MANIFEST, MODEL
from fairseq_sharnn.data.text.pieces import PieceModel, PieceTokenizer
from fairseq_sharnn.data.text.tokenizer import SpaceTokenizer
from fairseq_sharnn.data.text.vocabulary import Vocabulary
from fairseq_sharnn.data.text.words import WordRule, WordTokenizer
from fairseq_sharnn.errors import UsageError

DICTIONARY = "dict.txt"


def read_codec(folder: Path, kind: str) -> Codec:
    """The codec of an exported model. Raises UsageError if a file is missing or damaged, or a package that it needs."""
    return ByteCodec() if kind == "bytes" else read_tokens(folder, kind)


def read_tokens(folder: Path, kind: Optional[str] = None) -> TokenCodec:
    """The codec of an exported model of words or pieces, or of a DATA folder (then `kind` is None: what the folder says).

    Raises UsageError if a file is missing or damaged, or a package that it needs.
    """
    files = {DICTIONARY: _read(folder / DICTIONARY)}
    if (folder / MANIFEST).is_file():
        files[MANIFEST] = _read(folder / MANIFEST)
    about = _about(files, folder)
    if kind is None:
        kind = "spaces" if about is None else about["kind"]
    vocabulary = Vocabulary.from_text(as_utf8(files[DICTIONARY], str(folder / DICTIONARY)), str(folder / DICTIONARY))
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
