"""Folders of earlier versions are used again: the committed records give the committed figures, without training."""

import csv
import json
import logging
import signal
import sys
import tarfile
from dataclasses import asdict

import pytest

from experiments.ablations.program import PROGRAM as ABLATE
from experiments.comparison import program as shared
from experiments.comparison.results import Results
from experiments.comparison.splits import Split
from experiments.harness.records import read_record
from experiments.versus_transformer.front_plot import series
from experiments.versus_transformer.program import PROGRAM as COMPARE
from tests.conftest import ROOT

pytest.importorskip("matplotlib")

COMMITTED = {
    "versus_transformer/results/cpu": (COMPARE, "--preset cpu --long-minutes 30"),
    "versus_transformer/results/cpu-lamb-window256": (
        COMPARE,
        "--preset cpu --window 256 --optimizer lamb_min_trust",
    ),
    "ablations/results": (ABLATE, "--preset cpu --minutes 3 --seeds 1"),
}


@pytest.fixture
def as_it_was():
    """What a program changes in its process."""
    handler, disabled = signal.getsignal(signal.SIGTERM), logging.root.manager.disable
    yield
    signal.signal(signal.SIGTERM, handler)
    logging.disable(disabled)


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def figures_of(results):
    """Summaries and allowance; below Python 3.11, which rounds deviations in another way, to twelve digits."""
    figures = [results.allowance and asdict(results.allowance), *map(asdict, results.summaries)]
    if sys.version_info >= (3, 11):
        return figures
    return json.loads(json.dumps(figures), parse_float=lambda digits: f"{float(digits):.12g}")


@pytest.mark.parametrize("folder", COMMITTED)
def test_committed_records_give_the_committed_figures(folder, tmp_path, monkeypatch, as_it_was):
    """The real program, from its options to its report; only the data is not there, and its digests are the folder's."""
    program, options = COMMITTED[folder]
    committed, out = ROOT / "experiments" / folder, tmp_path / "out"
    with tarfile.open(committed / "records.tar.xz") as archive:
        archive.extractall(out)
    configuration = (out / "config.json").read_bytes()
    splits = {name: Split(**values) for name, values in json.loads(configuration)["data"].items()}
    monkeypatch.setattr(shared, "read_splits", lambda data: splits)
    monkeypatch.setattr(shared, "draw_all", lambda out, results: [])  # plots have tests of their own
    monkeypatch.setattr(sys, "argv", [f"scripts/{program.script}", "data/e8", "--out", str(out), *options.split()])
    shared.run(program)
    assert rows_of(out / "results.csv") == rows_of(committed / "results.csv")
    assert (out / "config.json").read_bytes() == configuration
    if (committed / "results.json").exists():
        again, before = (read_record(Results, path / "results.json") for path in (out, committed))
        assert figures_of(again) == figures_of(before)
    assert "Not complete yet" not in (out / "REPORT.md").read_text(encoding="utf-8")


def test_the_plot_of_readme_is_drawn_from_committed_results():
    lines = {title: (minutes, bits) for title, minutes, bits in series()}
    assert len(lines) == 6 and all(abs(minutes[-1] - 30) < 0.1 for minutes, _ in lines.values())
    last = {title: bits[-1] for title, (_, bits) in lines.items()}
    # as in results/cpu/REPORT.md, results/cpu-30min-window256/REPORT.md
    assert round(last["SHA-RNN, no head"], 4) == 2.0935 and last["SHA-RNN, single head"] < 2.1
    assert round(last["Transformer, 6 layers, windows of 64"], 4) == 2.2550
    assert min(last, key=last.get).startswith("SHA-RNN")
