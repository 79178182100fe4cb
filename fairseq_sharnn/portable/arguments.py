"""Arguments of the Python interface: each is made what it must be, or one TypeError or UsageError names it."""

import math
import numbers
import operator
import os
from typing import Any, List, Optional, Sequence, Tuple, Union

import torch

from fairseq_sharnn.errors import UsageError

Text = Union[str, bytes, bytearray, memoryview]
_TEXT = (str, bytes, bytearray, memoryview)


def as_bytes(text: Any, name: str) -> bytes:
    """A text as bytes. A string may hold bytes that are not UTF-8, as Python reads them with `surrogateescape`.

    name: of the argument, for messages. Raises TypeError if it is not a text, and UsageError if it stands for no bytes.
    """
    if not isinstance(text, _TEXT):
        raise TypeError(f"{name} must be a text (str or bytes), not {_kind(text)}")
    if not isinstance(text, str):
        return bytes(text)
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{name} has half of a surrogate pair at character {error.start:,}, which stands for no text: leave it out"
        ) from None


def as_texts(texts: Any, name: str) -> Tuple[List[bytes], bool]:
    """One text or several as bytes, and whether it was one. Raises TypeError and UsageError as `as_bytes` does."""
    if isinstance(texts, _TEXT):
        return [as_bytes(texts, name)], True
    if not isinstance(texts, (list, tuple)):
        raise TypeError(f"{name} must be a text (str or bytes) or a list of texts, not {_kind(texts)}")
    return [as_bytes(text, f"{name} number {number}") for number, text in enumerate(texts, start=1)], False


def as_whole(value: Any, name: str) -> int:
    """A whole number, of Python, numpy or torch. Raises TypeError if it is none."""
    if not isinstance(value, bool) and not (torch.is_tensor(value) and value.dtype == torch.bool):
        try:
            return operator.index(value)
        except (TypeError, RuntimeError):
            pass
    raise TypeError(f"{name} must be a whole number, not {_kind(value)}")


def as_real(value: Any, name: str) -> float:
    """A number, of Python, numpy or torch. Raises TypeError if it is none."""
    single = torch.is_tensor(value) and value.numel() == 1 and value.dtype != torch.bool
    if isinstance(value, bool) or not (isinstance(value, numbers.Real) or single):
        raise TypeError(f"{name} must be a number, not {_kind(value)}")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def as_seed(value: Any) -> Optional[int]:
    """A seed, or None. Raises TypeError if it is no whole number, and UsageError if torch has no seed of this size."""
    if value is None:
        return None
    seed = as_whole(value, "seed")
    if not -(2**63) <= seed < 2**64:
        raise UsageError(f"seed must be from -2**63 to 2**64 - 1, but it is {seed}")
    return seed


def as_path(value: Any, name: str) -> str:
    """A path as a string. Raises TypeError if it is none, and UsageError if it is empty."""
    try:
        path = os.fsdecode(value)
    except TypeError:
        raise TypeError(f"{name} must be a path (str or os.PathLike), not {_kind(value)}") from None
    if not path or "\0" in path:
        raise UsageError(f"{name} must name a file or folder, but it is {path!r}")
    return path


def as_ids(ids: Any, vocab: int, name: str) -> List[int]:
    """Ids [N] of a model, from a list, an array or a tensor. Raises TypeError for another kind, UsageError for values.

    vocab: how many ids there are.
    """
    values = ids.tolist() if hasattr(ids, "tolist") else ids
    if not isinstance(values, (list, tuple, range)):
        raise TypeError(f"{name} must be a list or a tensor of ids, not {_kind(ids)}")
    if any(isinstance(value, (list, tuple)) for value in values):
        raise UsageError(f"{name} must be one list of ids, but it has several: give one at a time")
    found = [as_whole(value, f"each id of {name}") for value in values]
    for value in found:
        if not 0 <= value < vocab:
            raise UsageError(f"{name} has the id {value}, but the model's ids are 0 to {vocab - 1}")
    return found


def each_seed(seeds: Sequence[Any]) -> List[Optional[int]]:
    """Seeds, each of them checked."""
    return [as_seed(seed) for seed in seeds]


def _kind(value: Any) -> str:
    """What a value is, for messages."""
    return "None" if value is None else type(value).__name__
