"""Only one training writes a --save-dir at a time."""

import errno
import fcntl
import os
from contextlib import contextmanager, suppress
from typing import Iterator, Optional

from fairseq_sharnn.errors import UsageError

LOCK = ".lock"


@contextmanager
def only_writer_of(save_dir: Optional[str]) -> Iterator[None]:
    """Hold the lock file of a --save-dir (None: of nothing). Raises UsageError when another process holds it.

    The lock is the operating system's (lockf): it ends with the process, also when that is killed. Unlike flock's, it
    is not inherited by loader processes, which may outlive a killed trainer by seconds. The file is removed at the end.
    """
    lock = None if save_dir is None else _locked(save_dir)
    try:
        yield
    finally:
        if lock is not None:
            with suppress(OSError):
                os.remove(os.path.join(str(save_dir), LOCK))
            os.close(lock)


def _locked(save_dir: str) -> Optional[int]:
    """The locked file; None where the folder cannot be written, which fairseq reports, or has no locks."""
    path = os.path.join(save_dir, LOCK)
    while True:
        try:
            os.makedirs(save_dir, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return None
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(path) and os.path.samestat(os.fstat(file), os.stat(path)):
                os.truncate(file, 0)
                os.write(file, str(os.getpid()).encode())
                return file
        except OSError as error:
            holder = os.pread(file, 20, 0).decode(errors="replace").strip()
            os.close(file)
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                return None
            raise UsageError(
                f"--save-dir {save_dir} is being written by another training (process {holder or 'unknown'}): wait until "
                "it has ended, or choose another --save-dir"
            ) from None
        os.close(file)  # its last holder has removed it: lock the new one
