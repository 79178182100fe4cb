"""The output folder: whose it is, and that it is used by one comparison at a time."""

import fcntl
import hashlib
from pathlib import Path
from typing import Any, Dict

from comparison.storage import read_json, write_json
from fairseq_sharnn.data.byte_corpus import split_path
from fairseq_sharnn.errors import UsageError

SPLITS = ("train", "valid", "test")


def describe_data(folder: str) -> Dict[str, Dict[str, Any]]:
    """Bytes and sha256 of the three splits. Raises UsageError when one is missing or empty."""
    found = {}
    for split in SPLITS:
        path = split_path(folder, split)
        digest, size = hashlib.sha256(), 0
        try:
            with open(path, "rb") as file:
                for block in iter(lambda: file.read(1 << 22), b""):
                    digest.update(block)
                    size += len(block)
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}") from None
        if size == 0:
            raise UsageError(f"{path} is empty: there is nothing to train on or to evaluate")
        found[split] = {"bytes": size, "sha256": digest.hexdigest()}
    return found


def claim(out: Path, configuration: Dict[str, Any]):
    """Make the folder, or go on in it. Returns an open lock: keep it until the end.

    Raises UsageError, having changed nothing, when it holds another configuration, something else, or a comparison at work.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file: name a folder")
    path = out / "config.json"
    known = read_json(path)
    if known is None and out.exists() and any(item.name != ".lock" for item in out.iterdir()):
        raise UsageError(f"--out {out} holds something else than a comparison: name a new folder")
    if known is not None and known != _plain(configuration):
        raise UsageError(
            f"--out {out} belongs to another configuration ({_difference(known, _plain(configuration))}): name a new "
            "folder, or give the options it was made with"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = open(out / ".lock", "w")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(f"--out {out} is being worked in by another process: wait for it, or end it") from None
    except OSError as error:
        raise UsageError(f"cannot write --out {out}: {error.strerror}") from None
    if known is None:
        write_json(path, configuration)
    return lock


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _difference(known: Any, wanted: Any, name: str = "") -> str:
    """The first value in which two configurations differ: `budget minutes: 6 there, 1 asked for`."""
    if isinstance(known, dict) and isinstance(wanted, dict):
        for key in [*known, *wanted]:
            if known.get(key) != wanted.get(key):
                return _difference(known.get(key), wanted.get(key), f"{name} {key}".strip())
    return f"{name}: {known} there, {wanted} asked for"
