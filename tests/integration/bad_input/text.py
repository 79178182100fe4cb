"""Texts, tokenizers and prepared folders, for prepare_text.py, evaluate_text.py and --task streaming_lm."""

import shutil
from contextlib import contextmanager

import numpy as np

from fairseq_sharnn.data.text import prepare
from fairseq_sharnn.data.text.learn import train_pieces
from tests.integration.bad_input.common import Case, remove, write
from tests.integration.forked import eval_forked, run_script, train_forked

SPLITS = ("train", "valid", "test")


def text_alone(world):
    """Without the bytes that are not UTF-8."""
    content = (world.data / "test").read_bytes()
    (world.data / "test").write_bytes(content.decode("utf-8", "ignore").encode())


def text_and(spoil):
    return lambda world: (text_alone(world), spoil(world))


@contextmanager
def silent(total, what):
    yield lambda count: None


def prepared(world, kind="word", text=b"", name="prepared"):
    """A DATA folder of words or pieces next to the raw one, copied for this world."""
    text_alone(world)
    (world.data / "train").write_bytes((world.data / "train").read_bytes() + text)
    sources = {split: str(world.data / split) for split in SPLITS}
    out = str(world.saved / name)
    if kind == "word":
        prepare.prepare_words(out, sources, silent)
    else:
        prepare.prepare_pieces(out, sources, silent, size=330)
    return world.saved / name


def prepares(kind, *options):
    """scripts/prepare_text.py on the raw files; where it fails, nothing of its work may be left."""

    def run(world):
        sources = [part for split in SPLITS for part in (f"--{split}", world.data / split)]
        there = sorted(world.data.parent.iterdir())
        options_here = [str(option).replace("SAVED", str(world.saved)) for option in options]
        finished = run_script("prepare_text", kind, world.saved.parent / "new", *sources, *options_here)
        assert finished.code == 0 or sorted(world.data.parent.iterdir()) == there
        return finished

    return run


def trained_on_words(then):
    """A checkpoint of words instead of bytes, then something done to the folder."""

    def spoil(world):
        data = prepared(world)
        shutil.rmtree(world.saved / "model", ignore_errors=True)
        assert train_forked(data, world.saved / "model", "--task", "streaming_lm", "--max-update", 1).code == 0
        then(world, data)

    return spoil


def evaluates_words_without_state(world):
    """fairseq-eval-lm as it is without --task."""
    checkpoint = world.saved / "model" / "checkpoint_last.pt"
    return eval_forked(world.saved / "prepared", checkpoint, "--task", "language_modeling")


def trains_on_both(world):
    folders = f"{world.saved / 'one'}:{world.saved / 'two'}"
    return train_forked(folders, world.saved.parent / "new", "--task", "streaming_lm")


def evaluates_text(checkpoint, data="prepared"):
    return lambda world: run_script("evaluate_text", world.saved / checkpoint, world.saved / data, "--cpu")


def evaluates_bytes(*options):
    return lambda world: run_script("evaluate_text", world.checkpoint, world.data, "--cpu", *options)


def evaluates_into_a_folder(world):
    """What cannot take the name of a folder leaves nothing next to it."""
    (world.saved.parent / "json").mkdir()
    there = sorted(world.saved.parent.iterdir())
    finished = evaluates_bytes("--json", world.saved.parent / "json")(world)
    assert sorted(world.saved.parent.iterdir()) == there
    return finished


def other_words(world, data):
    shutil.rmtree(data)
    prepared(world, text=b"new words, new words\n")


def shorten(path):
    """Without the last two bytes: the last name is not whole."""
    path.write_bytes(path.read_bytes()[:-2])


def model_replaced(world):
    data = prepared(world, "sentencepiece")
    done = train_forked(data, world.saved / "model", "--task", "streaming_lm", "--max-update", 1)
    assert done.code == 0, done.output[-2000:]
    (data / "sentencepiece.model").write_bytes((data / "sentencepiece.model").read_bytes() + b"\0")


def model_file(world):
    text_alone(world)
    lines = (world.data / "train").read_text().splitlines()
    (world.saved / "model").write_bytes(train_pieces(lambda: iter(lines), "unigram", 330))


