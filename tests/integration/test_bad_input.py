"""Bad input ends in one clear line that names the option or path, exit code 1, and nothing on disk is changed.

The table in docs/bad-input.md is made of these very cases: `WRITE_DOCS=1 pytest tests/integration/test_bad_input.py`.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, NamedTuple

import numpy as np
import pytest
import torch

from fairseq_sharnn.data.text import prepare
from fairseq_sharnn.data.text.learn import train_pieces
from tests.conftest import ROOT, USER_DIR, write_corpus
from tests.integration.forked import eval_forked, run_forked, run_script, train_forked

SPLITS = ("train", "valid", "test")
DOCS = ROOT / "docs" / "bad-input.md"


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


def trains_on(data):
    return lambda world: train_forked(data, world.saved.parent / "new")


def trains_on_both(world):
    folders = f"{world.saved / 'one'}:{world.saved / 'two'}"
    return train_forked(folders, world.saved.parent / "new", "--task", "streaming_lm")


def evaluates_without(option):
    """fairseq-eval-lm on the data, without one of its usual options."""
    given = {"--user-dir": USER_DIR, "--task": "byte_level_lm", "--gen-subset": "test", "--path": "x"}
    given.pop(option)
    return lambda world: run_forked("eval-lm", world.data, "--cpu", *[part for pair in given.items() for part in pair])


def evaluates_words_without_state(world):
    """fairseq-eval-lm as it is without --task."""
    checkpoint = world.saved / "model" / "checkpoint_last.pt"
    return eval_forked(world.saved / "prepared", checkpoint, "--task", "language_modeling")


def evaluates(*options):
    return lambda world: eval_forked(world.data, world.checkpoint, "--tokens-per-sample", 32, *options)


def remove(name):
    return lambda world: (world.data / name).unlink()


def write(name, content):
    return lambda world: (world.data / name).write_bytes(content)


def no_folder(world):
    shutil.rmtree(world.data)


def split_is_a_folder(world):
    (world.data / "valid").unlink()
    (world.data / "valid").mkdir()


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


def broken_link(world):
    (world.data / "train").unlink()
    (world.data / "train").symlink_to(world.data / "gone")


def save_dir_is_a_file(world):
    (world.saved.parent / "new").write_bytes(b"a file")


def stopped_in_mid_epoch(change):
    """Train a few updates into `saved`, then change the corpus."""

    def spoil(world):
        shutil.rmtree(world.saved)
        assert train_forked(world.data, world.saved).code == 0
        content = (world.data / "train").read_bytes()
        (world.data / "train").write_bytes(change(content))

    return spoil


def removed_checkpoint(world):
    world.checkpoint.unlink()


def prepares(kind, *options):
    """scripts/prepare_text.py on the raw files; nothing of its work may be left."""

    def run(world):
        sources = [part for split in SPLITS for part in (f"--{split}", world.data / split)]
        there = sorted(world.data.parent.iterdir())
        options_here = [str(option).replace("SAVED", str(world.saved)) for option in options]
        finished = run_script("prepare_text", kind, world.saved.parent / "new", *sources, *options_here)
        assert sorted(world.data.parent.iterdir()) == there
        return finished

    return run


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
    """A DATA folder of words or pieces beside the raw one, in the world's own copies."""
    text_alone(world)
    (world.data / "train").write_bytes((world.data / "train").read_bytes() + text)
    sources = {split: str(world.data / split) for split in SPLITS}
    out = str(world.saved / name)
    if kind == "word":
        prepare.prepare_words(out, sources, silent)
    else:
        prepare.prepare_pieces(out, sources, silent, size=330)
    return world.saved / name


def trained_on_words(then):
    """A checkpoint of words instead of bytes, then something done to the folder."""

    def spoil(world):
        data = prepared(world)
        shutil.rmtree(world.saved / "model", ignore_errors=True)
        assert train_forked(data, world.saved / "model", "--task", "streaming_lm", "--max-update", 1).code == 0
        then(world, data)

    return spoil


def evaluates_text(checkpoint, data="prepared"):
    return lambda world: run_script("evaluate_text", world.saved / checkpoint, world.saved / data, "--cpu")


def evaluates_bytes(*options):
    return lambda world: run_script("evaluate_text", world.checkpoint, world.data, "--cpu", *options)


def evaluates_into_a_folder(world):
    """What cannot take the name of a folder leaves nothing beside it."""
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


