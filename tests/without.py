"""Run a module or code as if some packages were not installed: python tests/without.py NAME,... (-m MODULE | -c CODE) ..."""

import runpy
import sys
from typing import List


class Without:
    """A finder of sys.meta_path that does not find the packages of some names."""

    def __init__(self, finder, hidden: List[str]):
        self._finder = finder
        self._hidden = hidden

    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in self._hidden else self._finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self._finder, name)


def main() -> None:
    hidden, kind, what, *arguments = sys.argv[1:]
    sys.meta_path[:] = [Without(finder, hidden.split(",")) for finder in sys.meta_path]
    sys.argv = ["-c", *arguments]
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    main()
