"""Progress of long work on stderr: one line that changes on a terminal, else a line every 10 seconds."""

import sys
import time
from typing import TextIO

_ON_TERMINAL, _ELSEWHERE = 0.5, 10.0  # seconds between two lines


class Progress:
    """Says how much of `total` is done, and how fast. what: names the work. A context manager."""

    def __init__(self, what: str, total: int, unit: str, out: "TextIO | None" = None):
        self._what, self._total, self._unit = what, total, unit
        self._out = sys.stderr if out is None else out
        self._terminal = self._out.isatty()
        self._begun = self._said = time.monotonic()
        self._done = 0

    def advance(self, count: int) -> None:
        """So much more is done."""
        self._done += count
        now = time.monotonic()
        if now - self._said < (_ON_TERMINAL if self._terminal else _ELSEWHERE):
            return
        self._said = now
        line = f"{self._what}: {self._done:,} of {self._total:,} {self._unit}, {self.rate:,.0f} {self._unit}/s"
        self._out.write(f"\r{line}\033[K" if self._terminal else f"{line}\n")
        self._out.flush()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun

    @property
    def rate(self) -> float:
        return self._done / max(self.seconds, 1e-9)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *unused: object) -> None:
        if self._terminal:
            self._out.write("\r\033[K")
            self._out.flush()
