"""The plot of README: bits per byte against training time, from the committed results.

    python -m experiments.versus_transformer.front_plot docs/images/bits-per-byte

Writes .png and .svg: validation in runs of 30 minutes on one core, seed 1. The Transformer is shown with windows of 64
bytes, which the preset has, and of 128 and 256, which are better in so long a run. The runs with windows of 128 and 256 were
made at other times, and the one with 256 on another processor.
"""

import argparse
import json
import logging
import tarfile
from pathlib import Path
from typing import List

from experiments.comparison.records import RunRecord
from experiments.comparison.report_plots import curves
from experiments.comparison.results import Results
from experiments.harness.plots import Series, lines
from experiments.harness.records import from_plain, read_record

RESULTS = Path(__file__).resolve().parent / "results"


def series() -> List[Series]:
    """One line for each model; the best SHA-RNN and the best Transformer by validation are among them."""
    results = read_record(Results, RESULTS / "cpu" / "results.json")
    single = _archived("cpu", "long/sha_rnn-30min-seed1/run.json")
    found = {
        "SHA-RNN, single head": single,
        "SHA-RNN, no head": next(run for run in results.long if run.contestant == "sha_rnn_no_head"),
        "fairseq LSTM, 2 layers": next(run for run in results.long if run.contestant == "lstm_lm"),
        "Transformer, 6 layers, windows of 64": next(
            run for run in results.long if run.contestant == "transformer_deep"
        ),
        "Transformer, 6 layers, windows of 128": _deep("cpu-30min-window128"),
        "Transformer, 6 layers, windows of 256": _deep("cpu-30min-window256"),
    }
    return [curves([run], {run.contestant: title}, "minutes", 1.0)[0] for title, run in found.items()]


def _deep(folder: str) -> RunRecord:
    """The 6-layer Transformer's run in a folder of results."""
    results = read_record(Results, RESULTS / folder / "results.json")
    return next(run for run in results.runs if run.contestant == "transformer_deep")


def _archived(folder: str, name: str) -> RunRecord:
    """A run's record in the archive of a folder of results."""
    with tarfile.open(RESULTS / folder / "records.tar.xz") as archive:
        member = next(item for item in archive.getmembers() if item.name.endswith(name))
        return from_plain(RunRecord, json.load(archive.extractfile(member)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="path of the plot, without an ending")
    out = parser.parse_args().out
    logging.disable(logging.INFO)
    lines(out, series(), "minutes of training, one CPU core", "bits per byte, validation")


if __name__ == "__main__":
    main()
