"""What a fork server imports once (`tests.integration.forked`), and what each of its children becomes: a program."""

import importlib.util
import logging
import os
import resource
import sys
import traceback

import fairseq_cli.eval_lm
import fairseq_cli.generate
import fairseq_cli.hydra_train
import fairseq_cli.interactive
import fairseq_cli.train
import fairseq_cli.validate

from fairseq_sharnn.registration import register

register()


def program(name: str):
    """The function that the console script `name` starts, or `main` of the script with this path."""
    if name.startswith("fairseq-"):
        module = getattr(fairseq_cli, name[len("fairseq-") :].replace("-", "_"))
        return module.cli_main
    spec = importlib.util.spec_from_file_location("script", name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def become(argv, output, environment, largest_file=0, before=None) -> None:
    """In a child: write every stream to the file `output`, run argv[0], and exit as the interpreter would.

    environment: all its variables. largest_file: a quota, in bytes. before: a function to call before the program starts.
    """
    os.setsid()  # so that a program that hangs ends with all it has started
    code = 1
    try:
        file = os.open(output, os.O_WRONLY | os.O_APPEND)
        for descriptor in (1, 2):
            os.dup2(file, descriptor)
        sys.stdout = open(1, "w", closefd=False)
        sys.stderr = open(2, "w", closefd=False)
        os.environ.clear()
        os.environ.update(environment)
        if largest_file:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
        form = "%(asctime)s | %(levelname)s | %(name)s | %(message)s"
        logging.basicConfig(stream=sys.stdout, level=logging.INFO, format=form, force=True)
        sys.argv = list(argv)
        code = _exit_code(argv[0], before)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _exit_code(name: str, before) -> int:
    try:
        if before:
            before()
        program(name)()
    except SystemExit as error:  # what the interpreter does with it
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        print(error.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
