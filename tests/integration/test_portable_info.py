"""`python -m fairseq_sharnn info` and `user-dir`, with fairseq and without."""

import sys

from tests.conftest import ROOT, USER_DIR, run_command

HIDDEN = "fairseq,omegaconf,hydra,fairseq_cli"


def test_user_dir_is_the_folder_that_fairseq_takes():
    finished = run_command(sys.executable, "-m", "fairseq_sharnn", "user-dir", cwd="/")
    assert finished.code == 0 and finished.output.strip() == USER_DIR


def test_info_with_fairseq():
    finished = run_command(sys.executable, "-m", "fairseq_sharnn", "info")
    assert finished.code == 0, finished.output
    for name in ("Python", "torch", "fairseq ", "CPU kernels", "device cpu", "device cuda", "onnxruntime"):
        assert any(line.startswith(name) for line in finished.output.splitlines()), name
    assert "mend" not in finished.output


def test_info_without_fairseq():
    finished = run_command(sys.executable, ROOT / "tests" / "without.py", HIDDEN, "-m", "fairseq_sharnn", "info")
    assert finished.code == 0, finished.output
    assert "not found: export, sample and score work without it" in finished.line("fairseq ")


def test_info_without_torch():
    finished = run_command(sys.executable, ROOT / "tests" / "without.py", "torch", "-m", "fairseq_sharnn", "info")
    assert finished.code == 1
    assert "pip install torch" in finished.line("mend it with")
