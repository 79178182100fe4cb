"""Work through steps of many tasks with a few workers. The task that has most steps left comes first, so tasks alternate."""

import threading
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Sequence

from experiments.harness.processes import Processes


@dataclass(frozen=True)
class Task:
    """Something that is done in steps.

    label: names the next step. step: does one; returns False if an earlier call had done it already. remaining: how many
    steps are left.
    """

    label: Callable[[], str]
    step: Callable[[], bool]
    remaining: Callable[[], int]


def once(label: str, work: Callable[[], bool]) -> Task:
    """A task of one step."""
    left = 1

    def step() -> bool:
        nonlocal left
        worked = work()
        left = 0
        return worked

    return Task(lambda: label, step, lambda: left)


def work_through(
    tasks: Sequence[Task], jobs: int, processes: Processes, show: Callable[[List[str]], None], pause: float = 1.0
) -> None:
    """Do all steps of all tasks, `jobs` at a time; two steps of one task are never done at the same time.

    show: is called every `pause` seconds, in this thread, with the labels of the steps that are being done. An exception
    in a step ends all of them and is raised here. (A bug or a full disk raises; the failure of a command is a record.)
    Ctrl-C also ends all of them.
    """
    state = _State(tasks)
    workers = [threading.Thread(target=state.work, daemon=True) for _ in range(min(jobs, max(1, len(tasks))))]
    for worker in workers:
        worker.start()
    try:
        while any(worker.is_alive() for worker in workers):
            show(state.current())
            for worker in workers:
                worker.join(pause / len(workers))
            if state.error is not None:
                processes.stop()
    except BaseException:
        state.close()
        processes.stop()
        raise
    if state.error is not None:
        raise state.error


class _State:
    """Which tasks are being worked on; shared by the workers."""

    def __init__(self, tasks: Sequence[Task]):
        self._tasks = list(tasks)
        self._steps: Dict[int, int] = dict.fromkeys(range(len(self._tasks)), 0)
        self._busy: List[int] = []
        self._changed = threading.Condition()
        self._closed = False
        self.error: Optional[BaseException] = None

    def current(self) -> List[str]:
        with self._changed:
            return [self._tasks[number].label() for number in self._busy]

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def work(self) -> None:
        while True:
            number = self._take()
            if number is None:
                return
            try:
                self._tasks[number].step()
            except BaseException as error:
                self.error = self.error or error
                self.close()
            finally:
                with self._changed:
                    self._busy.remove(number)
                    self._steps[number] += 1
                    self._changed.notify_all()

    def _take(self) -> Optional[int]:
        """The idle task that has most steps left; None when all is done."""
        with self._changed:
            while not self._closed:
                left = {number: task.remaining() for number, task in enumerate(self._tasks) if number not in self._busy}
                waiting = [number for number, steps in left.items() if steps > 0]
                if waiting:
                    number = max(waiting, key=lambda number: (left[number], -self._steps[number], -number))
                    self._busy.append(number)
                    return number
                if not self._busy:
                    return None
                self._changed.wait()
            return None
