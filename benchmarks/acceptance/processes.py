"""Each stage in a process of its own: one that fails, hangs or runs out of memory ends by itself.

The processes are forks of one that never starts CUDA, so each begins at once with everything imported.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, NamedTuple, Optional

_DIE_WITH_PARENT = 1  # prctl's PR_SET_PDEATHSIG
Row = Dict[str, Any]


class Stage(NamedTuple):
    """A part of the acceptance: `rows(**arguments)` gives the rows of its table, as they are measured.

    seconds: the most it may take; None: all the time that is left.
    """

    name: str
    title: str
    rows: Callable[..., Iterator[Row]]
    arguments: Dict[str, Any]
    seconds: Optional[float]


def ask_without_starting_cuda() -> None:
    """From here on torch asks the driver's library whether there is a GPU. Asking CUDA would start it, and a process that
    has started it cannot fork one that uses it.
    """
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"


def run(stage: Stage, log: Path, seconds: float) -> Iterator[Row]:
    """The rows of a stage as they come. Raises RuntimeError with the reason if it fails or has not ended in time."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(stage, log, sender))
    end = time.monotonic() + seconds
    process.start()
    sender.close()
    try:
        while True:
            if not receiver.poll(max(0.0, end - time.monotonic())):
                raise RuntimeError(f"not done after {seconds:.0f} s")
            try:
                kind, value = receiver.recv()
            except EOFError:
                process.join()
                raise RuntimeError(f"ended with exit code {process.exitcode} (see {log.name})") from None
            if kind == "row":
                yield value
            elif kind == "failed":
                raise RuntimeError(value)
            else:
                return
    finally:
        _end(process)
        receiver.close()


def die_with_parent() -> None:
    """End this process when the one that has started it ends, even by SIGKILL."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


def _child(stage: Stage, log: Path, sender: Any) -> None:
    """Run a stage, with what it prints in the log."""
    os.setsid()  # so that all it starts can be ended
    die_with_parent()
    with open(log, "a", encoding="utf-8", buffering=1) as file:
        print(f"\n==== {stage.name}", file=file)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout = sys.stderr = file
        try:
            for row in stage.rows(**stage.arguments):
                sender.send(("row", row))
            sender.send(("done", None))
        except BaseException as error:
            import traceback

            traceback.print_exc()
            lines = str(error).strip().splitlines() or [""]
            sender.send(("failed", f"{type(error).__name__}: {lines[0][:200]}"))
        sender.close()
        file.flush()
        os._exit(0)  # threads of CUDA and of data loaders are not waited for


def _end(process: Any) -> None:
    """End a process and all that it has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    process.join()
