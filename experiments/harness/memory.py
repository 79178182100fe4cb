"""The most memory that a process has held."""

import os
import resource
import sys

MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes in one unit of ru_maxrss


def peak_memory(pid: int) -> int:
    """The most memory, in bytes, that a process has held since it was started; 0 where the system does not say.

    ru_maxrss, which every system has, begins with the memory of the process that forked; this does not.
    """
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            found = [line for line in file if line.startswith("VmHWM:")]
        return int(found[0].split()[1]) * 1024 if found else 0
    except (OSError, UnicodeDecodeError):
        return 0


def own_peak_memory() -> int:
    """The most memory, in bytes, that this process has held."""
    return peak_memory(os.getpid()) or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_UNIT
