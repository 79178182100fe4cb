"""Many runs of fairseq's command lines after one import: each in a forked child of a fork server.

A child runs the very `cli_main` that the console script starts; a real start costs 5 s of imports, a child none.
The test process itself is not forked: sentencepiece, ONNX Runtime and OpenMP leave threads there, and a child of a process
with threads may wait forever for a lock that one of them held. The server only imports, so it has no threads.
"""

import contextlib
import multiprocessing
import os
import signal
import tempfile
import time
from pathlib import Path

from tests.conftest import RECIPE, ROOT, USER_DIR, Finished, free_port

MICRO_MODEL = "--arch sha_rnn --decoder-embed-dim 32 --boom-dim 64 --decoder-layers 2 --context-length 96".split()
LONGEST_RUN = 300  # seconds

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["tests.integration.programs"])


def run_forked(tool: str, *arguments, largest_file: int = 0, before=None) -> Finished:
    """Run fairseq-TOOL in a child; returns exit code and output.

    largest_file: a quota, in bytes. before: a function of a test module, called in the child before the tool.
    """
    name = f"fairseq-{tool}"
    return _finish(_start((name, *arguments), largest_file=largest_file, before=before), name)


def run_script(name: str, *arguments) -> Finished:
    """Run scripts/NAME.py in a child."""
    path = ROOT / "scripts" / f"{name}.py"
    return _finish(_start((path, *arguments)), name)


def train_workers(workers: int, data, save_dir, *arguments) -> Finished:
    """`torchrun --nproc_per_node WORKERS fairseq-train` without torchrun: its variables, and a child a worker.

    As with torchrun, the failure of one ends the others.
    """
    together = {
        "WORLD_SIZE": workers,
        "LOCAL_WORLD_SIZE": workers,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": free_port(),
    }
    words = (data, "--user-dir", USER_DIR, "--task", "byte_level_lm", *MICRO_MODEL, *RECIPE, "--cpu")
    words += ("--tokens-per-sample", 32, "--log-format", "simple", "--log-interval", 1, "--save-dir", save_dir)
    places = [{**together, "RANK": rank, "LOCAL_RANK": rank} for rank in range(workers)]
    children = [_start(("fairseq-train", *words, *arguments), place) for place in places]
    deadline = time.monotonic() + LONGEST_RUN
    while any(child.exitcode is None for child in children):
        if any(child.exitcode for child in children) or time.monotonic() > deadline:
            for child in children:
                _kill(child)
        time.sleep(0.02)
    first = next((child.exitcode for child in children if child.exitcode), 0)
    return Finished(first, "".join(_text(child) for child in children), "fairseq-train")


def _start(argv, environment=None, largest_file: int = 0, before=None):
    """Start a child of the server; returns its process, with the path of its output as `output`."""
    from tests.integration.programs import become

    descriptor, output = tempfile.mkstemp(prefix="output-")
    os.close(descriptor)
    variables = {**os.environ, **{name: str(value) for name, value in (environment or {}).items()}}
    words = [str(word) for word in argv]
    child = _server.Process(target=become, args=(words, output, variables, largest_file, before))
    child.output = output
    child.start()
    return child


def _finish(child, name: str) -> Finished:
    child.join(LONGEST_RUN)
    late = child.exitcode is None
    _kill(child)
    finished = Finished(child.exitcode, _text(child), name)
    assert not late, f"{name} has not ended after {LONGEST_RUN} s:\n{finished.output[-3000:]}"
    return finished


def _kill(child) -> None:
    """End a child and all it has started."""
    if child.exitcode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.join()


def _text(child) -> str:
    """What the child printed. Removes the file."""
    text = Path(child.output).read_text("utf-8", "replace")
    os.unlink(child.output)
    return text


def train_forked(data, save_dir, *arguments, model=MICRO_MODEL, recipe=RECIPE, **options) -> Finished:
    """Run fairseq-train on bytes with the micro model, on CPU, for two updates unless `arguments` say otherwise."""
    return run_forked(
        "train",
        data,
        *["--user-dir", USER_DIR, "--task", "byte_level_lm", *model, *recipe],
        *["--tokens-per-sample", 32, "--batch-size", 4, "--cpu", "--log-format", "simple", "--max-update", 2],
        *["--save-dir", save_dir, *arguments],
        **options,
    )


def eval_forked(data, checkpoint, *arguments, **options) -> Finished:
    """Run fairseq-eval-lm on the test split, on CPU."""
    return run_forked(
        "eval-lm",
        data,
        *["--user-dir", USER_DIR, "--task", "byte_level_lm", "--path", checkpoint, "--gen-subset", "test", "--cpu"],
        *arguments,
        **options,
    )
