"""Checkpoint files: written whole, checked by their checksums, and never of parameters that are not finite."""

import zipfile
from typing import Callable, Iterable, Optional

import torch

from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.files import replace_whole


def check_sums(path: str) -> None:
    """Compare the checksums that torch.save writes into its zip container. torch.load does not compare them.

    Raises ValueError naming the part that differs.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as container:
            bad = container.testzip()
        if bad is not None:
            raise ValueError(f"the checksum of {bad} is wrong")


def write_checkpoint(path: str, write: Callable[[str], None]) -> str:
    """Write a checkpoint with `files.replace_whole`. Raises UsageError when it cannot be written."""
    try:
        replace_whole(path, write)
    except (OSError, RuntimeError) as error:
        cause: Optional[BaseException] = error
        while cause is not None and not getattr(cause, "strerror", None):
            cause = cause.__context__  # torch's writer hides what the file system said
        reason = cause.strerror if cause is not None else str(error).strip().splitlines()[0]
        raise UsageError(
            f"cannot write checkpoint {path}: {reason}; earlier checkpoints are as they were. Free some space (or choose "
            "another --save-dir) and start the same command again"
        ) from error
    return path


def refuse_ruins(parameters: Iterable[torch.Tensor], updates: int) -> None:
    """Raises UsageError for parameters that are not finite, before they replace those of a good checkpoint."""
    norms = torch.stack([parameter.detach().float().norm() for parameter in parameters])
    if not torch.isfinite(norms).all():
        raise UsageError(
            f"after update {updates:,} the parameters are not finite: they are not saved, and the checkpoints are as they "
            "were; resume from one of them with a lower --lr"
        )
