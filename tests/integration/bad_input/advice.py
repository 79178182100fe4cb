"""What a user does who follows the messages of the table to the letter, and the command that works then.

`SETTINGS` are values that messages ask for: one command takes many of them at once. `STEPS` are done one by one. `WITHOUT`
are messages that only say what is wrong.
"""

import re
import shutil
import sys
from typing import Callable, Dict, List, NamedTuple, Tuple

from tests.conftest import ROOT, Finished, run_command
from tests.integration.bad_input import dynamic, text, weights
from tests.integration.bad_input.common import World, evaluates, resumes, trains, trains_bare
from tests.integration.forked import eval_forked, run_script, train_forked

# For each row that asks for a value: words of the message, and the options that a user gives then (none if another row of
# the same command gives them).
Setting = Tuple[str, Tuple]

TRAINING: List[Dict[str, Setting]] = [
    {
        "heads do not divide the width": ("choose a divisor (the paper has 1)", ("--attention-heads", 1)),
        "no heads": ("must be at least 1", ("--attention-heads", 1)),
        "Boom narrower than the width": ("it must be at least as wide", ("--boom-dim", 32)),
        "no such attention layer": ("numbered 0 to 1", ("--attention-layers", "0,1")),
        "context not above the chunk": ("raise the first", ("--context-length", 33)),
        "min-trust of 1": ("must be in [0, 1)", ("--min-trust", 0)),
        "one beta": ("takes two numbers such as '(0.9, 0.999)'", ("--lamb-betas", "(0.9, 0.999)")),
        "epsilon negative": ("must not be negative", ("--lamb-eps", 1e-9)),
        "weight decay negative": ("must not be negative", ("--weight-decay", 0)),
        "trust log every 0 updates": ("must be at least 1", ("--trust-log", "LOG", "--trust-log-interval", 1)),
        "dropout of 1": ("must be in [0, 1)", ("--dropout", 0.5)),
        "DropConnect negative": ("must be in [0, 1)", ("--dropconnect", 0)),
        "update-freq zero": ("must be at least 1", ("--update-freq", 1)),
        "manual rates that are no dictionary": (
            "\"{1: 1e-3, '5-9': 5e-4}\"",
            ("--lr-scheduler", "manual", "--epoch2lr", "{1: 1e-3, '5-9': 5e-4}"),
        ),
        "manual rates of updates that are no numbers": (
            "\"{1: 1e-3, '5-9': 5e-4}\"",
            ("--update2lr", "{1: 1e-3, '5-9': 5e-4}"),
        ),
        "unknown metric": ("is not one of what validation measures: bpb", ("--best-checkpoint-metric", "bpb")),
        "more workers than GPUs": ("give 1", ("--distributed-world-size", 1)),
        "workers of GPUs that are not there": ("leave it out", ()),
        "flat parameters": ("use --ddp-backend legacy_ddp or c10d", ("--ddp-backend", "c10d")),
    },
    {
        "unknown choice of attention layers": (
            "use none, second-to-last, all, or numbers",
            ("--attention-layers", "all"),
        ),
        "no layers": ("must be at least 1", ("--decoder-layers", 1)),
        "chunk length zero": ("must be at least 1", ("--tokens-per-sample", 1)),
        "batch size zero": ("must be at least 1", ("--batch-size", 1)),
        "min-trust negative": ("must be in [0, 1)", ("--min-trust", 0.5)),
        "beta out of range": ("must be two numbers in [0, 1)", ("--lamb-betas", "(0, 0.5)")),
        "a schedule without its length": (
            "needs the number of its updates: --total-num-update",
            ("--lr-scheduler", "polynomial_decay", "--total-num-update", 9),
        ),
    },
    {
        "adaptive_loss without cutoffs": ("needs a model with --adaptive-softmax-cutoff", ()),
        "adaptive_loss with the default DDP backend": ("use --ddp-backend legacy_ddp", ()),
        "cross_entropy with cutoffs": (
            "use --criterion adaptive_loss --ddp-backend legacy_ddp",
            ("--criterion", "adaptive_loss", "--ddp-backend", "legacy_ddp"),
        ),
        "no ordinary symbol in the first band": ("begin with 5 or more", ("--adaptive-softmax-cutoff", "5,258")),
        "a band of one symbol": ("bands have two or more", ()),
        "cutoff past the vocabulary": ("leave out what is not below", ()),
        "a schedule without its phases": (
            "please specify steps or phase_ratio",
            ("--lr-scheduler", "tri_stage", "--warmup-steps", 1, "--hold-steps", 1, "--decay-steps", 1),
        ),
    },
]
EVALUATION: Dict[str, Setting] = {
    "context not above the chunk (evaluation)": (
        "for a checkpoint: fairseq-eval-lm's --model-overrides",
        ("--tokens-per-sample", 200, "--model-overrides", "{'context_length': 1000}"),
    ),
    "--model-overrides is no dictionary": ("\"{'context_length': 1000}\"", ()),
    "context window negative": ("must not be negative", ("--context-window", 0)),
    "batch size negative (evaluation)": ("must be at least 1", ("--batch-size", 1)),
    "shard that does not exist": ("they count from 0", ("--num-shards", 3, "--shard-id", 2)),
    "no --task (evaluation)": ("give --task byte_level_lm", ()),
    "chunk length zero (evaluation)": ("must be at least 1", ()),
    "no --path": ("name the checkpoint to evaluate with --path", ()),
}


