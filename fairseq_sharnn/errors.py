"""The error that a user can act on, and the one door through which it leaves a program: one line, exit code 1."""

import importlib.util
import re
import sys
from contextlib import contextmanager
from typing import Iterator, Mapping


class UsageError(ValueError):
    """Something that the user can put right: its one-line message names the option or path and says what to do."""

    def __init__(self, message: str):
        # torch's DataLoader raises a worker's error again with the worker's traceback before the message
        message = message.rpartition(f"{__name__}.UsageError: ")[2]
        super().__init__(" ".join(message.split()))


@contextmanager
def usage_errors_in_one_line() -> Iterator[None]:
    """Turn a UsageError into `SystemExit("error: ...")`: one line on stderr, exit code 1, no traceback.

    A context manager, or a decorator: `@usage_errors_in_one_line()`.
    """
    try:
        yield
    except UsageError as error:
        raise SystemExit(f"error: {error}") from None


@contextmanager
def exit_with_one_line() -> Iterator[None]:
    """The door of a program: around its imports (as a context manager) and around its `main` (as a decorator).

    A UsageError ends the program with one line and exit code 1. So does a package that this Python lacks.
    """
    try:
        with usage_errors_in_one_line():
            yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if not missing or missing == __name__.partition(".")[0]:
            raise
        if importlib.util.find_spec("torch") is None:  # another Python, which most likely lacks all the rest too
            missing = "torch"
        raise SystemExit(
            f"error: {sys.executable} has no {missing}: use the Python that fairseq_sharnn was installed with "
            "(scripts/setup.sh makes one: source .venv/bin/activate)"
        ) from None


@contextmanager
def named_as_options(options: Mapping[str, str]) -> Iterator[None]:
    """Turn a ValueError that names arguments in backquotes into a UsageError that names the user's options.

    options: for each argument its option, without the dashes. "`boom_width` 3 is ..." becomes "--boom-dim 3 is ...".
    """
    try:
        yield
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(re.sub(r"`(\w+)`", lambda name: f"--{options[name[1]]}", str(error))) from None
