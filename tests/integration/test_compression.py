"""`compress` and `decompress`: every byte comes back, in other processes too, and the size is what `score` says."""

import io
import json
import os
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairseq_sharnn import load
from fairseq_sharnn.evaluation.dynamic import DynamicSettings
from fairseq_sharnn.ops import kernels
from fairseq_sharnn.portable import command_line
from fairseq_sharnn.portable.compressor import coding, container
from fairseq_sharnn.portable.compressor.compressor import compress, decompress
from fairseq_sharnn.portable.compressor.container import Settings, pack, unpack
from fairseq_sharnn.portable.compressor.progress import Progress
from fairseq_sharnn.portable.compressor.rounding import Place
from tests.conftest import ROOT, real_text, run_command
from tests.integration import documents
from tests.integration.test_portable_bad_input import refused

HIDDEN = "fairseq,omegaconf,hydra,fairseq_cli"
LEARNING = {"static": (), "dynamic": ("--dynamic-lr", "1e-3", "--dynamic-decay", "1e-3", "--chunk", "16")}
SIZE = 8000  # of the proof of size


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "model"
    assert command_line.main(["export", str(trained[0] / "checkpoint_best.pt"), str(out), "--trainable"]) == 0
    return out


def run(*arguments) -> None:
    assert command_line.main([str(argument) for argument in arguments]) == 0


def started(threads: int, *arguments, **variables):
    """A real command line without fairseq, whose torch would use so many threads."""
    command = (sys.executable, ROOT / "tests" / "without.py", HIDDEN, "-m", "fairseq_sharnn", *arguments)
    finished = run_command(*command, env={"OMP_NUM_THREADS": str(threads), **variables})
    assert finished.code == 0, finished.output
    return finished


@pytest.mark.parametrize("how", LEARNING)
def test_other_processes_with_other_threads(how, exported, corpus, tmp_path):
    out, back = tmp_path / "out", tmp_path / "back"
    model = ("--model", exported)
    said = started(1, "compress", corpus / "test", out, *model, "--lanes", 5, *LEARNING[how])
    assert f"{out}: {out.stat().st_size:,} bytes of 2,001" in said.output and f" {how}" in said.output
    assert "5 lanes" in said.output
    assert out.stat().st_size < 0.95 * 2001
    started(2, "decompress", out, back, *model)
    assert back.read_bytes() == (corpus / "test").read_bytes()
    run("decompress", out, tmp_path / "again", *model)  # with fairseq, and with threads as they are here
    assert (tmp_path / "again").read_bytes() == back.read_bytes()


def test_the_threads_of_compress_are_those_of_decompress(exported, tmp_path):
    """Whatever torch would use here, before and after."""
    (tmp_path / "text").write_bytes(real_text(200))
    before = torch.get_num_threads()
    run("compress", tmp_path / "text", tmp_path / "out", "--model", exported, "--threads", 3)
    header, _ = unpack((tmp_path / "out").read_bytes(), "out")
    assert header.settings.threads == 3 and torch.get_num_threads() == before
    run("decompress", tmp_path / "out", tmp_path / "back", "--model", exported)
    assert (tmp_path / "back").read_bytes() == (tmp_path / "text").read_bytes()


@pytest.fixture(scope="module")
def models(exported):
    """Two models as two processes would load them."""
    return load(exported), load(exported)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(st.binary(max_size=200), st.text(max_size=80).map(str.encode)),
    lanes=st.sampled_from([1, 2, 3, 8, 9]),
    chunk=st.sampled_from([0, 1, 7, 95]),
    optimizer=st.sampled_from(["adam", "rms", "sgd"]),
)
def test_any_bytes_come_back(models, content, lanes, chunk, optimizer):
    """Any number of bytes, lanes and steps; chunk 0 is static."""
    dynamic = DynamicSettings(1e-3, optimizer) if chunk else DynamicSettings()
    packed = compress(models[0], content, Settings(lanes, chunk=chunk, dynamic=dynamic))
    assert decompress(models[1], packed) == content


@pytest.mark.parametrize("how", LEARNING)
def test_the_empty_file(how, exported, tmp_path):
    (tmp_path / "empty").touch()
    run("compress", tmp_path / "empty", tmp_path / "out", "--model", exported, *LEARNING[how])
    run("decompress", tmp_path / "out", tmp_path / "back", "--model", exported)
    assert (tmp_path / "back").read_bytes() == b"" and (tmp_path / "out").stat().st_size < 80


@pytest.mark.parametrize("how", LEARNING)
def test_the_size_is_what_score_says(how, exported, tmp_path, capsys):
    """The proof of size at the command line: within 0.2 % plus 64 bytes, header and end of the coder included."""
    text, out = tmp_path / "text", tmp_path / "out"
    text.write_bytes(real_text(SIZE))
    options = ("--model", exported, "--lanes", 16, *LEARNING[how])
    run("score", text, "--json", "--chunk", 16, *options[: 4 if how == "static" else None])
    score = json.loads(capsys.readouterr().out)["all"]
    assert score["evaluation"] == how
    run("compress", text, out, *options)
    expected = score["bits_per_byte"] * SIZE / 8
    assert abs(out.stat().st_size - expected) <= 0.002 * expected + 64


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_size_is_what_score_says_for_any_size_and_lanes(models, data):
    """The same bound, for files of one byte to many, for one lane to as many as there can be, static and dynamic."""
    lanes, chunk = data.draw(st.sampled_from([1, 2, 8, 16, 31, 64, 256])), data.draw(st.sampled_from([0, 0, 8, 40]))
    size = data.draw(st.integers(lanes, 800))
    content = real_text(6000)[data.draw(st.integers(0, 3000)) :][:size]
    dynamic = DynamicSettings(data.draw(st.sampled_from([5e-4, 1e-3, 2e-3]))) if chunk else DynamicSettings()
    expected = models[0].score(content, lanes, chunk or 16, dynamic=dynamic).bits_per_byte * size / 8
    packed = compress(models[0], content, Settings(lanes, chunk=chunk, dynamic=dynamic))
    assert abs(len(packed) - expected) <= 0.002 * expected + 64
    assert decompress(models[1], packed) == content


