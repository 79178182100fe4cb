"""A hint at the start of training on CPU, when other processes use the cores that OpenMP's threads need."""

import logging
import os
import time
from typing import Optional

import torch
from fairseq.trainer import Trainer

from fairseq_sharnn.compat.patching import patch

logger = logging.getLogger(__name__)

_LOOKS, _PAUSE = 5, 0.02  # a process that only passes by is not there each time


def hint_at_busy_cores() -> None:
    """OpenMP's threads wait for the slowest of them. Next to a busy process two threads on two cores kept a quarter of
    their speed (docs/speed.md, "Next to other work"), so the log says what to do. Test: test_busy_cores.py.
    """

    @patch(Trainer, "__init__")
    def __init__(original, self, *args, **kwargs):
        original(self, *args, **kwargs)
        if not self.cuda and self.is_data_parallel_master and torch.get_num_threads() > 1:
            line = hint(torch.get_num_threads(), len(os.sched_getaffinity(0)), busy_processes())
            if line is not None:
                logger.info(line)


def busy_processes() -> int:
    """How many other processes or threads run all the time, as Linux counts them; 0 where it does not say."""
    counts = []
    for _ in range(_LOOKS):
        try:
            with open("/proc/loadavg") as file:
                counts.append(int(file.read().split()[3].split("/")[0]) - 1)  # without this one
        except (OSError, IndexError, ValueError):
            return 0
        time.sleep(_PAUSE)
    return max(0, min(counts))


def hint(threads: int, cores: int, busy: int) -> Optional[str]:
    """The line for `threads` of OpenMP on `cores`, of which others keep `busy` running; None if there is room."""
    if busy == 0 or threads + busy <= cores:
        return None
    return (
        f"other processes keep {busy} of {cores} cores busy, so {threads} threads of OpenMP wait for each other and can "
        f"lose most of their speed: OMP_NUM_THREADS={max(1, cores - busy)} or OMP_WAIT_POLICY=passive keeps more of it"
    )
