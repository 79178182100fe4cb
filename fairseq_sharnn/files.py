"""Writing a file whole: after a crash, a kill or a full disk it holds either all of the new content or all of the old."""

import glob
import itertools
import os
import re
from contextlib import suppress
from typing import Callable, Union

_numbers = itertools.count()


def replace_whole(path: Union[str, "os.PathLike[str]"], write: Callable[[str], object]) -> None:
    """Call `write` with the name of a temporary file in the same folder, then give that file the name `path`.

    The content is on disk (fsync) before the name changes. When `write` fails, the temporary file is removed, `path`
    stays as it was, and the error is raised again. What is not a regular file (a pipe, /dev/stdout) is written directly.
    """
    path = os.fspath(path)
    if os.path.exists(path) and not os.path.isfile(path):
        write(path)
        return
    _remove_abandoned(path)
    temporary = f"{path}.{os.getpid()}-{next(_numbers)}.tmp"
    try:
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.remove(temporary)
        raise


def write_whole(path: Union[str, "os.PathLike[str]"], content: Union[str, bytes]) -> None:
    """Write text (as UTF-8, line ends as they are) or bytes to `path` with `replace_whole`."""
    data = content.encode("utf-8") if isinstance(content, str) else content

    def write(temporary: str) -> None:
        with open(temporary, "wb") as file:
            file.write(data)

    replace_whole(path, write)


def _remove_abandoned(path: str) -> None:
    """Remove temporary files of `path` whose process was killed while it wrote."""
    for name in glob.glob(f"{glob.escape(path)}.*-*.tmp"):
        number = re.fullmatch(r"(\d+)-\d+\.tmp", name[len(path) + 1 :])
        if number and not _is_running(int(number[1])):
            with suppress(OSError):
                os.remove(name)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to another user
        return True
    return True
