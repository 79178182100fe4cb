"""What all tests share: the repository's folders, real text, and the command lines."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

# Tests fork, which a process that has looked for a GPU cannot: those that need one are for runs of their own,
# SHARNN_TEST_CUDA=1 scripts/test.sh -n 0 -m cuda
if os.environ.get("SHARNN_TEST_CUDA") != "1":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

# Before torch starts threads: tests fork, and a forked child of a process with running OpenMP threads may wait for them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Where tests run in the background, the shell has them ignore Ctrl-C, and commands that they start inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
USER_DIR = str(ROOT / "fairseq_sharnn")

# A model that trains in a second, for tests that need a real one.
MICRO = "--arch sha_rnn --decoder-embed-dim 32 --boom-dim 64 --decoder-layers 2 --context-length 96".split()
RECIPE = "--optimizer lamb_min_trust --lr 5e-3 --lr-scheduler fixed --clip-norm 0.25".split()


class Finished(NamedTuple):
    """A command that ran: its exit code, all it printed, and its name (`fairseq-train`, `prepare_text`) if it is known."""

    code: int
    output: str
    program: str = ""

    def line(self, containing: str) -> str:
        """The last line of the output that contains the text."""
        found = [line for line in self.output.splitlines() if containing in line]
        assert found, f"no line has {containing!r}:\n{self.output[-3000:]}"
        return found[-1]


def run_command(*command, timeout=300, cwd=ROOT, env=None) -> Finished:
    """Start a real command line and wait for it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **(env or {})}
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # so that a command that hangs ends with all it has started
    )
    try:
        output, _ = process.communicate(timeout=timeout)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            print(output.decode("utf-8", "replace"))
        raise
    return Finished(process.returncode, output.decode("utf-8", "replace"))


def free_port() -> int:
    """A port for torchrun to listen on, outside the range that connections take theirs from (Linux: 32768 and up)."""
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def fairseq(tool: str, *arguments, **options) -> Finished:
    """Run fairseq-TOOL of this environment."""
    return run_command(Path(sys.executable).with_name(f"fairseq-{tool}"), *arguments, **options)


def train(data, save_dir, *arguments, model=MICRO, recipe=RECIPE, **options) -> Finished:
    """Run fairseq-train on bytes with the micro model, on CPU."""
    return fairseq(
        "train",
        data,
        *["--user-dir", USER_DIR, "--task", "byte_level_lm", *model, *recipe],
        *["--tokens-per-sample", 32, "--batch-size", 4, "--cpu", "--log-format", "simple", "--log-interval", 1],
        *["--save-dir", save_dir, *arguments],
        **options,
    )


def eval_lm(data, checkpoint, *arguments, **options) -> Finished:
    """Run fairseq-eval-lm on the test split, on CPU."""
    return fairseq(
        "eval-lm",
        data,
        *["--user-dir", USER_DIR, "--task", "byte_level_lm", "--path", checkpoint, "--gen-subset", "test", "--cpu"],
        *arguments,
        **options,
    )


def real_text(size: int) -> bytes:
    """The first bytes of Python's own documentation topics: English that is on every machine."""
    import pydoc_data.topics

    return Path(pydoc_data.topics.__file__).read_bytes()[:size]


def write_corpus(folder: Path, train: int = 20000, valid: int = 1500, test: int = 2001) -> Path:
    """A data folder of real text with a few awkward bytes, of the given sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    text = real_text(train + valid + test - 6) + b"\xff\x00\r\n\xc3\x28"
    (folder / "train").write_bytes(text[:train])
    (folder / "valid").write_bytes(text[train : train + valid])
    (folder / "test").write_bytes(text[train + valid :])
    return folder


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("data") / "corpus")


@pytest.fixture(scope="session")
def trained(tmp_path_factory, corpus):
    """A micro model trained for 30 updates by fairseq-train: its folder and what the command printed."""
    folder = tmp_path_factory.mktemp("trained")
    finished = train(corpus, folder, "--max-update", 30, "--warmup-updates", 5)
    assert finished.code == 0, finished.output[-3000:]
    return folder, finished
