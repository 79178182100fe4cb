"""The measurement of training next to a busy process: what it starts and sets, never how fast anything is."""

import os
import subprocess
from typing import ClassVar, List

import pytest

from benchmarks import busy_neighbour
from benchmarks.models import Case

SMALL = Case(width=32, boom_width=64, lanes=4, length=8, context=24, layers=2)
on_linux = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes are bound to cores on Linux only")


class Recorded:
    """Stands for a worker: notes its environment, and whether a neighbour ran."""

    made: ClassVar[List[tuple]] = []

    def __init__(self, name, case, workload, threads):
        self.order = (
            name,
            workload,
            threads,
            {key: os.environ.get(key) for key in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")},
        )
        Recorded.made.append(self.order)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def work(self):
        return {"bytes": 32}


@on_linux
def test_every_setting_is_measured_in_its_environment(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(busy_neighbour, "Worker", Recorded)
    monkeypatch.setattr(Recorded, "made", [])
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    out = tmp_path / "report.md"
    assert busy_neighbour.main(["--size", "small", "--seconds", "0", "--out", str(out)], {"small": SMALL}) == 0
    policies = [(threads, *variables.values()) for _, _, threads, variables in Recorded.made]
    assert policies == [(1, None, None), (2, None, None), (2, "passive", None), (2, None, "0")]
    assert {order[:2] for order in Recorded.made} == {("fairseq_sharnn", "training")}
    assert "OMP_WAIT_POLICY" not in os.environ
    text = out.read_text()
    assert text in capsys.readouterr().out and "`GOMP_SPINCOUNT=0`" in text


@on_linux
def test_the_neighbour_is_bound_to_one_core_and_ends(monkeypatch):
    started = []
    real = subprocess.Popen

    def popen(*arguments, **options):
        started.append(real(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", popen)
    core = min(os.sched_getaffinity(0))
    with busy_neighbour.busy_core(core):
        assert os.sched_getaffinity(started[0].pid) == {core} and started[0].poll() is None
    assert started[0].poll() is not None
