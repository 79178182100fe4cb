"""One model in a process of its own, so that its peak memory can be measured. `Worker` starts it and makes it work."""

import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Dict

from experiments.harness.memory import own_peak_memory

ROOT = Path(__file__).resolve().parent.parent


class WorkerFailed(RuntimeError):
    """The process ended; the message is the last line it printed."""


class Worker:
    """A process that has one model ready for one workload, and works on command."""

    def __init__(self, name: str, case, workload: str, threads: int):
        order = json.dumps({"name": name, "case": asdict(case), "workload": workload, "threads": threads})
        self._errors = tempfile.TemporaryFile(mode="w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", order],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.ready = self._answer()  # {"parameters": ..., "start_bytes": ...}

    def _answer(self) -> Dict:
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._errors.seek(0)
            error = self._errors.read().strip().splitlines()
            self.close()
            raise WorkerFailed(error[-1] if error else f"ended with exit code {code}")
        return json.loads(line)

    def work(self) -> Dict:
        """Do one unit: {"seconds": ..., "bytes": ..., "peak_bytes": ...}."""
        with suppress(BrokenPipeError):  # the process is gone: its answer says so
            self._process.stdin.write("work\n")
            self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *exception) -> None:
        self.close()


def peak_bytes(device: str) -> int:
    """Most memory this process has held: resident on CPU, allocated on an accelerator."""
    import torch

    return torch.cuda.max_memory_allocated() if device.startswith("cuda") else own_peak_memory()


def main(order: Dict) -> None:
    import torch

    from benchmarks import machine
    from benchmarks.models import Case, build

    machine.allow_tf32()  # the same float32 for every model
    torch.set_num_threads(order["threads"])
    case = Case(**order["case"])
    if case.device.startswith("cuda"):
        torch.cuda.set_device(torch.device(case.device).index or 0)  # the memory and the work below are of this one
    start = peak_bytes(case.device)
    model = build(order["name"], case)
    model.prepare(order["workload"])
    unit = getattr(model, order["workload"])
    wait = torch.cuda.synchronize if case.device.startswith("cuda") else lambda: None
    unit()
    wait()
    print(json.dumps({"parameters": model.parameters, "start_bytes": start}), flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        done = unit()
        wait()
        seconds = time.perf_counter() - begin
        print(json.dumps({"seconds": seconds, "bytes": done, "peak_bytes": peak_bytes(case.device)}), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