TINY_LSTM = "--arch lstm_lm --decoder-embed-dim 32 --decoder-hidden-size 32 --decoder-out-embed-dim 32".split()
DAMAGED = r"cannot load checkpoint \S+checkpoint_last.pt: it is damaged or not a fairseq checkpoint"

CASES = [
    Case("data folder missing", trains(), r"DATA folder \S+ does not exist", no_folder),
    Case("data folder missing (evaluation)", evaluates(), r"DATA folder \S+ does not exist", no_folder),
    Case("no train file", trains(), "has no file named train", remove("train")),
    Case("no valid file", trains(), "has no file named valid", remove("valid")),
    Case("no test file", evaluates(), "has no file named test", remove("test")),
    Case("unknown --gen-subset", evaluates("--gen-subset", "tset"), "has no file named tset"),
    Case("unknown --valid-subset", trains("--valid-subset", "dev"), "has no file named dev"),
    Case("empty train file", trains(), r"\S+train is empty", write("train", b"")),
    Case("empty valid file", trains(), r"\S+valid is empty", write("valid", b"")),
    Case("empty test file", evaluates(), r"\S+test is empty", write("test", b"")),
    Case("a folder where a split belongs", trains(), r"cannot read \S+valid: it is a folder", split_is_a_folder),
    Case("train shorter than its lanes", trains(), "fewer than the 4 lanes of --batch-size 4", write("train", b"abc")),
    Case("valid shorter than its lanes", trains(), "fewer than the 4 lanes of --batch-size 4", write("valid", b"abc")),
    Case(
        "test shorter than its lanes",
        evaluates("--batch-size", 9),
        "the 9 lanes of --batch-size 9",
        write("test", b"12345678"),
    ),
    Case(
        "heads do not divide the width",
        trains("--attention-heads", 3),
        "--attention-heads 3 does not divide --decoder-embed-dim 32",
    ),
    Case("no heads", trains("--attention-heads", 0), "--attention-heads must be at least 1"),
    Case("Boom narrower than the width", trains("--boom-dim", 31), "--boom-dim 31 is below --decoder-embed-dim 32"),
    Case("no such attention layer", trains("--attention-layers", "0,2"), "--attention-layers: layer 2 does not exist"),
    Case(
        "unknown choice of attention layers",
        trains("--attention-layers", "last"),
        "--attention-layers: 'last' is not a choice",
    ),
    Case("no layers", trains("--decoder-layers", 0), "--decoder-layers must be at least 1"),
    Case(
        "context not above the chunk",
        trains("--context-length", 32),
        "--context-length 32 is not above --tokens-per-sample 32",
    ),
    Case(
        "context not above the chunk (evaluation)",
        evaluates("--tokens-per-sample", 200),
        "--context-length 96 is not above --tokens-per-sample 200",
    ),
    Case("chunk length zero", trains("--tokens-per-sample", 0), "--tokens-per-sample must be at least 1"),
    Case(
        "chunk length zero (evaluation)", evaluates("--tokens-per-sample", 0), "--tokens-per-sample must be at least 1"
    ),
    Case("batch size zero", trains("--batch-size", 0), "--batch-size must be at least 1"),
    Case("batch size negative (evaluation)", evaluates("--batch-size", -1), "--batch-size must be at least 1"),
    Case("context window negative", evaluates("--context-window", -5), "--context-window must not be negative"),
    Case("min-trust of 1", trains("--min-trust", 1), r"--min-trust must be in \[0, 1\)"),
    Case("min-trust negative", trains("--min-trust", -0.25), r"--min-trust must be in \[0, 1\)"),
    Case("one beta", trains("--lamb-betas", "0.9"), "--lamb-betas takes two numbers"),
    Case("beta out of range", trains("--lamb-betas", "(0.9, 1.5)"), "--lamb-betas must be two numbers in"),
    Case("epsilon negative", trains("--lamb-eps", -1), "--lamb-eps must not be negative"),
    Case("weight decay negative", trains("--weight-decay", -1), "--weight-decay must not be negative"),
    Case(
        "trust log every 0 updates",
        trains("--trust-log", "x", "--trust-log-interval", 0),
        "--trust-log-interval must be at least 1",
    ),
    Case(
        "trust log in no folder",
        trains("--trust-log", "gone/trust", "--trust-log-interval", 1),
        "cannot write --trust-log gone/trust: No such file",
    ),
    Case("dropout of 1", trains("--dropout", 1), r"--dropout must be in \[0, 1\)"),
    Case("DropConnect negative", trains("--dropconnect", -0.1), "--dropconnect must be in"),
    Case(
        "no batch size",
        trains_bare("--task", "byte_level_lm"),
        "give the number of lanes on each worker with --batch-size",
    ),
    Case(
        "no --task", trains_bare("--batch-size", 4), r"--arch sha_rnn_tiny models one text: give --task byte_level_lm"
    ),
    Case("no --task (evaluation)", evaluates_without("--task"), r"\S+ holds raw bytes: give --task byte_level_lm"),
    Case(
        "a task that drops the state",
        evaluates_words_without_state,
        "was trained with --task streaming_lm, which carries state through the text: give --task streaming_lm",
        trained_on_words(lambda world, data: None),
    ),
    Case("no --path", evaluates_without("--path"), "name the checkpoint to evaluate with --path"),
    Case(
        "--model-overrides is no dictionary", evaluates("--model-overrides", "{x:1}"), "--model-overrides takes a dict"
    ),
    Case(
        "shard that does not exist", evaluates("--num-shards", 3, "--shard-id", 3), "--shard-id 3 is not one of the 3"
    ),
    Case("update-freq zero", trains("--update-freq", 0), "--update-freq must be at least 1"),
    Case(
        "unknown metric", trains("--best-checkpoint-metric", "bbp"), "--best-checkpoint-metric bbp is not one of .*bpb"
    ),
    Case("DATA of separators alone", trains_on(":"), "give the DATA folder"),
    Case("--save-dir is a file", trains(), r"--save-dir \S+ is a file", save_dir_is_a_file),
    Case("--restore-file missing", trains("--restore-file", "gone.pt"), "--restore-file gone.pt does not exist"),
    Case(
        "--finetune-from-model missing", trains("--finetune-from-model", "x.pt"), "--finetune-from-model x.pt does not"
    ),
    Case("a split is a broken link", trains(), "has no file named train", broken_link),
    Case(
        "flat parameters", trains("--ddp-backend", "fully_sharded"), "--ddp-backend fully_sharded flattens parameters"
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
        resumes("--reset-dataloader", largest_file=100_000),
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
    Case(
        "adaptive_loss without cutoffs",
        trains("--criterion", "adaptive_loss", "--ddp-backend", "legacy_ddp"),
        "--criterion adaptive_loss needs a model with --adaptive-softmax-cutoff",
    ),
    Case(
        "adaptive_loss with the default DDP backend",
        trains("--criterion", "adaptive_loss", "--adaptive-softmax-cutoff", 100),
        "--criterion adaptive_loss does not work with --ddp-backend pytorch_ddp",
    ),
    Case(
        "cross_entropy with cutoffs",
        trains("--adaptive-softmax-cutoff", 100),
        "--criterion cross_entropy does not work on a model with --adaptive-softmax-cutoff",
    ),
    Case(
        "no ordinary symbol in the first band",
        trains("--adaptive-softmax-cutoff", 4),
        "--adaptive-softmax-cutoff 4 leaves the first band no more than fairseq's 4 special symbols",
    ),
    Case(
        "a band of one symbol",
        trains("--adaptive-softmax-cutoff", 259),
        "--adaptive-softmax-cutoff 259 leaves a band of the 260 symbols with a single one",
    ),
    Case(
        "cutoff past the vocabulary",
        trains("--adaptive-softmax-cutoff", 9999),
        "--adaptive-softmax-cutoff 9999 goes past the vocabulary of 260 symbols",
    ),
    Case(
        "raw bytes for streaming_lm",
        trains("--task", "streaming_lm"),
        r"DATA folder \S+ has no dict.txt: .*byte_level_lm",
    ),
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
        "no bytes and words beside the tokens",
        evaluates_text("model/checkpoint_last.pt"),
        r"test.bytes.npy is missing",
        trained_on_words(lambda world, data: (data / "test.bytes.npy").unlink()),
    ),
    Case(
        "names of the unknown words missing",
        evaluates_text("model/checkpoint_last.pt"),
        r"test.unknown names 0 words where \S+test.bin has [1-9]\d* <unk>",
        trained_on_words(lambda world, data: (data / "test.unknown").unlink()),
    ),
    Case(
        "names of the unknown words cut short",
        evaluates_text("model/checkpoint_last.pt"),
        r"test.unknown names [1-9]\d* words where \S+test.bin has [1-9]\d* <unk>",
        trained_on_words(lambda world, data: shorten(data / "test.unknown")),
    ),
    Case(
        "bytes of the tokens are another text's",
        evaluates_text("model/checkpoint_last.pt"),
        r"test.bytes.npy has \d+ bytes where tokenizer.json tells of \d+",
        trained_on_words(lambda world, data: np.save(data / "test.bytes.npy", np.load(data / "test.bytes.npy") + 1)),
    ),
    Case(
        "chunk length zero (evaluate_text.py)",
        evaluates_bytes("--tokens-per-sample", 0),
        "--tokens-per-sample must be at least 1, but it is 0",
    ),
    Case("--json is a folder", evaluates_into_a_folder, r"cannot write \S+json: Is a directory"),
    Case("no checkpoint to evaluate", evaluates_text("gone.pt"), r"checkpoint \S+gone.pt does not exist", prepared),
]


