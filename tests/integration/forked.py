"""Many runs of fairseq's command lines after one import: each in a forked child, with its own file descriptors.

A child runs the very `cli_main` that the console script starts; a real start costs 5 s of imports, a child none.
"""

import importlib.util
import os
import resource
import sys
import tempfile
import traceback

from fairseq_sharnn.registration import register
from tests.conftest import RECIPE, ROOT, USER_DIR, Finished, run_command

MICRO_MODEL = "--arch sha_rnn --decoder-embed-dim 32 --boom-dim 64 --decoder-layers 2 --context-length 96".split()


def run_forked(tool: str, *arguments, largest_file: int = 0) -> Finished:
    """Run fairseq-TOOL in a forked child; returns exit code and output. largest_file: a quota, in bytes."""
    import fairseq_cli.eval_lm
    import fairseq_cli.hydra_train
    import fairseq_cli.train
    import fairseq_cli.validate

    register()

    modules = {
        "train": fairseq_cli.train,
        "hydra-train": fairseq_cli.hydra_train,
        "eval-lm": fairseq_cli.eval_lm,
        "validate": fairseq_cli.validate,
    }
    return _forked(modules[tool].cli_main, f"fairseq-{tool}", arguments, largest_file)


def run_script(name: str, *arguments) -> Finished:
    """Run scripts/NAME.py in a forked child; in a fresh process where it has sentencepiece learn.

    sentencepiece learns with threads. When a test of this process has had it learn before, a forked child waits for ever.
    """
    path = ROOT / "scripts" / f"{name}.py"
    if name == "tokenization_study" or "sentencepiece" in arguments:
        return run_command(sys.executable, path, *arguments, cwd=os.getcwd())
    spec = importlib.util.spec_from_file_location(f"scripts_{name}", path)
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # as for a script that is started
    spec.loader.exec_module(module)
    return _forked(module.main, str(path), arguments)


def _forked(main, program: str, arguments, largest_file: int = 0) -> Finished:
    with tempfile.TemporaryFile() as output:
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            if largest_file:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
            _become(main, [program, *map(str, arguments)], output)
        _, status = os.waitpid(child, 0)
        output.seek(0)
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
        return Finished(code, output.read().decode("utf-8", "replace"))


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
