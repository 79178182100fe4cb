"""The output folder: files that are either old or new whenever the script is stopped, and whose folder it is."""

import fcntl
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, Dict, Optional

from fairseq_sharnn.data.corpus import split_path
from fairseq_sharnn.errors import UsageError

SPLITS = ("train", "valid", "test")


def write_text(path: Path, text: str) -> None:
    """Replace a file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> Optional[Any]:
    """What a file holds, None where there is none. Raises UsageError for one that is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        raise UsageError(f"{path} is damaged: delete it, or its folder, to make it again") from None


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


class Claim:
    """A comparison's folder, made or gone on in, and locked until `close`.

    Raises UsageError, having changed nothing, when it holds another configuration, something else, or a comparison at work.
    """

    def __init__(self, out: Path, configuration: Dict[str, Any]):
        if out.exists() and not out.is_dir():
            raise UsageError(f"--out {out} is a file: name a folder")
        path = out / "config.json"
        known = read_json(path) if out.exists() else None
        if known is None and out.exists() and any(not _own(item) for item in out.iterdir()):
            raise UsageError(f"--out {out} holds something else than a comparison: name a new folder")
        wanted = json.loads(json.dumps(configuration))
        if known is not None and known != wanted:
            raise UsageError(
                f"--out {out} belongs to another configuration ({_difference(known, wanted)}): name a new folder, or give "
                "the options it was made with"
            )
        self.out, self._new = out, known is None
        self._made = not out.exists()
        try:
            out.mkdir(parents=True, exist_ok=True)
            self._lock = open(out / ".lock", "w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._new:
                write_json(path, configuration)
        except BlockingIOError:
            raise UsageError(f"--out {out} is being worked in by another process: wait for it, or end it") from None
        except OSError as error:
            raise UsageError(f"cannot write --out {out}: {error.strerror}") from None

    def withdraw(self) -> None:
        """Leave nothing behind of a comparison that could not begin; one that was begun by an earlier call stays."""
        if self._new:
            for item in self.out.iterdir():
                shutil.rmtree(item) if item.is_dir() else item.unlink()
            if self._made:
                self.out.rmdir()

    def close(self) -> None:
        self._lock.close()


def _own(item: Path) -> bool:
    """What a claim that was killed may have left."""
    return item.name in (".lock", "config.json.tmp")  # the configuration is written first


def _difference(known: Any, wanted: Any, name: str = "") -> str:
    """The first value in which two configurations differ: `budget minutes: 6 there, 1 asked for`."""
    if isinstance(known, dict) and isinstance(wanted, dict):
        for key in [*known, *wanted]:
            if known.get(key) != wanted.get(key):
                return _difference(known.get(key), wanted.get(key), f"{name} {key}".strip())
    return f"{name}: {known} there, {wanted} asked for"