class Step(NamedTuple):
    """rows: whose messages give this advice. advice: its words. do: what a user does; returns the command that works.

    It begins where the first of the rows ended.
    """

    rows: Tuple[str, ...]
    advice: str
    do: Callable[[World], Finished]


def on(world: World, *options, split: str = "new") -> Finished:
    return train_forked(world.data, world.saved.parent / split, *options)


def evaluated(folder, checkpoint, *options) -> Finished:
    return eval_forked(folder, checkpoint, "--tokens-per-sample", 32, *options)


def renamed(world: World) -> Finished:
    (world.data.parent / "my:data").rename(world.data)
    return on(world)


def made_by_prepare_corpus(world: World) -> Finished:
    made = run_script("prepare_corpus", "file", world.data, ROOT / "README.md")
    assert made.code == 0, made.output
    return on(world)


def samples(world: World) -> Finished:
    command = ("-m", "fairseq_sharnn", "sample", "--model", world.checkpoint, "--length", 5)
    return run_command(sys.executable, *command)


def with_the_old_file(world: World) -> Finished:
    content = (world.data / "train").read_bytes()
    (world.data / "train").write_bytes(content[:-4])  # "more" was appended
    return resumes()(world)


def earlier_one(world: World) -> Finished:
    """Each of the ways that the message names: the first ones are checked here."""
    best = world.saved / "checkpoint_best.pt"
    for done in (on(world, "--restore-file", best, "--max-update", 31), evaluated(world.data, best)):
        assert done.code == 0, done.output[-2000:]
    world.checkpoint.unlink()
    return on(world, split=world.saved.name)


def same_words(world: World) -> Finished:
    """DATA prepared again from the text that the checkpoint was trained on."""
    shutil.rmtree(world.saved / "prepared")
    content = (world.data / "train").read_bytes()
    (world.data / "train").write_bytes(content.replace(b"new words, new words\n", b""))
    text.prepared(world)
    return text.evaluates_text("model/checkpoint_last.pt")(world)


def allowed_size(number: str, *options) -> Callable[[World], Finished]:
    """The --vocab-size that the message names."""

    def do(world: World) -> Finished:
        refused = text.prepares(*options[:1], "--vocab-size", 200 if "least" in number else 99999, *options[1:])(world)
        size = re.search(rf"{number} (\d+)", refused.line("error:"))
        assert size, refused.output
        return text.prepares(*options[:1], "--vocab-size", size[1], *options[1:])(world)

    return do


def same_tokenizer_for_both(world: World) -> Finished:
    shutil.rmtree(world.saved / "two")
    shutil.copytree(world.saved / "one", world.saved / "two")
    return text.trains_on_both(world)


def prepared_again(world: World) -> Finished:
    model = (world.saved / "prepared" / "sentencepiece.model").read_bytes()
    (world.saved / "prepared" / "sentencepiece.model").write_bytes(model[:-1])  # put back: one byte was appended
    return text.evaluates_text("model/checkpoint_last.pt")(world)