@pytest.mark.parametrize("lanes", [1, 5, 8, 256])
@pytest.mark.parametrize("most", [1, 2, 5, 8, 256])
def test_lanes_in_rounds(lanes, most):
    """Each lane is read once, at most so many together, and after the lane before it unless it is in the first round."""
    read = [part.tolist() for part in coding.rounds(lanes, most)]
    assert sorted(lane for part in read for lane in part) == list(range(lanes)) and max(map(len, read)) <= most
    for before, after in zip(read, read[1:]):
        assert {lane - 1 for lane in after} <= set(before)
    many = Settings(lanes)
    assert coding.together(0, many) == 1 and coding.together(lanes << 20, many) == lanes


def test_lanes_begin_with_the_byte_before(models, monkeypatch):
    """Lanes in several rounds, and several lanes in each: the file comes back, and only a round's first lanes cost more."""
    content = real_text(3000)
    alone = compress(models[0], content, Settings(9))
    monkeypatch.setattr(coding, "_IDS_FOR_A_START", 700)  # five lanes in the first round, four in the second
    packed = compress(models[0], content, Settings(9))
    assert decompress(models[1], packed) == content and packed != alone
    assert 0 < len(packed) - len(alone) <= 4 * 4


@given(rate=st.floats(container.LEAST_RATE, container.MOST_RATE), short=st.integers(1, 99), exponent=st.integers(-9, 1))
def test_rates_in_the_header_are_exact(rate, short, exponent):
    for value, most in ((rate, 10), (float(f"{short}e{exponent}"), 3)):
        written = container._packed_rate(value)
        assert container._Numbers(written, 0).rate() == value and len(written) <= most


def test_learning_saves_bytes_and_leaves_the_model_as_it_was(models):
    content, model = real_text(3000), models[0]
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    static = compress(model, content, Settings(4))
    dynamic = compress(model, content, Settings(4, chunk=16, dynamic=DynamicSettings(2e-3)))
    assert len(dynamic) < 0.97 * len(static)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.module.state_dict().items())
    assert compress(model, content, Settings(4)) == static


@pytest.mark.skipif(kernels.ops is None, reason="needs the CPU kernels")
def test_a_file_from_where_sums_round_differently(exported, corpus, tmp_path):
    out = tmp_path / "out"
    started(1, "compress", corpus / "test", out, "--model", exported, FAIRSEQ_SHARNN_KERNELS="0")
    line = refused("decompress", out, tmp_path / "back", "--model", exported)
    assert "cannot be read here" in line and "CPU kernels none there and" in line and "decompress it there" in line
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_from_elsewhere_that_computes_the_same(exported, corpus, tmp_path, capsys):
    """Another torch that rounds alike: it is read, with a warning."""
    out = tmp_path / "out"
    run("compress", corpus / "test", out, "--model", exported)
    header, words = unpack(out.read_bytes(), "out")
    out.write_bytes(pack(replace(header, place=replace(header.place, torch=(2, 99, 1))), words))
    run("decompress", out, tmp_path / "back", "--model", exported)
    said = capsys.readouterr().err
    assert "warning: " in said and "compressed elsewhere (torch 2.99.1 there and " in said
    assert (tmp_path / "back").read_bytes() == (corpus / "test").read_bytes()


def test_a_place_in_six_bytes():
    here = Place.here()
    assert Place.unpack(here.pack()) == here and len(here.pack()) == 6 and here.differences(here) == ""
    other = replace(here, capability=0, kernels=1, source=0xBEEF)
    assert "CPU of another kind there and " in other.differences(here)
    assert "CPU kernels compiled beef there and " in other.differences(here)


def test_pipes(exported, corpus, tmp_path, monkeypatch):
    """`-` is stdin, and what is no regular file is written directly."""
    with open(corpus / "test", "rb") as stdin:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stdin))
        reader, writer = os.pipe()
        run("compress", "-", f"/dev/fd/{writer}", "--model", exported)
        os.close(writer)
    with open(reader, "rb") as pipe:
        (tmp_path / "out").write_bytes(pipe.read())
    run("decompress", tmp_path / "out", tmp_path / "back", "--model", exported)
    assert (tmp_path / "back").read_bytes() == (corpus / "test").read_bytes()


class Screen:
    """A terminal, or a file, that keeps what is written."""

    def __init__(self, terminal: bool):
        self.terminal, self.text = terminal, ""

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


@pytest.mark.parametrize("terminal", [True, False])
def test_progress(terminal, monkeypatch):
    """100 bytes in each of 25 seconds."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    screen = Screen(terminal)
    with Progress("compressing", 2500, "bytes", screen) as progress:
        for _ in range(25):
            now[0] += 1
            progress.advance(100)
    if terminal:
        assert screen.text.count("\rcompressing: ") == 25 and screen.text.endswith("\r\033[K")
    else:
        lines = [f"compressing: {done} of 2,500 bytes, 100 bytes/s\n" for done in ("1,000", "2,000")]
        assert screen.text == "".join(lines)


def test_what_the_page_shows_parses():
    page = ROOT / "docs" / "compression.md"
    found = [words[3:] for words in documents.commands(page) if words[:3] == ["python", "-m", "fairseq_sharnn"]]
    assert {command_line.make_parser().parse_args(words).command for words in found} >= {"compress", "decompress"}
