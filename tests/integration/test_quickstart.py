"""scripts/quickstart.sh, in a copy of the repository whose environment is made and whose corpus is small."""

import os
import re
import sys

import pytest

from tests.conftest import ROOT, run_command, write_corpus


@pytest.fixture
def clone(tmp_path):
    """scripts/setup.sh finds its work done here: the environment is the one of the tests."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "quickstart.sh").write_bytes((ROOT / "scripts" / "quickstart.sh").read_bytes())
    (tmp_path / "scripts" / "setup.sh").write_text("#!/bin/bash\n")
    (tmp_path / "scripts" / "setup.sh").chmod(0o755)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "fairseq_sharnn").symlink_to(ROOT / "fairseq_sharnn")
    (tmp_path / "README.md").write_bytes((ROOT / "README.md").read_bytes()[:600])
    write_corpus(tmp_path / "out" / "data", 200_000, 5_000, 5_001)
    return tmp_path


def quickstart(clone, *arguments):
    return run_command("bash", clone / "scripts" / "quickstart.sh", *arguments, cwd=clone, timeout=600)


def test_it_trains_for_the_time_given_and_ends_with_the_bits_per_byte(clone):
    finished = quickstart(clone, "--minutes", "0.1", "out")
    assert finished.code == 0, finished.output[-3000:]
    before, training, _ = finished.output.partition("quickstart: training sha_rnn_tiny for 0.1 minutes")
    assert training and "quickstart: the model in the package, trained on books, writes\nIt was " in before
    assert re.search(r"^README\.md: [\d.]+ bits per byte \(600 bytes\)", before, flags=re.MULTILINE)
    assert re.search(r"/out/data/test: [\d.]+ bits per byte \(5,001 bytes\)", before)
    assert re.search(r"^  validation     [\d.]+ bits per byte$", finished.output, flags=re.MULTILINE)
    log = (clone / "out" / "train.log").read_text()
    updates, size = (float(re.findall(rf'"train_{name}": "([\d.]+)"', log)[-1]) for name in ("num_updates", "wpb"))
    assert re.fullmatch(
        rf"quickstart: [\d.]+ bits per byte on the 5,001 bytes of {re.escape(os.fspath(clone))}/out/data/test, "
        rf"after {updates * size / 1e6:.1f} million bytes of training in 0\.1 minutes",
        finished.output.splitlines()[-1],
    )
    sample = finished.output.partition("quickstart: a sample\n")[2]
    assert sample.startswith("    def read(self") and len(sample) > 400
    again = quickstart(clone, "--minutes", "0.1", "out")
    assert again.code == 0 and "training" not in again.output.partition("quickstart: evaluating")[0]
    assert again.output.splitlines()[-1] == finished.output.splitlines()[-1]


def test_a_training_without_an_update_is_said(clone):
    finished = quickstart(clone, "--minutes", "0.0001", "out")
    assert finished.code == 1
    assert (
        finished.output.splitlines()[-1]
        == "quickstart: no update ended within 0.0001 minutes: give more time with --minutes"
    )
    assert not (clone / "out" / "trained").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--minutes", "soon"), "quickstart: --minutes needs a number above 0"),
        (("--minutes", "0"), "quickstart: --minutes needs a number above 0"),
        (("--minutes",), "quickstart: --minutes needs a number above 0"),
        (("--seconds", "3"), "quickstart: usage: scripts/quickstart.sh [--minutes M] [OUT]"),
    ],
)
def test_bad_arguments_are_answered_in_one_line(clone, arguments, message):
    finished = quickstart(clone, *arguments)
    assert (finished.code, finished.output) == (2, f"{message}\n")
