"""Many runs of fairseq's command lines after one import: each in a forked child, with its own file descriptors.

A child runs the very `cli_main` that the console script starts; a real start costs 5 s of imports, a child none.
"""

import contextlib
import importlib.util
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from fairseq_sharnn.registration import register
from tests.conftest import RECIPE, ROOT, USER_DIR, Finished, free_port, run_command

MICRO_MODEL = "--arch sha_rnn --decoder-embed-dim 32 --boom-dim 64 --decoder-layers 2 --context-length 96".split()


def run_forked(tool: str, *arguments, largest_file: int = 0) -> Finished:
    """Run fairseq-TOOL in a forked child; returns exit code and output. largest_file: a quota, in bytes."""
    import fairseq_cli.eval_lm
    import fairseq_cli.generate
    import fairseq_cli.hydra_train
    import fairseq_cli.interactive
    import fairseq_cli.train
    import fairseq_cli.validate

    register()

    modules = {
        "train": fairseq_cli.train,
        "hydra-train": fairseq_cli.hydra_train,
        "eval-lm": fairseq_cli.eval_lm,
        "generate": fairseq_cli.generate,
        "interactive": fairseq_cli.interactive,
        "validate": fairseq_cli.validate,
    }
    return _forked(modules[tool].cli_main, f"fairseq-{tool}", arguments, largest_file)


def run_script(name: str, *arguments, learns: bool = True) -> Finished:
    """Run scripts/NAME.py in a forked child; in a fresh process where it has sentencepiece learn.

    sentencepiece learns with threads. When a test of this process has had it learn before, a forked child waits for ever.
    learns: False promises that the script ends before that.
    """
    path = ROOT / "scripts" / f"{name}.py"
    if learns and (name == "tokenization_study" or "sentencepiece" in arguments):
        return run_command(sys.executable, path, *arguments, cwd=os.getcwd())._replace(program=name)
    spec = importlib.util.spec_from_file_location(f"scripts_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return _forked(module.main, str(path), arguments)


def train_workers(workers: int, data, save_dir, *arguments) -> Finished:
    """`torchrun --nproc_per_node WORKERS fairseq-train` without torchrun: its variables, and a forked child a worker.

    As with torchrun, the failure of one ends the others.
    """
    import fairseq_cli.train

    import fairseq_sharnn  # noqa: F401

    together = {
        "WORLD_SIZE": workers,
        "LOCAL_WORLD_SIZE": workers,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": free_port(),
    }
    words = (data, "--user-dir", USER_DIR, "--task", "byte_level_lm", *MICRO_MODEL, *RECIPE, "--cpu")
    words += ("--tokens-per-sample", 32, "--log-format", "simple", "--log-interval", 1, "--save-dir", save_dir)
    with contextlib.ExitStack() as stack:
        children = {}
        for rank in range(workers):
            output = stack.enter_context(tempfile.TemporaryFile())
            environment = {**together, "RANK": rank, "LOCAL_RANK": rank}
            pid = _start(fairseq_cli.train.cli_main, "fairseq-train", (*words, *arguments), output, environment)
            children[pid] = output
        codes = {}
        while len(codes) < workers:
            for pid in children.keys() - codes.keys():
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    codes[pid] = _code(status)
            if any(codes.values()):
                for pid in children.keys() - codes.keys():
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        texts = [_text(output) for output in children.values()]
    return Finished(next(filter(None, codes.values()), 0), "".join(texts), "fairseq-train")


def _forked(main, program: str, arguments, largest_file: int = 0) -> Finished:
    with tempfile.TemporaryFile() as output:
        child = _start(main, program, arguments, output, largest_file=largest_file)
        _, status = os.waitpid(child, 0)
        return Finished(_code(status), _text(output), Path(program).stem)


def _start(main, program: str, arguments, output, environment=None, largest_file: int = 0) -> int:
    """Fork a child that runs main; returns its number."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        if largest_file:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
        os.environ.update({name: str(value) for name, value in (environment or {}).items()})
        _become(main, [program, *map(str, arguments)], output)
    return child


def _code(status: int) -> int:
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)


def _text(output) -> str:
    output.seek(0)
    return output.read().decode("utf-8", "replace")


def _become(main, argv, output) -> None:
    """In the child: point every stream at `output`, run, and leave as the interpreter would."""
    code = 1
    try:
        for descriptor in (1, 2):
            os.dup2(output.fileno(), descriptor)
        sys.stdout = open(1, "w", closefd=False)
        sys.stderr = open(2, "w", closefd=False)
        import logging

        form = "%(asctime)s | %(levelname)s | %(name)s | %(message)s"
        logging.basicConfig(stream=sys.stdout, level=logging.INFO, format=form, force=True)
        sys.argv = argv
        try:
            main()
            code = 0
        except SystemExit as error:  # what the interpreter does with it
            if error.code is None or isinstance(error.code, int):
                code = error.code or 0
            else:
                print(error.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def train_forked(data, save_dir, *arguments, model=MICRO_MODEL, recipe=RECIPE, **options) -> Finished:
    return run_forked(
        "train",
        data,
        *["--user-dir", USER_DIR, "--task", "byte_level_lm", *model, *recipe],
        *["--tokens-per-sample", 32, "--batch-size", 4, "--cpu", "--log-format", "simple", "--max-update", 2],
        *["--save-dir", save_dir, *arguments],
        **options,
    )


def eval_forked(data, checkpoint, *arguments) -> Finished:
    return run_forked(
        "eval-lm",
        data,
        *["--user-dir", USER_DIR, "--task", "byte_level_lm", "--path", checkpoint, "--gen-subset", "test", "--cpu"],
        *arguments,
    )
