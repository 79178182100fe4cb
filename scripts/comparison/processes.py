"""Start fairseq's commands: output with time stamps into a file, peak memory, and no process left behind."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence

ROOT = Path(__file__).resolve().parent.parent.parent
USER_DIR = ROOT / "fairseq_sharnn"
_DIE_WITH_PARENT = 1  # prctl's PR_SET_PDEATHSIG


class Ended(NamedTuple):
    """A command that ran: its exit code, the most memory it held (bytes), and its wall-clock seconds."""

    code: int
    peak_memory: int
    seconds: float


def fairseq(tool: str) -> str:
    """The path of fairseq-TOOL of this Python."""
    return str(Path(sys.executable).with_name(f"fairseq-{tool}"))


def shown(command: Sequence[str]) -> str:
    """A command as it is typed into a shell, with short names for programs and this repository's folders."""
    parts = [str(part).replace(str(ROOT) + os.sep, "") for part in command]
    if os.path.dirname(command[0]):
        parts[0] = os.path.basename(command[0])
    return " ".join(f'"{part}"' if any(letter in part for letter in " ()'{}") else part for part in parts)


class Processes:
    """The commands that are running now. `stop()` ends them all, and none starts afterwards.

    They also end when this process is killed: a training that went on alone would write into the folder of its successor.
    """

    def __init__(self, threads: int = 1):
        self.threads = threads
        self._running: Dict[int, subprocess.Popen] = {}
        self._lock = threading.Lock()
        self._stopped = False

    def run(self, command: Sequence[str], log: Path) -> Ended:
        """Run a command to its end; each line of its output goes to `log` behind the time it came at, in seconds."""
        log.parent.mkdir(parents=True, exist_ok=True)
        start = time.time()
        with self._lock:
            if self._stopped:
                raise KeyboardInterrupt
            process = subprocess.Popen(
                [str(part) for part in command],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                start_new_session=True,  # Ctrl-C reaches this script alone, which then ends them
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
            self._running[process.pid] = process
        with open(log, "w", encoding="utf-8") as file:
            for line in process.stdout:
                file.write(f"{time.time():.3f} {line.decode('utf-8', 'replace')}")
                file.flush()
        process.stdout.close()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        with self._lock:
            del self._running[process.pid]
            if self._stopped:
                raise KeyboardInterrupt
        unit = 1 if sys.platform == "darwin" else 1024
        return Ended(process.returncode, usage.ru_maxrss * unit, time.time() - start)

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            for process in self._running.values():
                process.kill()

    def _environment(self) -> Dict[str, str]:
        threads = str(self.threads)
        ours = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1"}
        path = os.pathsep.join(
            part for part in (str(ROOT), str(ROOT / "scripts"), os.environ.get("PYTHONPATH")) if part
        )
        return {**os.environ, **ours, "PYTHONPATH": path}


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with_parent() -> None:
    _libc.prctl(_DIE_WITH_PARENT, signal.SIGKILL)


def read_log(path: Path) -> List[str]:
    """The lines of a log, without their time stamps."""
    return [line.partition(" ")[2] for line in path.read_text(encoding="utf-8").splitlines()]


def reason_of_failure(log: Path, code: int) -> str:
    """One line that says why a command failed: its own error line, else the last line of its traceback."""
    lines = [line.strip() for line in read_log(log) if line.strip()]
    errors: List[Optional[str]] = [line for line in lines if line.startswith("error: ")]
    if errors:
        return errors[-1][len("error: ") :]
    if code < 0:
        return f"killed by signal {-code} ({signal.Signals(-code).name})"
    return lines[-1] if lines else f"exit code {code}, without a word"
