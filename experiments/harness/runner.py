"""How an experiment's steps are done: a few at a time, each counted in the line of progress."""

import time
from dataclasses import replace
from typing import Callable, List, Mapping, Sequence

from experiments.harness.pool import Task, once, work_through
from experiments.harness.processes import Processes
from experiments.harness.progress import Progress


class Runner:
    """Does tasks of the kinds that `progress` knows, with one set of processes. `stop()` ends whatever runs."""

    def __init__(self, progress: Progress, threads: int = 1):
        self.progress = progress
        self.processes = Processes(threads)

    def do(self, tasks: Sequence[Task], kind: str, more: bool = False) -> None:
        """Do all steps of tasks of one kind. more: whether other tasks of this kind follow."""
        timed = [replace(task, step=self._timed(task.step, kind)) for task in tasks]

        def show(labels: List[str]) -> None:
            self.progress.show(kind, labels)

        work_through(timed, self.progress.steps[kind].jobs, self.processes, show)
        if not more:
            self.progress.close(kind)

    def do_once(self, steps: Mapping[str, Callable[[], bool]], kind: str, more: bool = False) -> None:
        """Do each step, by label. A step returns False if an earlier call had done it already."""
        self.do([once(label, step) for label, step in steps.items()], kind, more)

    def stop(self) -> None:
        self.processes.stop()

    def _timed(self, step: Callable[[], bool], kind: str) -> Callable[[], bool]:
        def timed() -> bool:
            begun = time.time()
            worked = step()
            if worked:
                self.progress.add_done(kind, time.time() - begun)
            else:
                self.progress.skip(kind)
            return worked

        return timed
