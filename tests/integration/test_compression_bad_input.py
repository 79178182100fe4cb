"""What `compress` and `decompress` refuse: one line each, exit code 1, no output; and no work without bound."""

import struct
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairseq_sharnn import load
from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.evaluation.dynamic import DynamicSettings
from fairseq_sharnn.portable import command_line
from fairseq_sharnn.portable.compressor.compressor import compress, decompress
from fairseq_sharnn.portable.compressor.container import Settings, checksum, pack, unpack
from tests.conftest import real_text
from tests.integration.test_portable_bad_input import refused

TEXT = real_text(900)
START, SUM = 5, 3  # where the body begins, and its checksum


@pytest.fixture(scope="module")
def model(trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "model"
    assert command_line.main(["export", str(trained[0] / "checkpoint_best.pt"), str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def loaded(model):
    return load(model)


@pytest.fixture(scope="module", params=["static", "dynamic"])
def packed(request, loaded):
    """A compressed file of TEXT."""
    if request.param == "static":
        return compress(loaded, TEXT, Settings(3))
    return compress(loaded, TEXT, Settings(3, chunk=16, dynamic=DynamicSettings(1e-3)))


@pytest.fixture
def unreadable(model, tmp_path):
    """Says with which line a file is refused, and that nothing was written."""

    def check(data: bytes, *options) -> str:
        (tmp_path / "out").write_bytes(data)
        line = refused("decompress", tmp_path / "out", tmp_path / "back", "--model", model, *options)
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
        return line

    return check


def flipped(data: bytes, place: int, bit: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 1 << bit
    return bytes(changed)


def forged(data: bytes) -> bytes:
    """The file with the checksum of what it holds now: what a stranger can write."""
    return data[:SUM] + struct.pack("<H", checksum(data[START:])) + data[START:]


def test_a_bit_flipped_anywhere(packed, unreadable):
    """Every byte of the header, and bytes of the body and of the tail."""
    header = len(packed) - 4 * len(unpack(packed, "")[1])
    body = range(header, len(packed), max(1, (len(packed) - header) // 20))
    for place in [*range(header), *body, *range(len(packed) - 4, len(packed))]:
        line = unreadable(flipped(packed, place, place % 8))
        assert "is not a file that `compress` wrote" in line if place < 2 else "damaged" in line


def test_cut_short(packed, unreadable):
    for size in [*range(2, 12), 40, 60, 70, len(packed) // 2, len(packed) - 4, len(packed) - 1]:
        assert "cut short or damaged" in unreadable(packed[:size])
    assert "cut short or damaged" in unreadable(packed + b"\0")


@pytest.mark.parametrize("data", [b"", b"SH", b"\x8f", TEXT, b"\x1f\x8b\x08", bytes(100)])
def test_not_a_compressed_file(data, unreadable):
    assert "is not a file that `compress` wrote" in unreadable(data)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(START, 1 << 16), bit=st.integers(0, 7))
def test_a_flipped_bit_with_a_checksum_that_fits(packed, loaded, place, bit):
    """The sha256 is the last guard: either the very content comes back, or one line."""
    data = flipped(packed, START + place % (len(packed) - START), bit)
    try:
        assert decompress(loaded, forged(data), most_bytes=2000) == TEXT
    except UsageError as error:
        assert "\n" not in str(error)


def test_what_the_digests_say(packed, unreadable):
    header, words = unpack(packed, "")
    assert "was compressed with another model" in unreadable(pack(replace(header, model=b"else"), words))
    assert "cannot be read here" in unreadable(pack(replace(header, probe=b"else"), words))
    wrong = unreadable(pack(replace(header, content=bytes(32)), words))
    assert "does not decompress to what was compressed" in wrong and "get it again" in wrong
    changed = words.copy()
    changed[len(words) // 2] ^= 1
    assert "does not decompress to what was compressed" in unreadable(pack(header, changed))
    for some in (words[:-10], words[:0], np.full(9, 0xFFFFFFFF, dtype=np.uint32)):
        assert "does not decompress to what was compressed" in unreadable(pack(header, some))


def test_another_model(packed, model, trained, tmp_path):
    (tmp_path / "out").write_bytes(packed)
    line = refused("decompress", tmp_path / "out", tmp_path / "back", "--model", trained[0] / "checkpoint_best.pt")
    assert "was compressed with another model" in line and "--model" in line and not (tmp_path / "back").exists()


def test_a_length_bomb(packed, unreadable, loaded, model):
    header, words = unpack(packed, "")
    for count in (1 << 31, (1 << 63) - 1):
        bomb = pack(replace(header, count=count), words)
        line = unreadable(bomb, "--model", "nowhere")  # refused before the model is loaded
        assert f"says that it holds {count:,} bytes, more than 1,073,741,824" in line and "raise --max-bytes" in line
    assert "more than 899: if you trust it, raise --max-bytes" in unreadable(packed, "--max-bytes", 899)
    assert decompress(loaded, packed, most_bytes=900) == TEXT
    done = []
    with pytest.raises(UsageError, match="does not decompress"):
        decompress(loaded, pack(replace(header, count=8000), words), advance=done.append)
    assert sum(done) < 4 * len(TEXT)  # it stops where the words end


@pytest.mark.parametrize("change", [{"lanes": 257}, {"lanes": 0}, {"threads": 65}, {"threads": 0}])
def test_settings_that_would_take_much(packed, unreadable, change):
    header, words = unpack(packed, "")
    bad = replace(header.settings)
    for name, value in change.items():
        object.__setattr__(bad, name, value)  # what `Settings` refuses to hold
    assert "cut short or damaged" in unreadable(pack(replace(header, settings=bad), words))


@pytest.mark.parametrize(
    "options, message",
    [
        (["--lanes", 0], "--lanes must be from 1 to 256"),
        (["--lanes", 257], "--lanes must be from 1 to 256"),
        (["--threads", 0], "--threads must be from 1 to 64"),
        (["--dynamic-lr", -1], "--dynamic-lr must be"),
        (["--dynamic-lr", "nan"], "--dynamic-lr must be"),
        (["--dynamic-lr", 1e300], "--dynamic-lr 1e+300 is too large"),
        (["--dynamic-lr", 1e-60], "--dynamic-lr 1e-60 is too small"),
        (["--dynamic-lr", 1e-3, "--dynamic-clip", 1e39], "--dynamic-clip 1e+39 is too large"),
        (["--dynamic-lr", 1e-3, "--chunk", 0], "--chunk must be from 1"),
        (["--dynamic-lr", 1e-3, "--chunk", 96], "leaves no memory of the model's context of 96: choose at most 95"),
        (["--dynamic-lr", 1e-3, "--chunk", 60000], "times --chunk 60000 is more than 65,536"),
        (["--chunk", 16], "--chunk is for --dynamic-lr"),
    ],
)
def test_options(model, tmp_path, options, message):
    (tmp_path / "text").write_bytes(TEXT)
    assert message in refused("compress", tmp_path / "text", tmp_path / "out", "--model", model, *options)
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def test_rates_that_ruin_the_model(model, tmp_path):
    (tmp_path / "text").write_bytes(TEXT)
    options = ("--model", model, "--dynamic-lr", 1e30, "--dynamic-optimizer", "sgd", "--dynamic-clip", 0, "--chunk", 4)
    assert "lower --dynamic-lr" in refused("compress", tmp_path / "text", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["compress", "decompress"])
def test_files_and_folders(command, model, packed, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(TEXT if command == "compress" else packed)
    (tmp_path / "there").write_bytes(b"mine")

    def line(source, out):
        return refused(command, source, out, "--model", model)

    assert "cannot read" in line(tmp_path / "nowhere", tmp_path / "out")
    assert "cannot read" in line(tmp_path, tmp_path / "out")
    assert "there is there already: remove it, or name another file" in line(source, tmp_path / "there")
    assert "is a folder" in line(source, tmp_path)
    assert "nowhere is not a folder" in line(source, tmp_path / "nowhere" / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "there"]
    assert (tmp_path / "there").read_bytes() == b"mine"


@pytest.mark.parametrize("command", ["compress", "decompress"])
def test_without_the_coder(command, model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "constriction", None)
    assert "pip install constriction" in refused(command, tmp_path / "a", tmp_path / "b", "--model", model)


def test_other_precisions(model):
    with pytest.raises(UsageError, match="run on cpu in float32"):
        compress(load(model, dtype="bfloat16"), TEXT, Settings(3))
