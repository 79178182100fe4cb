"""Run commands: output with time stamps into a log, memory and CPU time measured, and no process left behind."""

import contextlib
import ctypes
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence

from experiments.harness.memory import MAXRSS_UNIT, peak_memory
from fairseq_sharnn.errors import UsageError

ROOT = Path(__file__).resolve().parent.parent.parent
USER_DIR = ROOT / "fairseq_sharnn"
PLUGIN = ROOT / "experiments" / "fairseq_plugin"  # a --user-dir with more models, on top of fairseq_sharnn
BY_PROCESSOR_TIME = {"TRAINING_CLOCK": "processor"}  # for trainings with PLUGIN: they stop after so much CPU time
_DIE_WITH_PARENT = 1  # prctl's PR_SET_PDEATHSIG


class Killed(UsageError):
    """A command that SIGKILL ended: by a person, or by a system that ran out of memory."""


class Ended(NamedTuple):
    """A command that ended: exit code, most memory it held (bytes), CPU seconds of all threads, wall-clock seconds."""

    code: int
    peak_memory: int
    cpu_seconds: float
    wall_seconds: float


def fairseq(tool: str) -> str:
    """The path of fairseq-TOOL of this Python."""
    return str(Path(sys.executable).with_name(f"fairseq-{tool}"))


def check_fairseq() -> None:
    """Raises UsageError if this Python has no fairseq-train."""
    if not Path(fairseq("train")).exists():
        raise UsageError(
            f"{sys.executable} has no fairseq-train next to it: use the Python that fairseq is installed in"
        )


def as_typed(command: Sequence[str], environment: Optional[Mapping[str, str]] = None) -> str:
    """A command as one types it into a shell in the repository's folder, with short names for programs."""
    parts = [str(part).replace(str(ROOT) + os.sep, "") for part in command]
    if os.path.dirname(command[0]):
        parts[0] = os.path.basename(command[0])
    return " ".join([*(f"{name}={value}" for name, value in (environment or {}).items()), shlex.join(parts)])


# A command that one of these signals ended was stopped by somebody else. It did not fail, and is run again.
_FROM_OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGXCPU}
_DISK_FULL = re.compile(r"No space left on device|Disk quota exceeded|PytorchStreamWriter failed|unexpected pos \d")
_MEMORY = " peak memory "


