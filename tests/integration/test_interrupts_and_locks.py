"""What happens around a run: Ctrl-C, two runs into one folder, a result on stdout, leftovers of other jobs."""

import datetime
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fairseq_sharnn.compat import launching
from fairseq_sharnn.compat.save_folder import LOCK, only_writer_of
from fairseq_sharnn.errors import UsageError
from tests.conftest import MICRO, RECIPE, ROOT, USER_DIR
from tests.integration.checkpoints import load
from tests.integration.forked import eval_forked, train_forked

LAUNCHED = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29999"}


def start(corpus, save_dir, *options) -> subprocess.Popen:
    return subprocess.Popen(
        [
            *(Path(sys.executable).with_name("fairseq-train"), str(corpus), "--user-dir", USER_DIR),
            *("--task", "byte_level_lm", *MICRO, *RECIPE, "--tokens-per-sample", "32", "--batch-size", "4", "--cpu"),
            *("--log-format", "simple", "--log-interval", "1", "--save-dir", str(save_dir), *options),
        ],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def interrupt_after(process: subprocess.Popen, update: int) -> str:
    """Send SIGINT, as Ctrl-C does, when the log has come to an update. Returns all output."""
    output = []
    for line in process.stdout:
        output.append(line)
        if f"num_updates={update}," in line:
            os.killpg(process.pid, signal.SIGINT)
    process.wait(timeout=60)
    return "".join(output)


@pytest.mark.parametrize("saves", [True, False])
def test_ctrl_c_says_where_it_stopped_and_what_resumes(corpus, tmp_path, saves):
    options = ("--max-update", "500", *(("--save-interval-updates", "5") if saves else ()))
    process = start(corpus, tmp_path, *options)
    output = interrupt_after(process, 8)
    assert process.returncode == 130 and "Traceback" not in output, output[-3000:]
    last = output.rstrip().splitlines()[-1]
    stopped = re.match(r"interrupted after update (\d+): (.*)$", last)
    assert stopped and int(stopped[1]) >= 8, last
    path = tmp_path / "checkpoint_last.pt"
    assert sorted(item.name for item in tmp_path.iterdir() if item.suffix != ".pt") == []
    if saves:
        assert stopped[2] == f"the same command resumes from {path}"
        reached = load(path)["optimizer_history"][-1]["num_updates"]
        again = train_forked(corpus, tmp_path, "--max-update", reached + 1, "--log-interval", 1)
        assert again.code == 0 and f"num_updates={reached + 1}," in again.output, again.output[-3000:]
        assert f"num_updates={reached}," not in again.output, "what is done is not done again"
    else:
        assert stopped[2] == f"there is no {path} yet, so the same command starts from the beginning"


def test_a_save_dir_that_another_training_writes_is_refused(corpus, tmp_path):
    with only_writer_of(str(tmp_path)):
        refused = train_forked(corpus, tmp_path)
        assert refused.code == 1 and "Traceback" not in refused.output
        assert refused.line("error:") == (
            f"error: --save-dir {tmp_path} is being written by another training (process {os.getpid()}): wait until it "
            "has ended, or choose another --save-dir"
        )
        assert [item.name for item in tmp_path.iterdir()] == [LOCK]
        assert train_forked(corpus, tmp_path, "--no-save").code == 0, "what writes nothing needs no lock"
    finished = train_forked(corpus, tmp_path)
    assert finished.code == 0 and not (tmp_path / LOCK).exists(), finished.output[-3000:]


def test_the_lock_of_a_killed_training_is_free(tmp_path):
    """Also while a loader process of it still runs."""
    code = (
        "import os, sys, time\n"
        "from fairseq_sharnn.compat.save_folder import only_writer_of\n"
        "with only_writer_of(sys.argv[1]):\n"
        "    if os.fork():\n"
        "        print('locked', flush=True)\n"
        "    time.sleep(60)\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(UsageError, match=rf"another training \(process {holder.pid}\)"), only_writer_of(
            str(tmp_path)
        ):
            pass
        holder.kill()
        holder.wait()
        assert (tmp_path / LOCK).exists(), "nobody removed it"
        with only_writer_of(str(tmp_path)):
            pass
        assert not (tmp_path / LOCK).exists()
    finally:
        os.killpg(holder.pid, signal.SIGKILL)
        holder.stdout.close()


def test_the_result_of_eval_lm_is_on_stdout(corpus, trained):
    ended = subprocess.run(
        [
            *(Path(sys.executable).with_name("fairseq-eval-lm"), corpus, "--user-dir", USER_DIR, "--cpu"),
            *("--task", "byte_level_lm", "--path", trained[0] / "checkpoint_last.pt", "--gen-subset", "test"),
            *("--tokens-per-sample", "32"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    loss, perplexity = re.search(r"Loss \(base 2\): ([\d.]+), Perplexity: ([\d.]+)", ended.stderr).groups()
    assert ended.stdout == f"{corpus / 'test'}: {loss} bits per byte, perplexity {perplexity}, static\n"


@pytest.mark.parametrize(
    "leftover",
    [
        {"RANK": "3", "MASTER_ADDR": "no-such-host.invalid"},
        {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "no-such-host.invalid", "MASTER_PORT": "29500"},
        {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "1"},
    ],
    ids=["a part", "a lone worker", "Slurm"],
)
def test_one_process_trains_beside_leftovers_of_another_job(corpus, tmp_path, monkeypatch, leftover):
    for name, value in leftover.items():
        monkeypatch.setenv(name, value)
    finished = train_forked(corpus, tmp_path)
    assert finished.code == 0 and "training on 1 devices" in finished.output, finished.output[-3000:]


def wait_one_second() -> None:
    launching.LONGEST_WAIT = datetime.timedelta(seconds=1)


@pytest.mark.parametrize(
    "leftover, message",
    [
        (LAUNCHED, "the other workers of WORLD_SIZE=2 did not come to MASTER_ADDR=127.0.0.1 MASTER_PORT=29999"),
        ({**LAUNCHED, "RANK": "1"}, "the other workers of WORLD_SIZE=2 did not come"),
        ({**LAUNCHED, "RANK": "x"}, "RANK=x and WORLD_SIZE=2 in the environment are not the place of a worker"),
        ({**LAUNCHED, "RANK": "2"}, "RANK=2 and WORLD_SIZE=2 in the environment are not the place of a worker"),
    ],
)
def test_workers_that_never_come_are_told_in_one_line(corpus, tmp_path, monkeypatch, leftover, message):
    for name, value in leftover.items():
        monkeypatch.setenv(name, value)
    finished = train_forked(corpus, tmp_path, before=wait_one_second)
    assert finished.code == 1 and "Traceback" not in finished.output, finished.output[-3000:]
    error = finished.line("error:")
    assert error.startswith(f"error: {message}")
    assert "unset RANK WORLD_SIZE MASTER_ADDR MASTER_PORT" in error
    assert list(tmp_path.iterdir()) == []


def interrupt_the_scoring() -> None:
    from fairseq.sequence_scorer import SequenceScorer

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    SequenceScorer.generate = interrupted


def test_evaluation_ends_in_one_line_on_ctrl_c(corpus, trained):
    options = ("--tokens-per-sample", 32)
    finished = eval_forked(corpus, trained[0] / "checkpoint_last.pt", *options, before=interrupt_the_scoring)
    assert finished.code == 130 and "Traceback" not in finished.output
    assert finished.output.rstrip().splitlines()[-1] == "interrupted"
