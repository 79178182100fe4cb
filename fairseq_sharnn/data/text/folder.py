"""What a prepared DATA folder says of itself (`tokenizer.json`), and the tokenizer it was made with."""

import hashlib
import json
import os
from typing import Dict, Optional, Union

from fairseq_sharnn.data.text.pieces import PieceModel, PieceTokenizer
from fairseq_sharnn.data.text.vocabulary import Symbols
from fairseq_sharnn.data.text.words import WordRule, WordTokenizer
from fairseq_sharnn.errors import UsageError

MANIFEST = "tokenizer.json"
MODEL = "sentencepiece.model"


def read_manifest(folder: str) -> Optional[Dict]:
    """The contents of tokenizer.json; None where there is none. Raises UsageError when it is damaged."""
    path = os.path.join(folder, MANIFEST)
    if not os.path.isfile(path):
        return None
    try:
        with open(path, encoding="utf-8") as file:
            manifest = json.load(file)
        if manifest["kind"] not in ("bytes", "word", "sentencepiece"):
            raise KeyError(manifest["kind"])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UsageError(f"{path} is damaged ({error!r}): prepare the text again") from None
    return manifest


def write_manifest(folder: str, manifest: Dict) -> None:
    with open(os.path.join(folder, MANIFEST), "w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1, sort_keys=True)
        file.write("\n")


def load_tokenizer(folder: str, dictionary: Symbols) -> Optional[Union[WordTokenizer, PieceTokenizer]]:
    """The tokenizer of a prepared folder; None where another tool prepared it.

    Raises UsageError when the model file is not the one that the folder was prepared with.
    """
    manifest = read_manifest(folder)
    if manifest is None or manifest["kind"] == "bytes":
        return None
    if manifest["kind"] == "word":
        return WordTokenizer(WordRule(**manifest["settings"]), dictionary)
    path = os.path.join(folder, MODEL)
    try:
        with open(path, "rb") as file:
            proto = file.read()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    if hashlib.sha256(proto).hexdigest() != manifest["model_sha256"]:
        raise UsageError(
            f"{path} is not the model that {folder} was prepared with: put it back, or prepare the text again"
        )
    return PieceTokenizer(PieceModel(proto, path), dictionary, path)