DAMAGED = (
    "checkpoint cut short",
    "checkpoint cut short (evaluation)",
    "checkpoint altered",
    "checkpoint is another kind of file",
    "checkpoint empty",
)
CHANGED = ("corpus grew in mid-epoch", "corpus shrank in mid-epoch", "corpus altered in mid-epoch")
DIFFERENT_TEXT = "use the folder that it was trained on, or one prepared with the same tokenizer"
GENERATE = ("fairseq-generate", "fairseq-interactive")
NO_SUCH_SPLIT = ("no train file", "a split is a broken link", "no valid file", "unknown --valid-subset")
SIDE_FILES = (
    "names of the unknown words missing",
    "names of the unknown words cut short",
    "bytes of the tokens are another text's",
)
STEPS = [
    Step(("a colon in the name of the DATA folder",), "rename the folder", renamed),
    Step(
        ("data folder missing", "data folder missing (evaluation)"),
        "prepare_corpus.py makes one",
        made_by_prepare_corpus,
    ),
    Step(
        NO_SUCH_SPLIT,
        "choose another split with --train-subset, --valid-subset",
        lambda world: on(world, "--train-subset", "test", "--valid-subset", "test"),
    ),
    Step(("no test file", "unknown --gen-subset"), "--gen-subset", evaluates("--gen-subset", "valid")),
    Step(("train shorter than its lanes",), "lower --batch-size", trains("--batch-size", 3)),
    Step(("valid shorter than its lanes",), "lower --batch-size", trains("--batch-size", 3)),
    Step(("test shorter than its lanes",), "lower --batch-size", evaluates("--batch-size", 8)),
    Step(
        ("DATA of separators only", "--save-dir is a file", "raw bytes for streaming_lm"),
        r"give the DATA folder|name a folder|raw bytes are read by --task byte_level_lm",
        trains("--task", "byte_level_lm"),
    ),
    Step(GENERATE, "use python -m fairseq_sharnn sample", samples),
    Step(
        ("no batch size", "no --task"),
        "with --batch-size|give --task byte_level_lm",
        trains_bare("--batch-size", 4, "--task", "byte_level_lm", "--max-update", 1),
    ),
    Step(CHANGED, "put the old file back", with_the_old_file),
    Step(CHANGED, "with --reset-dataloader --reset-meters", resumes("--reset-dataloader", "--reset-meters")),
    Step(
        ("disk full at a checkpoint",),
        "start the same command again",
        resumes("--reset-dataloader", "--max-update", 33),
    ),
    Step(
        DAMAGED, r"an earlier one with --restore-file \(training\) or --path \(evaluation\), or delete it", earlier_one
    ),
    Step(
        ("checkpoint missing",),
        "check --path",
        lambda world: evaluated(world.data, world.saved / "checkpoint_best.pt"),
    ),
    Step(
        ("checkpoint of other sizes", "checkpoint of another architecture"),
        "use the --arch and sizes it was trained with",
        resumes("--max-update", 31),
    ),
    Step(
        ("checkpoint of other sizes", "checkpoint of another architecture"),
        "another --save-dir",
        trains("--decoder-layers", 3),
    ),
    Step(
        ("checkpoint of another optimizer",),
        r"\(--reset-optimizer\)",
        resumes("--optimizer", "adam", "--reset-optimizer", "--max-update", 31),
    ),
    Step(
        (
            "text that is not UTF-8, as words",
            "text that is not UTF-8, as pieces",
            "training text that is not UTF-8, as pieces",
        ),
        "prepare it with the bytes command, which takes anything",
        text.prepares("bytes"),
    ),
    Step(("more words than the text has",), r"it has \d+ words", allowed_size("it has", "word")),
    Step(("more pieces than the text allows",), "choose at most N", allowed_size("choose at most", "sentencepiece")),
    Step(
        ("more pieces than the text allows (BPE)",),
        "choose at most N",
        allowed_size("choose at most", "sentencepiece", "--model-type", "bpe"),
    ),
    Step(("fewer pieces than characters",), "choose at least N", allowed_size("choose at least", "sentencepiece")),
    Step(
        ("a model file of another vocabulary",),
        "leave --vocab-size out",
        text.prepares("sentencepiece", "--model", "SAVED/model"),
    ),
    Step(
        ("a model file of another vocabulary",),
        "train a model by leaving out --model",
        text.prepares("sentencepiece", "--vocab-size", 330),
    ),
    Step(("OUT is there already",), "name a new one", text.prepares("bytes")),
    Step(
        ("words for a checkpoint of bytes", "chunk length zero (evaluate_text.py)"),
        f"{DIFFERENT_TEXT}|must be at least 1",
        text.evaluates_bytes("--tokens-per-sample", 1),
    ),
    Step(("DATA prepared by another tokenizer than the checkpoint's",), DIFFERENT_TEXT, same_words),
    Step(("DATA folders of different vocabularies",), "prepare them with the same tokenizer", same_tokenizer_for_both),
    Step(("sentencepiece.model is another one",), "put it back", prepared_again),
    Step(("no bytes and words next to the tokens", *SIDE_FILES), "prepare the text (again|with scripts)", same_words),
    Step(
        ("a task that drops the state",),
        "give --task streaming_lm",
        lambda world: evaluated(
            world.saved / "prepared", world.saved / "model" / "checkpoint_last.pt", "--task", "streaming_lm"
        ),
    ),
]
STEPS += [Step(*advice) for advice in (*dynamic.ADVICE, *weights.ADVICE)]
# Messages that say what is wrong and leave it at that, because what to do depends on what the user wants.
WITHOUT = {
    *("empty train file", "empty valid file", "empty test file", "a folder where a split belongs"),
    *("trust log in no folder", "--restore-file missing", "--finetune-from-model missing"),
    *("empty training text, as pieces", "text to prepare is missing", "text to prepare is empty"),
    *("a model file that is none", "--json is a folder", "no checkpoint to evaluate"),
    # the checkpoint of these is made by hand: no --task trained it
    *("checkpoint of another vocabulary", "checkpoint of another vocabulary (evaluation)"),
}
