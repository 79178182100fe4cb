"""Checkpoints that are damaged, missing or of something else."""

import shutil

import torch

from tests.integration.bad_input.common import Case, evaluates, resumes, trains
from tests.integration.forked import train_forked

TINY_LSTM = "--arch lstm_lm --decoder-embed-dim 32 --decoder-hidden-size 32 --decoder-out-embed-dim 32".split()
DAMAGED = r"cannot load checkpoint \S+checkpoint_last.pt: it is damaged or not a fairseq checkpoint"


def cut_short(world):
    content = world.checkpoint.read_bytes()
    world.checkpoint.write_bytes(content[: len(content) // 2])


def altered(world):
    content = bytearray(world.checkpoint.read_bytes())
    for place in range(len(content) // 3, len(content) // 3 + 2000):
        content[place] ^= 0x5A
    world.checkpoint.write_bytes(bytes(content))


def not_a_checkpoint(world):
    world.checkpoint.write_bytes(b"once upon a time")


def emptied(world):
    world.checkpoint.write_bytes(b"")


def other_vocabulary(world):
    state = torch.load(world.checkpoint, weights_only=False)
    for name in ("decoder.network.embed.weight", "decoder.network.output_bias"):
        state["model"][name] = state["model"][name][:100].clone()
    torch.save(state, world.checkpoint)


def removed_checkpoint(world):
    world.checkpoint.unlink()


def stopped_in_mid_epoch(change):
    """Train a few updates into `saved`, then change the corpus."""

    def spoil(world):
        shutil.rmtree(world.saved)
        assert train_forked(world.data, world.saved).code == 0
        content = (world.data / "train").read_bytes()
        (world.data / "train").write_bytes(change(content))

    return spoil


CASES = [
    Case("--restore-file missing", trains("--restore-file", "gone.pt"), "--restore-file gone.pt does not exist"),
    Case(
        "--finetune-from-model missing", trains("--finetune-from-model", "x.pt"), "--finetune-from-model x.pt does not"
    ),
    Case(
        "corpus shrank in mid-epoch",
        resumes(),
        r"train has changed since",
        stopped_in_mid_epoch(lambda text: text[:-9]),
    ),
    Case(
        "corpus grew in mid-epoch",
        resumes(),
        r"train has changed since",
        stopped_in_mid_epoch(lambda text: text + b"more"),
    ),
    Case(
        "corpus altered in mid-epoch",
        resumes(),
        r"train has changed since",
        stopped_in_mid_epoch(lambda text: b"x" + text[1:]),
    ),
    Case(
        "disk full at a checkpoint",
        resumes("--reset-dataloader", "--max-update", 99, largest_file=100_000),
        r"cannot write checkpoint \S+: File too large",
    ),
    Case("checkpoint cut short", resumes(), DAMAGED, cut_short),
    Case("checkpoint cut short (evaluation)", evaluates(), DAMAGED, cut_short),
    Case("checkpoint altered", evaluates(), DAMAGED, altered),
    Case("checkpoint is another kind of file", resumes(), DAMAGED, not_a_checkpoint),
    Case("checkpoint empty", evaluates(), DAMAGED, emptied),
    Case("checkpoint missing", evaluates(), r"checkpoint \S+ does not exist: check --path", removed_checkpoint),
    Case(
        "checkpoint of another vocabulary",
        resumes(),
        "vocabulary of 100 symbols, but the task has 260",
        other_vocabulary,
    ),
    Case(
        "checkpoint of another vocabulary (evaluation)",
        evaluates(),
        "vocabulary of 100 symbols, but the task has 260",
        other_vocabulary,
    ),
    Case("checkpoint of other sizes", resumes("--decoder-layers", 3), r"checkpoint \S+ does not fit the model"),
    Case("checkpoint of another architecture", resumes(model=TINY_LSTM), r"checkpoint \S+ does not fit the model"),
    Case(
        "checkpoint of another optimizer",
        resumes("--optimizer", "adam"),
        r"checkpoint \S+: Optimizer does not match; please reset the optimizer \(--reset-optimizer\)",
    ),
]
