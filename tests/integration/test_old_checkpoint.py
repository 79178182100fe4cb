"""A checkpoint trained before modules/ and ops/ were parted (commit 4517d3e) resumes and evaluates to the same numbers."""

import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.integration.checkpoints import load
from tests.integration.forked import eval_forked, train_forked

OLD = ROOT / "tests" / "golden" / "trained_before_ops.pt"
MODEL = "--arch sha_rnn --decoder-embed-dim 16 --boom-dim 40 --decoder-layers 2 --context-length 96 --dropout 0".split()
RECIPE = "--optimizer lamb_min_trust --lr 5e-3 --lr-scheduler fixed --warmup-updates 5 --clip-norm 0.25".split()

# What the code of that commit printed. Other CPUs and the path without kernels differ by 1e-4 at most.
TEST_BITS = 2.1774
VALID_BITS = 1.8446
BITS_OF_UPDATES = {
    **{121: 2.2213, 122: 2.2676, 123: 2.0570, 124: 2.0864, 125: 2.1802, 126: 2.1255},
    **{127: 1.8812, 128: 1.8932, 129: 1.8260, 130: 1.8906, 131: 1.8373, 132: 1.6991},
}
CLOSE = 3e-4


def made_text(size: int, seed: int) -> bytes:
    """Words in an order that depends only on the seed: the same text on every machine."""
    words = b"the a of memory lane chunk layer head byte stream reads writes forgets keeps one two and then".split()
    text, number = [], seed
    while sum(map(len, text)) + len(text) < size:
        number = (number * 1103515245 + 12345) % 2**31
        text.append(words[(number >> 16) % len(words)])
    return b" ".join(text)[:size]


@pytest.fixture(scope="module")
def old_corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("old_corpus")
    for seed, (split, size) in enumerate([("train", 6000), ("valid", 900), ("test", 1001)], 1):
        (folder / split).write_bytes(made_text(size, seed))
    return folder


def test_it_was_saved_in_the_middle_of_an_epoch_with_its_stream_state():
    iterator = load(OLD)["extra_state"]["train_iterator"]
    assert (iterator["epoch"], iterator["iterations_in_epoch"]) == (3, 17)
    assert iterator["stream"]["state"]["layers"][0]["memory"] is not None


def test_it_resumes_to_the_same_losses(old_corpus, tmp_path):
    shutil.copy(OLD, tmp_path / "checkpoint_last.pt")
    options = ("--max-update", 132, "--log-interval", 1, "--no-epoch-checkpoints")
    finished = train_forked(old_corpus, tmp_path, *options, model=MODEL, recipe=RECIPE)
    assert finished.code == 0, finished.output[-3000:]
    found = re.findall(r"train_inner.*?bpb=([\d.]+).*?num_updates=(\d+)", finished.output)
    assert {int(update): float(bits) for bits, update in found} == pytest.approx(BITS_OF_UPDATES, abs=CLOSE)
    (valid,) = re.findall(r"valid on .*?bpb ([\d.]+)", finished.output)
    assert float(valid) == pytest.approx(VALID_BITS, abs=CLOSE)


def test_it_evaluates_to_the_same_bits(old_corpus):
    finished = eval_forked(old_corpus, OLD, "--tokens-per-sample", 32, "--batch-size", 4)
    assert finished.code == 0, finished.output[-3000:]
    assert "Evaluated 1,001 tokens" in finished.output
    assert float(re.search(r"Loss \(base 2\): ([\d.]+)", finished.output).group(1)) == pytest.approx(
        TEST_BITS, abs=CLOSE
    )
