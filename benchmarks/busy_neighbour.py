#!/usr/bin/env python3
"""What training on CPU loses when another process keeps one of the cores busy, by threads and by how OpenMP waits.

    python -m benchmarks.busy_neighbour             # D 128, 16 lanes of 128 bytes, as in speed.py's `tiny`

Each setting trains in a process of its own, first undisturbed and then with a busy process that is bound to one core.
Prints a table, and with --out also writes it. Needs Linux, which binds processes to cores.
"""

import argparse
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import Dict, Iterator, List, Optional, Tuple

from benchmarks.models import CASES, Case
from benchmarks.page import show
from benchmarks.worker import Worker
from experiments.harness.markdown import table

# threads, and variables that torch's OpenMP (libgomp) reads when it starts
SETTINGS: List[Tuple[int, Dict[str, str]]] = [
    (1, {}),
    (2, {}),
    (2, {"OMP_WAIT_POLICY": "passive"}),
    (2, {"GOMP_SPINCOUNT": "0"}),
]


@contextmanager
def environment(changes: Dict[str, str]) -> Iterator[None]:
    """Variables for the processes that are started inside."""
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def busy_core(core: int) -> Iterator[None]:
    """A process that keeps `core` busy, as long as the block lasts."""
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        os.sched_setaffinity(neighbour.pid, {core})
        yield
    finally:
        neighbour.kill()
        neighbour.wait()


def rate(worker: Worker, seconds: float) -> float:
    """Bytes/s of at least one update and at least `seconds`."""
    done, start = 0, time.perf_counter()
    while done == 0 or time.perf_counter() - start < seconds:
        done += worker.work()["bytes"]
    return done / (time.perf_counter() - start)


def measure(case: Case, seconds: float) -> List[List[str]]:
    """A row for each setting: undisturbed, disturbed, and what is left."""
    core, rows = min(os.sched_getaffinity(0)), []
    for threads, variables in SETTINGS:
        with environment({"OMP_NUM_THREADS": str(threads), **variables}):
            worker = Worker("fairseq_sharnn", case, "training", threads)
        with worker:
            alone = rate(worker, seconds)
            with busy_core(core):
                disturbed = rate(worker, seconds)
        set_to = ", ".join(f"`{name}={value}`" for name, value in variables.items())
        rows.append([str(threads), set_to, f"{alone:,.0f}", f"{disturbed:,.0f}", f"{disturbed / alone:.0%}"])
    return rows


def main(arguments: Optional[List[str]] = None, cases: Dict[str, Case] = CASES) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="tiny", choices=list(cases))
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--out", help="also write the report to this file")
    args = parser.parse_args(arguments)
    if not hasattr(os, "sched_setaffinity"):
        parser.error("this program needs Linux: it binds a process to a core")
    cores = len(os.sched_getaffinity(0))
    body = [
        f"Training in bytes/s ({args.size}), alone and with a busy process on one of {cores} cores, "
        f"{args.seconds:g} s each.",
        "",
        *table(["threads", "environment", "alone", "disturbed", "left"], measure(cases[args.size], args.seconds)),
    ]
    show("Training next to a busy process", "busy_neighbour", arguments, cores, body, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
