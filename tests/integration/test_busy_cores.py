"""The hint that training on CPU logs next to busy processes."""

import os
import subprocess
import sys

import pytest
import torch

from fairseq_sharnn.compat import busy_cores
from fairseq_sharnn.registration import register
from tests.integration.forked import train_forked

register()


@pytest.mark.parametrize(
    "threads, cores, busy, advice",
    [(2, 2, 1, "OMP_NUM_THREADS=1 "), (8, 8, 3, "OMP_NUM_THREADS=5 "), (2, 2, 4, "OMP_NUM_THREADS=1 ")],
)
def test_the_hint_leaves_the_busy_cores_to_others(threads, cores, busy, advice):
    assert advice in busy_cores.hint(threads, cores, busy)


@pytest.mark.parametrize("threads, cores, busy", [(2, 2, 0), (1, 2, 1), (2, 4, 2)])
def test_there_is_no_hint_while_there_is_room(threads, cores, busy):
    assert busy_cores.hint(threads, cores, busy) is None


@pytest.mark.skipif(not os.path.exists("/proc/loadavg"), reason="Linux counts running processes")
def test_a_busy_process_is_counted(monkeypatch):
    monkeypatch.setattr(busy_cores, "_PAUSE", 0.1)
    neighbours = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        assert busy_cores.busy_processes() >= 1
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()


def two_threads_next_to_one_busy_process() -> None:
    torch.set_num_threads(2)
    os.sched_getaffinity = lambda process: {0, 1}
    busy_cores.busy_processes = lambda: 1


def one_thread_next_to_one_busy_process() -> None:
    two_threads_next_to_one_busy_process()
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    "before, lines", [(two_threads_next_to_one_busy_process, 1), (one_thread_next_to_one_busy_process, 0)]
)
def test_training_logs_the_hint_once(corpus, tmp_path, before, lines):
    finished = train_forked(corpus, tmp_path, "--max-update", 1, "--no-save", before=before)
    assert finished.code == 0, finished.output[-3000:]
    assert finished.output.count("other processes keep 1 of 2 cores busy") == lines