OF_THE_TEXT = (
    *(r"(choose at (?:most|least)) \d+", r"(names) [1-9]\d*(?= words where)", r"(has) \d+(?= <unk>)"),
    *(r"(has) \d+(?= bytes where)", r"(tells of) \d+"),
)


def shown(error: str, world: World) -> str:
    """The message as it stands in the table: without this machine's paths, torch's own words, and numbers that hang on the
    text (Python's own documentation, another in each version)."""
    error = error.replace(str(world.data), "DATA").replace(str(world.saved), "SAVED").replace("|", "\\|")
    error = error.replace(str(world.saved.parent / "new"), "NEW").replace(str(world.saved.parent / "json"), "JSON")
    two = re.search(r"(?:names|has) (\d+) (?:words|bytes) where .* (?:has|tells of) (\d+)", error)
    assert two is None or two[1] != two[2], error
    for number in OF_THE_TEXT:
        error = re.sub(number, r"\1 N", error)
    return re.sub(r"fairseq checkpoint \(.*\); choose", "fairseq checkpoint (what torch says of it); choose", error)


def digests(*folders):
    """What every file under the folders holds."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in folders
        if folder.exists()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def world(tmp_path, trained):
    saved = tmp_path / "saved"
    shutil.copytree(trained[0], saved)
    return World(write_corpus(tmp_path / "data", 3000, 500, 500), saved)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Rows of the documented table, filled by the cases as they run; written or compared at the end."""
    rows = {}
    yield rows
    if os.environ.get("WRITE_DOCS") and len(rows) == len(CASES):
        DOCS.parent.mkdir(exist_ok=True)
        DOCS.write_text(document(rows))


