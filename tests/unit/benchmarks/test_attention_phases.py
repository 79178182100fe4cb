"""The report of attention by phases: what it counts, and that the kernel with its clock does the kernel's work."""

import pytest
import torch

from benchmarks import attention_phases
from benchmarks.attention_phases import PHASES, Shape, phase_table
from fairseq_sharnn.ops import kernels
from tests.unit.ops.oracle import needs_kernels

TOY = ["--widths", "16,32", "--rows", "40", "--threads", "1,2", "--lanes", "2", "--length", "16", "--repeats", "1"]


@pytest.fixture(autouse=True)
def same_threads_afterwards():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@needs_kernels
def test_a_table_for_each_size_and_number_of_threads(tmp_path, capsys):
    out = tmp_path / "phases.md"
    assert attention_phases.main([*TOY, "--out", str(out)]) == 0
    text = out.read_text()
    assert text in capsys.readouterr().out and "python -m benchmarks.attention_phases --widths 16,32" in text
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert titles == [f"## D {width}, 40 rows, threads: {count}" for count in (1, 2) for width in (16, 32)]
    for phase in (*PHASES, "waiting", "attention, without the clock"):
        assert text.count(f"| {phase} |") == 4


@needs_kernels
def test_every_phase_takes_time_in_every_lane():
    shape = Shape(width=16, rows=40, lanes=3, length=16)
    calls = attention_phases.work(shape, 0.1)
    forward, backward = calls["forward by phases"](), calls["backward by phases"]()
    assert forward.shape == backward.shape == (3, len(PHASES)) and forward.dtype == torch.float64
    assert (forward > 0).all()
    assert (backward.sum(0) > 0).tolist() == [phase != "softmax" for phase in PHASES]  # the maximum is not needed again


def test_shares_and_rates():
    """Of seconds that are given: 6 of 8 in products, at half of the plain product's rate."""
    shape = Shape(width=16, rows=40, lanes=2, length=16)
    taken = {"wall": 4.0, **dict.fromkeys(PHASES, 0.25), "products": 6.0, "waiting": 0.75}
    seconds = dict.fromkeys(("forward by phases", "backward by phases"), taken)
    seconds.update(forward={"wall": 4.0}, backward={"wall": 4.0})
    seconds["plain products"] = {"wall": 1.5}
    (row,) = [line for line in phase_table(shape, 2, seconds) if line.startswith("| products |")]
    assert row.split(" | ")[1:5] == ["75.0%", "6000.0 ms", "0 GFLOP/s", "50%"]


def test_operations_and_bytes():
    shape = Shape(width=2, rows=5, lanes=3, length=4)
    assert shape.product() == 2 * 3 * 4 * 5 * 2
    assert shape.operations("forward") == 480 and shape.operations("backward") == 720 + 2 * 2 * 3 * 4 * 4 * 2
    assert shape.bytes("forward")["softmax"] == 4 * 3 * 4 * 5


@pytest.mark.parametrize("rows", ["16", "5000,8"])
def test_a_memory_shorter_than_the_chunk_is_refused(rows, capsys):
    with pytest.raises(SystemExit) as refused:
        attention_phases.main([*TOY, "--rows", rows])
    said = capsys.readouterr().err
    assert refused.value.code == 2 and ("--rows" in said if kernels.ops is not None else "compiled" in said)
