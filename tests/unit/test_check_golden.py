"""The golden tensors decide: every file passes, and a file that differs does not."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT

GOLDEN = sorted((ROOT / "tests" / "golden").glob("*.npz"))


@pytest.fixture(scope="module")
def check_golden():
    spec = importlib.util.spec_from_file_location("check_golden", ROOT / "scripts" / "check_golden.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(module, monkeypatch, *files) -> int:
    monkeypatch.setattr(sys, "argv", ["check_golden.py", *map(str, files)])
    return module.main()


def test_there_are_five():
    assert len(GOLDEN) == 5


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_file_passes(check_golden, monkeypatch, capsys, path):
    assert run(check_golden, monkeypatch, path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines] == [["ok", path.name, "float64"], ["ok", path.name, "float32"]]


@pytest.mark.parametrize(
    "path, key",
    [
        ("two_heads_odd_boom", "chunk3/logits"),
        ("two_heads_odd_boom", "chunk2/grad/layer1.attn.value_overparam.bias"),
        ("two_heads_odd_boom", "chunk1/layer1.memory"),
        ("two_heads_odd_boom", "chunk0/layer2.lstm.c"),
        ("two_heads_odd_boom", "param/layer1.attn.key_gate"),
        ("lamb_min_trust", "case1/param3/step12"),
        ("lamb_min_trust", "case0/param2/trust7"),
    ],
)
def test_a_difference_of_a_millionth_is_found(check_golden, monkeypatch, capsys, tmp_path, path, key):
    with np.load(ROOT / "tests" / "golden" / f"{path}.npz") as npz:
        arrays = {name: npz[name] for name in npz.files}
    arrays[key] = arrays[key] + 1e-6 * np.abs(arrays[key]).max()
    np.savez(tmp_path / "changed.npz", **arrays)
    assert run(check_golden, monkeypatch, tmp_path / "changed.npz") == 1
    assert "FAIL changed.npz" in capsys.readouterr().out


@pytest.mark.parametrize("key, value", [("chunk0/logits", np.nan), ("chunk0/grad/embed.weight", np.inf)])
def test_nothing_that_follows_hides_a_nan(check_golden, monkeypatch, capsys, tmp_path, key, value):
    with np.load(ROOT / "tests" / "golden" / "two_heads_odd_boom.npz") as npz:
        arrays = {name: npz[name] for name in npz.files}
    arrays[key] = arrays[key].copy()
    arrays[key][0] = value
    np.savez(tmp_path / "changed.npz", **arrays)
    assert run(check_golden, monkeypatch, tmp_path / "changed.npz") == 1


def test_a_file_that_is_no_golden_file_fails(check_golden, monkeypatch, capsys, tmp_path):
    good = ROOT / "tests" / "golden" / "lamb_min_trust.npz"
    Path(tmp_path / "text.npz").write_bytes(b"nothing of the kind")
    Path(tmp_path / "empty.npz").write_bytes(b"")
    Path(tmp_path / "cut.npz").write_bytes(good.read_bytes()[:9000])
    np.save(tmp_path / "array.npy", np.zeros(3))
    bad = [tmp_path / name for name in ("text.npz", "missing.npz", "empty.npz", "cut.npz", "array.npy")]
    assert run(check_golden, monkeypatch, *bad, good) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["FAIL"] * 5 + ["ok"] * 2