def document(rows) -> str:
    lines = [
        "# Error messages for bad input",
        "",
        "Made by `WRITE_DOCS=1 pytest tests/integration/test_bad_input.py`, which feeds each of these to the real",
        "command lines and checks the message, the exit code 1, that no traceback is printed, that no file changed.",
        "",
        "| input | answer |",
        "| --- | --- |",
    ]
    lines += [f"| {case.what} | `{rows[case.what]}` |" for case in CASES]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what.replace(" ", "-"))
def test_one_clear_line_and_nothing_changed(case, world, table):
    case.spoil(world)
    before = digests(world.data, world.saved)
    finished = case.run(world)
    assert finished.code == 1, finished.output[-2000:]
    assert "Traceback" not in finished.output, finished.output[-3000:]
    errors = [line for line in finished.output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and finished.output.rstrip().endswith(errors[0]), finished.output[-2000:]
    assert re.search(case.message, errors[0]), errors[0]
    assert digests(world.data, world.saved) == before
    table[case.what] = shown(errors[0], world)
    if not os.environ.get("WRITE_DOCS"):
        row = f"| {case.what} | `{table[case.what]}` |"
        assert row in DOCS.read_text().splitlines(), f"docs/bad-input.md lacks: {row}"


@pytest.mark.parametrize("script", sorted(ROOT.glob("scripts/*.py")), ids=lambda path: path.stem)
def test_a_script_outside_of_its_environment_says_so_in_one_line(script):
    bare = [sys.executable, "-S", str(script), "--help"]  # -S: without the packages of this environment
    ended = subprocess.run(bare, capture_output=True, text=True, timeout=60, env={"PATH": os.environ["PATH"]})
    if script.stem == "prepare_corpus":  # any Python will do
        assert ended.returncode == 0 and "usage" in ended.stdout
    else:
        assert ended.returncode == 1 and ended.stdout == ""
        missing = r"(has no torch|cannot import experiments)"
        assert re.fullmatch(rf"error: \S+ {missing}: [^\n]*source \.venv/bin/activate\)\n", ended.stderr)


def test_the_table_has_a_row_for_every_case():
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith("| ")]
    assert len(rows) == len(CASES) + 2
