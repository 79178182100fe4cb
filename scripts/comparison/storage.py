"""Files that are either the old ones or the new ones, whenever the script is stopped."""

import json
import os
from pathlib import Path
from typing import Any, Optional


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
    """What a file holds, None where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