class Processes:
    """The commands that are running now. `stop()` ends them all, and none starts afterwards.

    They also end when this process is killed: otherwise a training would still write into the folder when the next call
    uses it.
    """

    def __init__(self, threads: int = 1):
        self.threads = threads
        self._running: Dict[int, subprocess.Popen] = {}
        self._lock = threading.Lock()
        self._stopped = False

    def run(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Ended:
        """Run a command to its end. Each line of its output goes to `log`, after a stamp: `WALL/CPU`.

        WALL is the time (seconds) at which the line came, CPU the CPU seconds that the command had used by then.

        environment: variables that are added to this process's. Raises UsageError when the command was stopped from
        outside or by a full disk, because that says nothing about the command.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        start = time.time()
        process = self._start(command, environment)
        peak = 0
        try:
            peak = _copy_output(process, log)
        except OSError:
            _kill(process.pid)
            raise
        finally:
            process.stdout.close()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
            with self._lock:
                del self._running[process.pid]
        if self._stopped:
            raise KeyboardInterrupt
        _check_not_stopped(command, process.returncode, log)
        cpu_seconds = usage.ru_utime + usage.ru_stime
        return Ended(process.returncode, peak or usage.ru_maxrss * MAXRSS_UNIT, cpu_seconds, time.time() - start)

    def _start(self, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen:
        no_gpu = {"CUDA_VISIBLE_DEVICES": ""} if "--cpu" in command else {}
        with self._lock:
            if self._stopped:
                raise KeyboardInterrupt
            process = subprocess.Popen(
                [str(part) for part in command],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment, **no_gpu},
                start_new_session=True,  # Ctrl-C reaches this process only, which then ends its commands
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
            self._running[process.pid] = process
        return process

    def stop(self) -> None:
        """End all commands; none starts afterwards."""
        with self._lock:
            self._stopped = True
            for pid in self._running:
                _kill(pid)

    @property
    def environment(self) -> Dict[str, str]:
        """The variables of every command: each has so many threads, so that commands do not compete for cores."""
        return {"OMP_NUM_THREADS": str(self.threads), "MKL_NUM_THREADS": str(self.threads)}


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with_parent() -> None:
    _libc.prctl(_DIE_WITH_PARENT, signal.SIGKILL)


def _kill(pid: int) -> None:
    # Popen's own `kill` may reap the process, whose usage `wait4` is waiting for.
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _copy_output(process: subprocess.Popen, log: Path) -> int:
    """Copy a command's output to its log, and note there when its peak memory has grown; returns the last peak."""
    peak = 0
    clock = ProcessorClock(process.pid)
    with open(log, "w", encoding="utf-8") as file:
        for line in process.stdout:
            file.write(f"{_stamp(clock)} {line.decode('utf-8', 'replace')}")
            memory = peak_memory(process.pid)
            if memory > 1.01 * peak:
                peak = memory
                file.write(f"{_stamp(clock)}{_MEMORY}{peak}\n")
            file.flush()
    return peak


def _stamp(clock: "ProcessorClock") -> str:
    seconds = clock.seconds()
    return f"{time.time():.3f}" + ("" if seconds is None else f"/{seconds:.3f}")


class ProcessorClock:
    """CPU seconds of another process. None where the system does not tell them."""

    available = sys.platform == "linux"

    def __init__(self, pid: int):
        self._clock = (~pid << 3) | 2  # as the C function clock_getcpuclockid computes it
        self._last: Optional[float] = None

    def seconds(self) -> Optional[float]:
        """The CPU time of all its threads until now; the last one that was read, if the process has ended."""
        if self.available:
            with contextlib.suppress(OSError):
                self._last = time.clock_gettime(self._clock)
        return self._last


def noted_memory(log: Path) -> int:
    """The peak memory that a log has noted, in bytes; 0 if it has none."""
    noted = [line for line in read_log(log) if line.startswith(_MEMORY.lstrip())]
    return int(noted[-1].rpartition(" ")[2]) if noted else 0


def read_log(path: Path) -> List[str]:
    """The lines of a log, without their time stamps."""
    return [line.partition(" ")[2] for line in path.read_text(encoding="utf-8").splitlines()]


def _check_not_stopped(command: Sequence[str], code: int, log: Path) -> None:
    """Raises UsageError if a signal from outside or a full disk ended the command."""
    what = f"{os.path.basename(command[0])} ({log})"
    again = "run the same command again to resume"
    if -code in _FROM_OUTSIDE:
        if code == -signal.SIGKILL:
            raise Killed(f"{what} was ended by SIGKILL, perhaps because memory ran out; {again}")
        raise UsageError(f"{what} was ended by {signal.Signals(-code).name}; {again}")
    full = code != 0 and next((line for line in read_log(log)[::-1] if _DISK_FULL.search(line)), None)
    if full:
        raise UsageError(f"{what} could not write ({full.strip()}): make room; {again}")


def reason_of_failure(log: Path, code: int) -> str:
    """One line that says why a command failed: its own error line, or else the last line of its traceback."""
    lines = [line.strip() for line in read_log(log) if line.strip() and not line.startswith(_MEMORY.lstrip())]
    errors = [line for line in lines if line.startswith("error: ")]
    if errors:
        return errors[-1][len("error: ") :]
    if code < 0:
        return f"killed by signal {-code} ({signal.Signals(-code).name})"
    return lines[-1] if lines else f"exit code {code}, and no output"
