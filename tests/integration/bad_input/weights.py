"""The model in the package, where it is missing."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from fairseq_sharnn.portable.shipped import SHIPPED
from tests.conftest import ROOT, Finished, run_command
from tests.integration.bad_input.common import Case, World


def clone(world: World) -> Path:
    """A clone of the package, as far as the command needs it."""
    return world.data.parent / "clone"


def lose_the_weights(world: World) -> None:
    """A clone without the weights."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "fairseq_sharnn", clone(world) / "fairseq_sharnn", ignore=ignored)
    author = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    for command in (("init", "-q"), ("add", "-f", "fairseq_sharnn/portable"), (*author, "commit", "-q", "-m", "all")):
        subprocess.run(["git", *command], cwd=clone(world), check=True, timeout=60)
    (clone(world) / SHIPPED.relative_to(ROOT) / "model.safetensors").unlink()


def samples(*options):
    """`sample` in the clone."""
    command = (sys.executable, "-m", "fairseq_sharnn", "sample", "--length", 3, *options)
    return lambda world: run_command(*command, cwd=clone(world))._replace(program="sharnn")


def puts_back(world: World) -> Finished:
    """The command of the message, to the letter."""
    told = samples()(world).output
    subprocess.run(re.search(r"put it back: (.*) \(or name", told)[1], shell=True, check=True, timeout=60)
    return samples()(world)


def names_another(world: World) -> Finished:
    return samples("--model", world.checkpoint)(world)


CASES = [
    Case(
        "the model in the package is missing",
        samples(),
        "the model that comes with the package is missing or damaged, .*: put it back: git -C .* checkout -- ",
        lose_the_weights,
    )
]

# For bad_input/advice.py: rows, words of their messages, and what a user does who follows them.
ADVICE = [
    ((CASES[0].what,), "put it back: git", puts_back),
    ((CASES[0].what,), "name another model with --model", names_another),
]
