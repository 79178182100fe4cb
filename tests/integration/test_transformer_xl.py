"""The Transformer with memory on fairseq's own commands: it sees beyond its chunk, resumes exactly, and is evaluated."""

import random
import re

import pytest

pytest.importorskip("x_transformers")

from experiments.harness.processes import PLUGIN
from tests.integration.checkpoints import differences, load
from tests.integration.forked import eval_forked, train_forked

SIZES = ("--decoder-embed-dim", 32, "--decoder-layers", 2, "--decoder-attention-heads", 2, "--dropout", 0)
MEMORY = ("--user-dir", PLUGIN, "--no-bptt-jitter")
XL = ("--arch", "transformer_xl", *SIZES, "--decoder-ffn-embed-dim", 64, "--context-length", 64)
WINDOWED = ("--arch", "transformer_lm", *SIZES, "--decoder-ffn-embed-dim", 128, "--decoder-normalize-before")
ADAM = ("--optimizer", "adam", "--lr", 1e-2, "--lr-scheduler", "fixed", "--clip-norm", 1.0, "--seed", 1)
PERIOD, CHUNK = 24, 16


def repeated(number: int, seed: int) -> bytes:
    """Random strings of 24 letters out of 4, each written twice: half of the bytes cannot be guessed (1 bit a byte)."""
    draw = random.Random(seed)
    strings = ("".join(draw.choices("abcd", k=PERIOD)) for _ in range(number))
    return "".join(string + string for string in strings).encode()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repeated")
    for seed, (split, number) in enumerate((("train", 4000), ("valid", 20), ("test", 100))):
        (folder / split).write_bytes(repeated(number, seed))
    return folder


def trained(data, folder, *arguments, model=XL, updates=200):
    finished = train_forked(
        *(data, folder, *MEMORY, "--tokens-per-sample", CHUNK, "--batch-size", 16, "--max-update", updates, *arguments),
        model=model,
        recipe=ADAM,
    )
    assert finished.code == 0, finished.output[-3000:]
    return folder / "checkpoint_last.pt"


def bits_per_byte(finished) -> float:
    """What fairseq-eval-lm says of the 4,800 bytes of the test split."""
    assert finished.code == 0 and "Evaluated 4,800 tokens" in finished.output, finished.output[-2000:]
    return float(re.search(r"Loss \(base 2\): ([\d.]+)", finished.output).group(1))


def test_it_sees_beyond_its_chunk(data, tmp_path):
    """Chunks and windows have 16 bytes, and what repeats is 24 bytes away: without memory nobody is below 2 bits."""
    ours = trained(data, tmp_path / "xl")
    theirs = trained(data, tmp_path / "windowed", model=WINDOWED)
    options = ("--user-dir", PLUGIN, "--tokens-per-sample", CHUNK, "--batch-size", 4)
    assert 1.9 < bits_per_byte(eval_forked(data, theirs, *options)) < 2.2
    assert 0.95 < bits_per_byte(eval_forked(data, ours, *options)) < 1.5


def test_a_resume_is_exact_and_restores_the_memory(data, tmp_path):
    whole = trained(data, tmp_path / "whole", updates=6)
    trained(data, tmp_path / "broken", updates=3)
    (memory,) = {tuple(layer.shape) for layer in saved_memories(tmp_path / "broken" / "checkpoint_last.pt")}
    assert memory == (16, 48, 32)  # lanes, three chunks, width
    assert differences(whole, trained(data, tmp_path / "broken", updates=6)) == []
    # in other lanes: the memory of each is rebuilt by reading back
    trained(data, tmp_path / "broken", "--batch-size", 8, updates=8)


def saved_memories(checkpoint):
    return load(checkpoint)["extra_state"]["train_iterator"]["stream"]["state"]["memories"]


def test_evaluation_carries_memory_and_takes_another_length_of_it(data, tmp_path):
    checkpoint = trained(data, tmp_path / "xl", updates=2)
    options = ("--user-dir", PLUGIN, "--tokens-per-sample", 16, "--batch-size", 4, "--context-window", 64)
    found = {}
    for context in (17, 64, 256):
        finished = eval_forked(data, checkpoint, *options, "--model-overrides", f"{{'context_length': {context}}}")
        found[context] = bits_per_byte(finished)
    assert len(set(found.values())) == 3  # what is remembered makes a difference
    refused = eval_forked(data, checkpoint, *options, "--model-overrides", "{'context_length': 16}")
    assert refused.code == 1 and "--context-length 16 is not above --tokens-per-sample 16" in refused.line("error: ")
