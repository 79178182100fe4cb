import sys
import threading
import time

import pytest

from experiments.harness.pool import Task, once, work_through
from experiments.harness.processes import Processes, noted_memory, read_log, shown
from fairseq_sharnn.errors import UsageError


def slices(name, count, order, pause=0.0):
    left = [count]

    def step():
        order.append(name)
        time.sleep(pause)
        left[0] -= 1

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

    def told(labels):
        if time.time() - begun > 0.5:
            raise KeyboardInterrupt

    sleep = once("sleep", lambda: processes.run(["sleep", "60"], tmp_path / "log", {}))
    with pytest.raises(KeyboardInterrupt):
        work_through([sleep], 1, processes, told, pause=0.05)
    assert time.time() - begun < 20
    with pytest.raises(KeyboardInterrupt):
        processes.run(["true"], tmp_path / "log", {})


def test_output_is_stamped_and_measured(tmp_path):
    loop = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; echo $WORD; echo two >&2; sleep 0.2; exit 3"
    ended = Processes().run(["sh", "-c", loop], tmp_path / "a" / "log", {"WORD": "one"})
    lines = (tmp_path / "a" / "log").read_text().splitlines()
    assert ended.code == 3 and 0 < ended.cpu_seconds < ended.wall_seconds
    assert [line for line in read_log(tmp_path / "a" / "log") if "peak memory" not in line] == ["one", "two"]
    assert abs(float(lines[0].split()[0]) - time.time()) < 60


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peak_memory_is_the_commands_own(tmp_path):
    """Not what this process held when it forked: the system's own count begins with that."""
    ballast = b"x" * 300_000_000
    ended = Processes().run(["sh", "-c", "echo one; sleep 3"], tmp_path / "log", {})
    assert 100_000 < ended.peak_memory < 50_000_000 < len(ballast)
    assert noted_memory(tmp_path / "log") == ended.peak_memory
    held = "x = b'x' * 200_000_000; print('held', flush=True); import time; time.sleep(3)"
    ended = Processes().run([sys.executable, "-c", held], tmp_path / "more", {})
    assert 200_000_000 < ended.peak_memory < 290_000_000


@pytest.mark.parametrize(
    "script, message",
    [
        ("kill -9 $$", "was ended by SIGKILL, perhaps for want of memory; the same command goes on"),
        ("kill -15 $$", "was ended by SIGTERM; the same"),
        (
            "echo 'OSError: [Errno 28] No space left on device'; exit 1",
            "No space left on device.*: make room; the same",
        ),
    ],
)
def test_what_comes_from_outside_is_no_failure_of_the_command(tmp_path, script, message):
    with pytest.raises(UsageError, match=message):
        Processes().run(["sh", "-c", script], tmp_path / "log", {})


def test_a_crash_of_its_own_is_a_failure(tmp_path):
    ended = Processes().run(["sh", "-c", "kill -11 $$"], tmp_path / "log", {})
    assert ended.code == -11


def test_a_command_is_shown_as_it_is_typed():
    command = ["/usr/bin/fairseq-train", "data", "--adam-betas", "(0.9, 0.98)"]
    assert shown(command, {"A": "1"}) == "A=1 fairseq-train data --adam-betas '(0.9, 0.98)'"
