"""The report of what an update allocates."""

from types import SimpleNamespace

import pytest
import torch

from benchmarks import allocations
from benchmarks.models import CASES, Case

MEGABYTE = 1 << 18  # float32 numbers


def memory(when: float, size: int, address: int) -> dict:
    return {"name": "[memory]", "ts": when, "args": {"Bytes": size, "Addr": address}}


def operator(name: str, start: float, duration: float) -> dict:
    return {"name": name, "cat": "cpu_op", "ts": start, "dur": duration}


def test_the_peak_is_what_is_held_at_one_moment_and_belongs_to_the_outermost_operators():
    events = [
        operator("linear", 0, 10),
        operator("addmm", 1, 8),
        memory(2, 100, 1),
        memory(3, 100, 2),
        memory(11, -100, 2),
        operator("add", 12, 2),
        memory(13, 50, 2),
        memory(20, 30, 3),
        memory(21, -30, 3),
        memory(30, -100, 1),
        memory(31, 60, 4),
    ]
    assert allocations.peak(events) == (200, {"linear": 200})
    assert allocations.peak([*events, memory(40, 100, 5)]) == (210, {"add": 50, "outside of operators": 160})


def test_the_peak_of_a_known_update():
    """Two tensors of a megabyte live at once, and three in all."""

    def training():
        first = torch.ones(MEGABYTE)
        del first
        second = torch.ones(MEGABYTE)
        return second + 1

    model = SimpleNamespace(prepare=lambda workload: None, training=training)
    found = allocations.peak(allocations.trace(model))
    assert found.bytes == pytest.approx(2 << 20, abs=4096)
    for name in ("aten::ones", "aten::add"):
        assert found.by_operator[name] == pytest.approx(1 << 20, abs=64)


def test_the_command_compares_all_models(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(CASES, "tiny", Case(width=32, boom_width=128, lanes=8, length=64, context=128))
    out = tmp_path / "allocations.md"
    assert allocations.main(["--size", "tiny", "--out", str(out)]) == 0
    text = out.read_text()
    assert text in capsys.readouterr().out and "python -m benchmarks.allocations --size tiny" in text
    for name in allocations.MODELS:
        assert f"| `{name}` |" in text
    assert "| 1.000 |" in text and "| `aten::layer_norm` |" in text
