"""Several models at one workload, each in a process of its own, taking turns within a limit of time."""

import time
from statistics import median
from typing import Callable, Dict, NamedTuple

from benchmarks.models import Case
from benchmarks.worker import Worker, WorkerFailed


class Contestant(NamedTuple):
    """A model of `models.NAMES`, and the case that it runs."""

    name: str
    case: Case


def measure(
    contestants: Dict[str, Contestant], workload: str, repeats: int, threads: int, seconds: float, progress: Callable
) -> Dict[str, Dict]:
    """All models at one workload. A model that fails, such as for lack of memory, has a row that says so.

    On a GPU one model comes after the other, because its memory may not hold all of them. repeats: turns of each, fewer if
    they take longer than so many seconds. progress: called after each turn of all.
    """
    on_gpu = any(contestant.case.device.startswith("cuda") for contestant in contestants.values())
    groups = [{label: contestant} for label, contestant in contestants.items()] if on_gpu else [contestants]
    results: Dict[str, Dict] = {}
    for group in groups:
        said = progress if group is groups[-1] else lambda: None
        results.update(_take_turns(group, workload, repeats, threads, seconds / len(groups), said))
    return results


def _take_turns(
    contestants: Dict[str, Contestant], workload: str, repeats: int, threads: int, seconds: float, progress: Callable
) -> Dict[str, Dict]:
    """`measure` of models that are ready at the same time."""
    end = time.monotonic() + seconds
    results: Dict[str, Dict] = {}
    workers: Dict[str, Worker] = {}
    for label, (name, case) in contestants.items():
        try:
            workers[label] = Worker(name, case, workload, threads)
            results[label] = {**workers[label].ready, "seconds": [], "rates": []}
        except WorkerFailed as error:
            results[label] = {"failed": str(error)}
    for turn in range(repeats):
        if turn > 0 and time.monotonic() > end:
            break
        for label, worker in list(workers.items()):
            try:
                done = worker.work()
            except WorkerFailed as error:
                results[label] = {"failed": str(error)}
                del workers[label]
                continue
            results[label]["seconds"].append(done["seconds"])
            results[label]["rates"].append(done["bytes"] / done["seconds"])
            results[label].update(bytes=done["bytes"], peak_bytes=done["peak_bytes"])
        progress()
    for worker in workers.values():
        worker.close()
    for result in results.values():
        if "seconds" in result:
            result["median_seconds"] = median(result["seconds"])
            result["bytes_per_s"] = median(result.pop("rates"))  # jittered chunks differ in bytes
    return results


class TimeLimit:
    """Minutes that a number of measurements share: each may take an equal part of what is left."""

    def __init__(self, minutes: float, parts: int):
        self._end = time.monotonic() + 60 * minutes
        self._parts = parts

    def next_part(self) -> float:
        """The seconds of the next measurement."""
        share = max(0.0, self._end - time.monotonic()) / max(1, self._parts)
        self._parts -= 1
        return share
