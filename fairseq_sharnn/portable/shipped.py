"""The model that comes with the package: where it is, and how to get it back where it is missing."""

import json
import sys
from pathlib import Path
from typing import Any, Dict, Optional

_PACKAGE = Path(__file__).resolve().parent.parent
SHIPPED = _PACKAGE / "portable" / "weights" / "books"
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"  # the files of an exported model


def is_shipped(path: Path) -> bool:
    """Whether a path is that of the package's own model."""
    return path.absolute() == SHIPPED


def facts() -> Optional[Dict[str, Any]]:
    """The contents of its config.json, read without torch. None if the model is missing or damaged."""
    try:
        found = json.loads((SHIPPED / CONFIG).read_text(encoding="utf-8"))
        return found if (SHIPPED / WEIGHTS).stat().st_size and isinstance(found["sizes"], dict) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def put_back() -> str:
    """The command that puts its files back: from the clone that runs, or by installing the package again."""
    source = _PACKAGE.parent
    if (source / ".git").exists():
        return f"git -C {source} checkout -- {SHIPPED.relative_to(source)}"
    return f"{sys.executable} -m pip install --no-deps --no-build-isolation --force-reinstall PATH_OF_A_CLONE"
