"""Every command line of fairseq, however it is started, says a usage error in one line; Python gets a ValueError."""

import sys

import pytest

from fairseq_sharnn.models.sha_rnn import SHARNNLanguageModel
from tests.conftest import USER_DIR, run_command
from tests.integration.forked import run_forked


def in_one_line(finished, message: str) -> None:
    assert finished.code == 1 and "Traceback" not in finished.output, finished.output[-3000:]
    errors = [line for line in finished.output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0], finished.output[-3000:]


def test_hydra_train(tmp_path):
    options = ("--config-dir", "examples/enwik8", "--config-name", "sha_rnn", f"task.data={tmp_path}/gone")
    options += (f"common.user_dir={USER_DIR}", "common.cpu=true", f"hydra.run.dir={tmp_path}")
    finished = run_forked("hydra-train", *options, f"checkpoint.save_dir={tmp_path}/saved")
    in_one_line(finished, f"DATA folder {tmp_path}/gone does not exist")


def test_validate(tmp_path, corpus):
    options = ("--user-dir", USER_DIR, "--task", "byte_level_lm", "--cpu", "--batch-size", 4)
    in_one_line(run_forked("validate", corpus, *options, "--path", tmp_path / "gone.pt"), "gone.pt does not exist")
    in_one_line(run_forked("validate", corpus, *options), "name the checkpoint to evaluate with --path")


def test_a_module_started_with_python(tmp_path):
    command = (sys.executable, "-m", "fairseq_cli.train", tmp_path / "gone", "--user-dir", USER_DIR, "--cpu")
    command += ("--task", "byte_level_lm", "--arch", "sha_rnn_tiny", "--optimizer", "lamb_min_trust", "--lr", 1e-3)
    finished = run_command(*command, "--batch-size", 4, "--save-dir", tmp_path / "saved")
    in_one_line(finished, f"DATA folder {tmp_path / 'gone'} does not exist")


@pytest.mark.parametrize("content", [b"", b"once upon a time"])
def test_python_gets_a_value_error_of_one_line(tmp_path, content):
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"^cannot load checkpoint \S+model.pt: it is damaged") as raised:
        SHARNNLanguageModel.from_pretrained(str(tmp_path), "model.pt")
    assert "\n" not in str(raised.value)