CASES = [
    Case("text that is not UTF-8, as words", prepares("word"), r"test is not UTF-8 at byte 494: .*the bytes command"),
    Case("text that is not UTF-8, as pieces", prepares("sentencepiece", "--vocab-size", 330), "test is not UTF-8"),
    Case(
        "training text that is not UTF-8, as pieces",
        prepares("sentencepiece", "--vocab-size", 330),
        "train is not UTF-8 at byte 9",
        write("train", b"text\ntext\xff\n"),
    ),
    Case(
        "empty training text, as pieces",
        prepares("sentencepiece", "--vocab-size", 330),
        "train is empty: there is nothing to prepare",
        write("train", b""),
    ),
    Case(
        "more words than the text has",
        prepares("word", "--vocab-size", 9999),
        "--vocab-size 9999 is larger than the training text allows: it has",
        text_alone,
    ),
    Case(
        "more pieces than the text allows",
        prepares("sentencepiece", "--vocab-size", 9999),
        "--vocab-size 9999 is larger than the training text allows: choose at most",
        text_alone,
    ),
    Case(
        "more pieces than the text allows (BPE)",
        prepares("sentencepiece", "--vocab-size", 99999, "--model-type", "bpe"),
        "--vocab-size 99999 is larger than the training text allows: choose at most",
        text_alone,
    ),
    Case(
        "fewer pieces than characters",
        prepares("sentencepiece", "--vocab-size", 200),
        "--vocab-size 200 is too small for this text's characters",
        text_alone,
    ),
    Case(
        "a model file of another vocabulary",
        prepares("sentencepiece", "--model", "SAVED/model", "--vocab-size", 500),
        "model has a vocabulary of 330 pieces, not the 500 of --vocab-size",
        model_file,
    ),
    Case(
        "a model file that is none",
        prepares("sentencepiece", "--model", "SAVED/checkpoint_last.pt"),
        "is not a model of sentencepiece",
    ),
    Case(
        "text to prepare is missing", prepares("word"), r"cannot read \S+valid: No such file", text_and(remove("valid"))
    ),
    Case("text to prepare is empty", prepares("word"), r"\S+valid is empty", text_and(write("valid", b""))),
    Case(
        "OUT is there already",
        lambda world: run_script(
            "prepare_text", "bytes", world.saved, *(p for s in SPLITS for p in (f"--{s}", world.data / s))
        ),
        r"OUT \S+ is there already and not an empty folder",
    ),
    Case(
        "words for a checkpoint of bytes",
        evaluates_text("checkpoint_last.pt"),
        r"was trained on bytes, but DATA \S+ was prepared by scripts/prepare_text.py word",
        prepared,
    ),
    Case(
        "DATA prepared by another tokenizer than the checkpoint's",
        evaluates_text("model/checkpoint_last.pt"),
        "was trained on another vocabulary than that of DATA|has a vocabulary of",
        trained_on_words(other_words),
    ),
    Case(
        "DATA folders of different vocabularies",
        trains_on_both,
        r"DATA folders \S+one and \S+two are of different vocabularies",
        lambda world: (prepared(world, name="one"), prepared(world, text=b"new words, new words\n", name="two")),
    ),
    Case(
        "sentencepiece.model is another one",
        evaluates_text("model/checkpoint_last.pt"),
        r"sentencepiece.model is not the model that \S+ was prepared with",
        model_replaced,
    ),
    Case(
        "no bytes and words next to the tokens",
        evaluates_text("model/checkpoint_last.pt"),
        r"test.bytes.npy is missing",
        trained_on_words(lambda world, data: (data / "test.bytes.npy").unlink()),
    ),
    Case(
        "names of the unknown words missing",
        evaluates_text("model/checkpoint_last.pt"),
        r"test.unknown names 0 words, but \S+test.bin has [1-9]\d* <unk>",
        trained_on_words(lambda world, data: (data / "test.unknown").unlink()),
    ),
    Case(
        "names of the unknown words cut short",
        evaluates_text("model/checkpoint_last.pt"),
        r"test.unknown names [1-9]\d* words, but \S+test.bin has [1-9]\d* <unk>",
        trained_on_words(lambda world, data: shorten(data / "test.unknown")),
    ),
    Case(
        "bytes of the tokens are another text's",
        evaluates_text("model/checkpoint_last.pt"),
        r"test.bytes.npy has \d+ bytes, but tokenizer.json says \d+",
        trained_on_words(lambda world, data: np.save(data / "test.bytes.npy", np.load(data / "test.bytes.npy") + 1)),
    ),
    Case(
        "chunk length zero (evaluate_text.py)",
        evaluates_bytes("--tokens-per-sample", 0),
        "--tokens-per-sample must be at least 1, but it is 0",
    ),
    Case("--json is a folder", evaluates_into_a_folder, r"cannot write \S+json: Is a directory"),
    Case("no checkpoint to evaluate", evaluates_text("gone.pt"), r"checkpoint \S+gone.pt does not exist", prepared),
    Case(
        "a task that drops the state",
        evaluates_words_without_state,
        "was trained with --task streaming_lm, which carries state through the text: give --task streaming_lm",
        trained_on_words(lambda world, data: None),
    ),
]
