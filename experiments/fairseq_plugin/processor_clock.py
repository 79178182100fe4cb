"""A training whose time is that of its processor: fairseq's `--stop-time-hours` then counts CPU seconds.

A training that waits for its core, because the machine does other work, loses nothing by that. fairseq saves its time in
checkpoints, so the time of a run that resumes continues.
"""

import os
import time
from types import SimpleNamespace
from typing import Mapping

from experiments.harness.processes import BY_PROCESSOR_TIME


def count_processor_time(environment: Mapping[str, str] = os.environ) -> None:
    """Let fairseq's trainer read the CPU time of this process, if the environment has TRAINING_CLOCK=processor.

    The trainer takes the time for nothing else than its own duration.
    """
    if BY_PROCESSOR_TIME.items() <= environment.items():
        from fairseq import trainer

        trainer.time = SimpleNamespace(time=time.process_time)
