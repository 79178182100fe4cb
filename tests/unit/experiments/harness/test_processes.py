"""Commands: their logs, their memory, and how they end."""

import sys
import time

import pytest

from experiments.harness.processes import Processes, as_typed, noted_memory, read_log
from fairseq_sharnn.errors import UsageError


def test_output_is_stamped_and_measured(tmp_path):
    loop = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; echo $WORD; echo two >&2; sleep 0.2; exit 3"
    ended = Processes().run(["sh", "-c", loop], tmp_path / "a" / "log", {"WORD": "one"})
    lines = (tmp_path / "a" / "log").read_text().splitlines()
    assert ended.code == 3 and 0 < ended.cpu_seconds < ended.wall_seconds
    assert [line for line in read_log(tmp_path / "a" / "log") if "peak memory" not in line] == ["one", "two"]
    wall, _, cpu = lines[0].split()[0].partition("/")
    assert abs(float(wall) - time.time()) < 60
    if sys.platform.startswith("linux"):
        assert 0 < float(cpu) <= ended.cpu_seconds + 0.01


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peak_memory_is_the_commands_own(tmp_path):
    """Not what this process held when it forked: the system's own count begins with that."""
    ballast = b"x" * 300_000_000
    ended = Processes().run(["sh", "-c", "echo one; sleep 3"], tmp_path / "log", {})
    assert 100_000 < ended.peak_memory < 50_000_000 < len(ballast)
    assert noted_memory(tmp_path / "log") == ended.peak_memory
    held = "x = b'x' * 200_000_000; print('held', flush=True); import time; time.sleep(3)"
    ended = Processes().run([sys.executable, "-c", held], tmp_path / "more", {})
    assert 200_000_000 < ended.peak_memory < 290_000_000


@pytest.mark.parametrize(
    "script, message",
    [
        ("kill -9 $$", "was ended by SIGKILL, perhaps because memory ran out; run the same command again to resume"),
        ("kill -15 $$", "was ended by SIGTERM; run the same"),
        (
            "echo 'OSError: [Errno 28] No space left on device'; exit 1",
            "No space left on device.*: make room; run the same",
        ),
    ],
)
def test_what_comes_from_outside_is_no_failure_of_the_command(tmp_path, script, message):
    with pytest.raises(UsageError, match=message):
        Processes().run(["sh", "-c", script], tmp_path / "log", {})


def test_a_crash_of_its_own_is_a_failure(tmp_path):
    ended = Processes().run(["sh", "-c", "kill -11 $$"], tmp_path / "log", {})
    assert ended.code == -11


def test_a_command_is_shown_as_it_is_typed():
    command = ["/usr/bin/fairseq-train", "data", "--adam-betas", "(0.9, 0.98)"]
    assert as_typed(command, {"A": "1"}) == "A=1 fairseq-train data --adam-betas '(0.9, 0.98)'"
