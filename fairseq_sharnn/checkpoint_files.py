"""Checkpoint files: whole or not there, with the checksums they were written with, of parameters that are numbers."""

import os
import zipfile
from contextlib import suppress
from typing import Callable, Iterable

import torch

from fairseq_sharnn.errors import UsageError


def check_sums(path: str) -> None:
    """Compare the checksums that torch.save writes into its zip container; torch.load does not look at them.

    Raises ValueError naming the part that differs.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as container:
            bad = container.testzip()
        if bad is not None:
            raise ValueError(f"the checksum of {bad} is wrong")


def replaced(path: str, write: Callable[[str], None]) -> str:
    """Call `write` with a temporary name and give the file its own name at the end, or leave everything as it was.

    Raises UsageError when it cannot be written.
    """
    temporary = f"{path}.tmp"
    try:
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        with suppress(OSError):
            os.remove(temporary)
        cause = error
        while cause is not None and not getattr(cause, "strerror", None):
            cause = cause.__context__  # torch's writer hides what the file system said
        reason = cause.strerror if cause is not None else str(error).strip().splitlines()[0]
        raise UsageError(
            f"cannot write checkpoint {path}: {reason}; earlier checkpoints are as they were. Make room (or choose "
            "another --save-dir) and start the same command again"
        ) from error
    return path


def refuse_ruins(parameters: Iterable[torch.Tensor], updates: int) -> None:
    """Never replace a checkpoint by parameters that are not numbers any more. Raises UsageError for such."""
    norms = torch.stack([parameter.detach().float().norm() for parameter in parameters])
    if not torch.isfinite(norms).all():
        raise UsageError(
            f"after update {updates:,} the parameters are not finite: they are not saved, the checkpoints are as they "
            "were; go on from one of them with a lower --lr"
        )
