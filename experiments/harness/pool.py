"""Work through slices of many runs with a few workers, always the run that has come least far: runs alternate."""

import threading
from typing import Callable, Dict, List, Optional, Sequence

from experiments.harness.processes import Processes


class Task:
    """Something done in steps. `step` does one; `remaining` says how many are left; `label` names what comes next."""

    def __init__(self, label: Callable[[], str], step: Callable[[], None], remaining: Callable[[], int]):
        self.label, self.step, self.remaining = label, step, remaining


def once(label: str, work: Callable[[], None]) -> Task:
    """A task of one step."""
    left = [1]

    def step() -> None:
        work()
        left[0] = 0

    return Task(lambda: label, step, lambda: left[0])


def work_through(
    tasks: Sequence[Task], jobs: int, processes: Processes, told: Callable[[List[str]], None], pause: float = 1.0
) -> None:
    """Do all steps of all tasks, `jobs` side by side, each task's own one after the other.

    told: is called now and then, in this thread, with the labels of what is going on. An exception in a step (a bug, a full
    disk; failures of commands are records) ends all of them and is raised here; so does Ctrl-C.
    """
    state = _State(tasks)
    workers = [threading.Thread(target=state.work, daemon=True) for _ in range(min(jobs, max(1, len(tasks))))]
    for worker in workers:
        worker.start()
    try:
        while any(worker.is_alive() for worker in workers):
            told(state.current())
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
        """The number of the task with most steps left to do of those not at work; None when all is done."""
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
