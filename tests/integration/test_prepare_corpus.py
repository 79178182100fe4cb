"""scripts/prepare_corpus.py as a command."""

import functools
import hashlib
import http.server
import importlib.util
import os
import sys
import threading
import zipfile
from typing import ClassVar, List

import pytest

from tests.conftest import ROOT, run_command

SCRIPT = ROOT / "scripts" / "prepare_corpus.py"


def prepare(*arguments):
    return run_command(sys.executable, SCRIPT, *arguments)


def splits(folder):
    return {name: (folder / name).read_bytes() for name in ("train", "valid", "test")}


@pytest.fixture
def module(monkeypatch):
    """The script as a module, expecting a small stand-in for enwik8."""
    spec = importlib.util.spec_from_file_location("prepare_corpus", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ENWIK8_BYTES", {"train": 900, "valid": 50, "test": 50})
    monkeypatch.setattr(module, "ENWIK8_MD5", hashlib.md5(CONTENT).hexdigest())
    return module


CONTENT = bytes(i * 7 % 256 for i in range(1000))


def test_stdlib_is_the_same_every_time_and_of_the_right_size(tmp_path):
    for name in ("a", "b"):
        finished = prepare("stdlib", tmp_path / name)
        assert finished.code == 0, finished.output
    first, second = splits(tmp_path / "a"), splits(tmp_path / "b")
    assert first == second
    total = sum(map(len, first.values()))
    assert 4_000_000 <= total <= 8_000_000
    assert len(first["train"]) / total == pytest.approx(0.9, abs=0.01)
    assert len(first["valid"]) / total == pytest.approx(0.05, abs=0.005)
    assert sorted(os.listdir(tmp_path / "a")) == ["test", "train", "valid"]


def test_files_are_joined_and_cut(tmp_path):
    (tmp_path / "one").write_bytes(CONTENT[:333])
    (tmp_path / "two").write_bytes(CONTENT[333:])
    finished = prepare("file", tmp_path / "out", tmp_path / "one", tmp_path / "two")
    assert finished.code == 0, finished.output
    assert splits(tmp_path / "out") == {"train": CONTENT[:900], "valid": CONTENT[900:950], "test": CONTENT[950:]}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("file", "OUT", "missing"), "error: cannot read missing: No such file"),
        (("file", "OUT", "tiny"), "error: the valid split would be empty"),
        (("enwik8", "OUT", "--source", "missing"), "error: --source missing does not exist"),
        (("enwik8", "OUT", "--source", "tiny"), "is not enwik8: its md5 is"),
        (("enwik8", "OUT", "--source", "http://127.0.0.1:9/enwik8.zip"), "the same command goes on from there"),
        (("stdlib", "tiny"), "error: cannot write tiny: File exists"),
    ],
)
def test_bad_input_leaves_an_older_corpus_alone(tmp_path, arguments, message):
    (tmp_path / "tiny").write_bytes(b"ab")
    (tmp_path / "OUT").mkdir()
    for split in ("train", "valid", "test"):
        (tmp_path / "OUT" / split).write_bytes(b"old")
    finished = run_command(sys.executable, SCRIPT, *arguments, cwd=tmp_path)
    assert finished.code == 1 and "Traceback" not in finished.output
    assert message in finished.output
    assert set(splits(tmp_path / "OUT").values()) == {b"old"}
    assert sorted(os.listdir(tmp_path / "OUT")) == ["test", "train", "valid"]


@pytest.mark.parametrize("packed", [True, False])
def test_enwik8_from_a_local_file(module, tmp_path, packed):
    source = tmp_path / "source"
    if packed:
        with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("enwik8", CONTENT)
    else:
        source.write_bytes(CONTENT)
    module.make_enwik8(str(tmp_path / "out"), str(source))
    assert splits(tmp_path / "out") == {"train": CONTENT[:900], "valid": CONTENT[900:950], "test": CONTENT[950:]}
    assert sorted(os.listdir(tmp_path / "out")) == ["test", "train", "valid"]


class RangeHandler(http.server.SimpleHTTPRequestHandler):
    """Serves one file, honours Range, and breaks off after `limit` bytes of the first answer."""

    limit = None
    asked: ClassVar[List[int]] = []

    def do_GET(self):
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        type(self).asked.append(start)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        stop = len(CONTENT) if self.limit is None else start + self.limit
        type(self).limit = None
        self.wfile.write(CONTENT[start:stop])

    def log_message(self, *args):
        pass


def test_a_broken_download_goes_on_where_it_stopped(module, tmp_path):
    RangeHandler.limit, RangeHandler.asked = 300, []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(RangeHandler))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/enwik8"
    try:
        with pytest.raises(module.CorpusError, match="300 bytes are kept"):
            module.make_enwik8(str(tmp_path / "out"), url)
        module.make_enwik8(str(tmp_path / "out"), url)
    finally:
        server.shutdown()
    assert RangeHandler.asked == [0, 300]
    assert splits(tmp_path / "out")["train"] == CONTENT[:900]
