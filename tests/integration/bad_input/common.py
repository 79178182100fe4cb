"""What the cases of all kinds share: what they may spoil, and the command lines that they run."""

from pathlib import Path
from typing import Callable, NamedTuple

from tests.conftest import USER_DIR
from tests.integration.forked import eval_forked, run_forked, train_forked


class World(NamedTuple):
    """What a case may spoil: a data folder and a folder with a trained checkpoint, both its own copies."""

    data: Path
    saved: Path

    @property
    def checkpoint(self) -> Path:
        return self.saved / "checkpoint_last.pt"


class Case(NamedTuple):
    what: str
    run: Callable
    message: str
    spoil: Callable = lambda world: None


def trains(*options):
    return lambda world: train_forked(world.data, world.saved.parent / "new", *options)


def resumes(*options, **model):
    return lambda world: train_forked(world.data, world.saved, "--max-update", 9, *options, **model)


def trains_bare(*options):
    """fairseq-train with no option but these that it could do without."""
    model = ("--arch", "sha_rnn_tiny", "--optimizer", "lamb_min_trust", "--lr", 1e-3, "--cpu", "--user-dir", USER_DIR)
    return lambda world: run_forked("train", world.data, *model, "--save-dir", world.saved.parent / "new", *options)


def evaluates_without(option):
    """fairseq-eval-lm on the data, without one of its usual options."""
    given = {"--user-dir": USER_DIR, "--task": "byte_level_lm", "--gen-subset": "test", "--path": "x"}
    given.pop(option)
    return lambda world: run_forked("eval-lm", world.data, "--cpu", *[part for pair in given.items() for part in pair])


def evaluates(*options):
    return lambda world: eval_forked(world.data, world.checkpoint, "--tokens-per-sample", 32, *options)


def remove(name):
    return lambda world: (world.data / name).unlink()


def write(name, content):
    return lambda world: (world.data / name).write_bytes(content)
