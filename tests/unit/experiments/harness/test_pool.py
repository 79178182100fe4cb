import threading
import time

import pytest

from experiments.harness.pool import Task, once, work_through
from experiments.harness.processes import Processes


def slices(name, count, order, pause=0.0):
    left = [count]

    def step():
        order.append(name)
        time.sleep(pause)
        left[0] -= 1
        return True

    return Task(lambda: name, step, lambda: left[0])


def silent(labels):
    pass


def test_runs_alternate():
    order = []
    work_through([slices(name, 3, order) for name in "abc"], 1, Processes(), silent, pause=0.01)
    assert "".join(order) == "abcabcabc"


def test_a_run_that_is_behind_comes_first():
    order = []
    work_through([slices("a", 1, order), slices("b", 3, order)], 1, Processes(), silent, pause=0.01)
    assert order[:2] == ["b", "b"] and sorted(order) == ["a", "b", "b", "b"]


def test_side_by_side_but_never_one_run_twice():
    order, busy, most, lock = [], set(), [0], threading.Lock()

    def task(name):
        left = [3]

        def step():
            with lock:
                assert name not in busy
                busy.add(name)
                most[0] = max(most[0], len(busy))
            time.sleep(0.02)
            with lock:
                busy.discard(name)
            order.append(name)
            left[0] -= 1
            return True

        return Task(lambda: name, step, lambda: left[0])

    work_through([task(name) for name in "abc"], 2, Processes(), silent, pause=0.01)
    assert sorted(order) == sorted("abc" * 3) and most[0] == 2


def test_an_error_ends_everything():
    def fail():
        raise RuntimeError("a bug")

    order = []
    with pytest.raises(RuntimeError, match="a bug"):
        work_through([once("x", fail), slices("a", 1000, order, 0.01)], 2, Processes(), silent, pause=0.01)
    assert len(order) < 1000


def test_ctrl_c_ends_running_commands(tmp_path):
    processes = Processes()
    begun = time.time()

    def show(labels):
        if time.time() - begun > 0.5:
            raise KeyboardInterrupt

    sleep = once("sleep", lambda: processes.run(["sleep", "60"], tmp_path / "log", {}))
    with pytest.raises(KeyboardInterrupt):
        work_through([sleep], 1, processes, show, pause=0.05)
    assert time.time() - begun < 20
    with pytest.raises(KeyboardInterrupt):
        processes.run(["true"], tmp_path / "log", {})
