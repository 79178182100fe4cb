"""`--optimizer lamb_min_trust` outside this package: fairseq's Transformer on fairseq's own `language_modeling`."""

import re

import pytest

from tests.conftest import USER_DIR, fairseq, real_text
from tests.integration.checkpoints import load
from tests.integration.forked import run_forked

LAST = 12


@pytest.fixture(scope="module")
def binarized(tmp_path_factory):
    folder = tmp_path_factory.mktemp("language_modeling")
    lines = real_text(30000).decode("utf-8", "replace").splitlines()
    for split, part in (("train", lines[:-200]), ("valid", lines[-200:])):
        (folder / split).write_text("\n".join(part) + "\n")
    finished = fairseq(
        *("preprocess", "--only-source", "--trainpref", folder / "train", "--validpref", folder / "valid"),
        *("--destdir", folder / "data", "--workers", 1, "--thresholdsrc", 3),
    )
    assert finished.code == 0, finished.output[-2000:]
    return folder / "data"


def train(data, save_dir, updates, *options):
    """Losses by update. A batch is the whole text: a resumed run of fairseq's tasks has another order."""
    finished = run_forked(
        *("train", data, "--user-dir", USER_DIR, "--task", "language_modeling", "--arch", "transformer_lm", "--cpu"),
        *(
            "--decoder-layers",
            2,
            "--decoder-embed-dim",
            32,
            "--decoder-ffn-embed-dim",
            64,
            "--decoder-attention-heads",
            2,
        ),
        *("--optimizer", "lamb_min_trust", "--lr", 5e-3, "--clip-norm", 0.25, "--tokens-per-sample", 64),
        *("--batch-size", 100, "--required-batch-size-multiple", 1, "--dropout", 0, "--max-update", updates),
        *("--log-format", "simple", "--log-interval", 1),
        *("--save-dir", save_dir, *options),
    )
    assert finished.code == 0, finished.output[-3000:]
    return {
        int(update): float(loss)
        for loss, update in re.findall(r"train_inner.*? loss=([\d.]+).*? num_updates=(\d+)", finished.output)
    }


@pytest.mark.parametrize("precision", [(), ("--fp16", "--fp16-init-scale", 4)], ids=["float32", "fp16"])
def test_a_transformer_learns_and_resumes(binarized, tmp_path, precision):
    whole = train(binarized, tmp_path / "whole", LAST, *precision)
    assert len(whole) == LAST and whole[LAST] < whole[1] - 0.5
    train(binarized, tmp_path / "broken", LAST - 4, *precision)
    resumed = train(binarized, tmp_path / "broken", LAST, *precision)
    assert resumed == pytest.approx({update: whole[update] for update in range(LAST - 3, LAST + 1)}, abs=2e-3)
    state = load(tmp_path / "broken" / "checkpoint_last.pt")["last_optimizer_state"]
    assert ("masters" in state) == bool(precision)
