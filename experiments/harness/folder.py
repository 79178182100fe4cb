"""The output folder of an experiment: which configuration it belongs to, and files in it that are whole at any moment."""

import fcntl
import json
import shutil
from pathlib import Path
from typing import Any, Dict, Optional

from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.files import write_whole


def write_text(path: Path, text: str) -> None:
    """Replace a file whole, in a folder that is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)


def write_json(path: Path, value: Any) -> None:
    """Replace a file by the JSON of a value."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> Optional[Any]:
    """The value in a JSON file; None if there is no such file. Raises UsageError if the file is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        raise UsageError(f"{path} is damaged: delete it, or its folder, to make it again") from None


def known_configuration(out: Path, file: str = "config.json") -> Optional[Dict[str, Any]]:
    """The configuration that an output folder belongs to; None if it is new. Raises UsageError for a damaged file."""
    return read_json(out / file) if out.is_dir() else None


class Claim:
    """An output folder that belongs to one configuration. It is made, or used again, and locked until `close`.

    what: names the experiment in messages, such as "comparison". file: where in the folder the configuration is kept.
    Raises UsageError, and changes nothing, when the folder holds another configuration or something else, and when another
    process works in it.
    """

    def __init__(self, out: Path, configuration: Dict[str, Any], what: str = "comparison", file: str = "config.json"):
        if out.exists() and not out.is_dir():
            raise UsageError(f"--out {out} is a file: name a folder")
        path = out / file
        known = known_configuration(out, file)
        if known is None and out.exists() and not _empty(out, path):
            raise UsageError(f"--out {out} holds something else than a {what}: name a new folder")
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
        """Remove everything of an experiment that could not begin. One that an earlier call began stays."""
        if self._new:
            for item in self.out.iterdir():
                shutil.rmtree(item) if item.is_dir() else item.unlink()
            if self._made:
                self.out.rmdir()

    def close(self) -> None:
        """Unlock the folder."""
        self._lock.close()


def _empty(out: Path, configuration: Path) -> bool:
    """Whether the folder has no files, or only those of a claim that was killed while it wrote its configuration."""
    return all(
        item.is_dir() or item.name == ".lock" or (item.name.startswith(configuration.name) and item.suffix == ".tmp")
        for item in out.rglob("*")
    )


def _difference(known: Any, wanted: Any, name: str = "") -> str:
    """The first value in which two configurations differ: `budget minutes: 6 there, 1 asked for`."""
    if isinstance(known, dict) and isinstance(wanted, dict):
        for key in [*known, *wanted]:
            if known.get(key) != wanted.get(key):
                return _difference(known.get(key), wanted.get(key), f"{name} {key}".strip())
    return f"{name}: {known} there, {wanted} asked for"
