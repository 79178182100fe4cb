"""How a function of fairseq is replaced by one that calls it."""

import functools
import inspect
from contextlib import contextmanager


def patch(owner, name: str):
    """Replace `owner.name` by the decorated function, which takes the original first.

    Each function is applied once in a process. Several functions may patch one name: the last one is called first.
    """

    def decorate(function):
        original = getattr(owner, name)
        applied, this = getattr(original, "_fairseq_sharnn", ()), f"{function.__module__}.{function.__qualname__}"
        if this in applied:
            return

        @functools.wraps(original)
        def patched(*args, **kwargs):
            return function(original, *args, **kwargs)

        patched._fairseq_sharnn = (*applied, this)
        of_class = isinstance(inspect.getattr_static(owner, name), (classmethod, staticmethod))
        setattr(owner, name, staticmethod(patched) if of_class else patched)

    return decorate


@contextmanager
def replaced(owner, name: str, function):
    """Within the block, `owner.name` is `function`."""
    original = getattr(owner, name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        setattr(owner, name, original)
