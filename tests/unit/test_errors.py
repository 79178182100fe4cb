"""One door: a UsageError leaves a program as one line with exit code 1, and stays a ValueError in Python."""

import subprocess
import sys

import pytest
from torch.utils.data import DataLoader

from fairseq_sharnn.errors import UsageError, exit_with_one_line, usage_errors_in_one_line
from tests.conftest import ROOT


class Unreadable:
    """A dataset whose items cannot be read."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        raise UsageError("train.bin is damaged:\n  prepare it again")


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_in_python_it_is_a_value_error_of_one_line():
    with pytest.raises(ValueError, match=r"^--lr is odd: choose another$"):
        raise UsageError("--lr is odd:\n    choose another")


@pytest.mark.parametrize("door", [usage_errors_in_one_line, exit_with_one_line])
def test_the_door_turns_it_into_one_line(door):
    @door()
    def main():
        raise UsageError("--lr is odd")

    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == "error: --lr is odd"

    @door()
    def fails():
        raise ValueError("a fault of ours")

    with pytest.raises(ValueError, match="a fault of ours"):
        fails()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_data_loader_worker_says_the_same_line(workers):
    with pytest.raises(UsageError, match=r"^train\.bin is damaged: prepare it again$"):
        list(DataLoader(Unreadable(), batch_size=None, num_workers=workers))


def test_a_program_ends_in_one_line_where_a_package_is_missing():
    door = "from fairseq_sharnn.errors import exit_with_one_line as door\n"
    ended = run(door + "with door():\n    import no_such_package.part\n")
    assert ended.returncode == 1 and ended.stdout == ""
    assert ended.stderr.splitlines()[-1].startswith(f"error: {sys.executable} has no no_such_package: use the Python")
    assert "Traceback" not in ended.stderr
    own = run(door + "with door():\n    import fairseq_sharnn.no_such_module\n")
    assert own.returncode == 1 and "Traceback" in own.stderr, "a fault of ours is not the user's environment"
