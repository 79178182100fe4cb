"""Typed records: dataclasses that are written to JSON files and read back."""

from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Dict, Optional, Type, TypeVar, Union, get_args, get_origin, get_type_hints

from experiments.harness.folder import read_json, write_json
from fairseq_sharnn.errors import UsageError

Record = TypeVar("Record")


def write_record(path: Path, record: Any) -> None:
    """Write a dataclass as JSON, one key for each field."""
    write_json(path, asdict(record))


def read_record(kind: Type[Record], path: Path) -> Optional[Record]:
    """The record in a file; None if there is no such file.

    Raises UsageError if the file is not JSON or lacks a field that has no default. Keys that are no fields are ignored, so
    that a file of an earlier version can be read.
    """
    value = read_json(path)
    if value is None:
        return None
    try:
        return from_plain(kind, value)
    except (AttributeError, TypeError, ValueError) as error:
        raise UsageError(
            f"{path} is no {kind.__name__} ({error}): delete it, or its folder, to make it again"
        ) from None


def from_plain(kind: Any, value: Any) -> Any:
    """A value of type `kind` (dataclasses, Optional, List, Tuple, Dict and plain types) from what JSON has of it."""
    origin = get_origin(kind)
    if origin is Union:  # Optional
        return None if value is None else from_plain(get_args(kind)[0], value)
    if origin is list:
        return [from_plain(get_args(kind)[0], item) for item in value]
    if origin is tuple:
        return tuple(from_plain(get_args(kind)[0], item) for item in value)
    if origin is dict:
        of_key, of_value = get_args(kind)
        return {of_key(key): from_plain(of_value, item) for key, item in value.items()}
    if is_dataclass(kind):
        return _dataclass(kind, value)
    return value


def _dataclass(kind: Any, value: Dict[str, Any]) -> Any:
    hints = get_type_hints(kind)
    known = {field.name for field in fields(kind)}
    return kind(**{name: from_plain(hints[name], item) for name, item in value.items() if name in known})
