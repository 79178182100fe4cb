"""scripts/prepare_corpus.py as a command."""

import functools
import hashlib
import http.server
import os
import sys
import threading
import zipfile
from typing import ClassVar, List

import pytest

from fairseq_sharnn.data.corpora import enwik8
from fairseq_sharnn.errors import UsageError
from tests.conftest import ROOT, real_text, run_command
from tests.integration.option_names import unknown_options

SCRIPT = ROOT / "scripts" / "prepare_corpus.py"


def prepare(*arguments):
    return run_command(sys.executable, SCRIPT, *arguments)


def splits(folder):
    return {name: (folder / name).read_bytes() for name in ("train", "valid", "test")}


@pytest.fixture
def small_enwik8(monkeypatch):
    """A small stand-in for enwik8: its sizes and its digest."""
    monkeypatch.setattr(enwik8, "SIZES", {"train": 900, "valid": 50, "test": 50})
    monkeypatch.setattr(enwik8, "MD5", hashlib.md5(CONTENT).hexdigest())


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


def test_a_train_split_is_shuffled(tmp_path):
    (tmp_path / "train").write_bytes(b"".join(b"%d\n\n" % number for number in range(10, 100)))
    finished = prepare("shuffle", tmp_path / "new", tmp_path / "train", "--piece", 3)
    assert finished.code == 0, finished.output
    assert "90 pieces, 360 bytes" in finished.output
    assert "fairseq" not in finished.output  # which takes seconds to import
    assert sorted((tmp_path / "new").read_bytes()) == sorted((tmp_path / "train").read_bytes())
    refused = prepare("shuffle", tmp_path / "other", tmp_path / "train", "--piece", 0)
    assert refused.code == 1
    assert "error: --piece must be at least 1 byte, not 0" in refused.output


def test_files_are_joined_and_cut(tmp_path):
    (tmp_path / "one").write_bytes(CONTENT[:333])
    (tmp_path / "two").write_bytes(CONTENT[333:])
    finished = prepare("file", tmp_path / "out", tmp_path / "one", tmp_path / "two")
    assert finished.code == 0, finished.output
    assert splits(tmp_path / "out") == {"train": CONTENT[:900], "valid": CONTENT[900:950], "test": CONTENT[950:]}


BAD = [
    (("file", "OUT", "missing"), "error: cannot read missing: No such file"),
    (("file", "OUT", "tiny"), "error: the valid split would be empty"),
    (("file", "OUT", "folder"), "error: cannot read folder: it is a folder; name its files"),
    (("enwik8", "OUT", "--source", "missing"), "error: --source missing does not exist"),
    (("enwik8", "NEW", "--source", "tiny"), "is not enwik8: its md5 is"),
    (("enwik8", "NEW", "--source", "http://127.0.0.1:9/enwik8.zip"), "the same command resumes from there"),
    (("stdlib", "tiny"), "error: cannot write tiny: File exists"),
    # splits that exist are never overwritten
    (("file", "OUT", "text"), "error: OUT/train exists and has other content: name another OUT folder"),
    (("enwik8", "OUT", "--source", "tiny"), "error: OUT/train exists and has other content: name another OUT folder"),
    (("enwik8", "OUT"), "error: OUT/train exists and has other content: name another OUT folder"),
    (("stdlib", "OUT"), "error: OUT/train exists and has other content: name another OUT folder"),
    (("file", "OUT", "OUT/train"), "error: OUT/train is itself the train split of OUT: name another OUT folder"),
    (("file", "OUT", "text", "link"), "error: link is itself the valid split of OUT: name another OUT folder"),
]


@pytest.mark.parametrize(
    "arguments, message", BAD, ids=lambda value: "-".join(value) if isinstance(value, tuple) else ""
)
def test_bad_input_leaves_an_older_corpus_alone(tmp_path, arguments, message):
    (tmp_path / "tiny").write_bytes(b"ab")
    (tmp_path / "text").write_bytes(CONTENT)
    (tmp_path / "folder").mkdir()
    (tmp_path / "OUT").mkdir()
    for split in ("train", "valid", "test"):
        (tmp_path / "OUT" / split).write_bytes(b"old" * 100)
    (tmp_path / "link").symlink_to(tmp_path / "OUT" / "valid")
    finished = run_command(sys.executable, SCRIPT, *arguments, cwd=tmp_path)
    assert finished.code == 1 and "Traceback" not in finished.output
    assert message in finished.output
    assert unknown_options("prepare_corpus", finished.output) == []
    assert set(splits(tmp_path / "OUT").values()) == {b"old" * 100}
    assert sorted(os.listdir(tmp_path / "OUT")) == ["test", "train", "valid"]


def test_a_pipe_is_no_regular_file(tmp_path):
    (tmp_path / "text").write_bytes(CONTENT)
    finished = run_command("bash", "-c", f"'{sys.executable}' '{SCRIPT}' file OUT <(cat text)", cwd=tmp_path)
    assert finished.code == 1 and "Traceback" not in finished.output
    assert "it is not a regular file; save its content to a file and name that" in finished.output
    assert not (tmp_path / "OUT").exists()


def test_the_same_command_twice_changes_nothing(tmp_path):
    (tmp_path / "text").write_bytes(real_text(20000))
    before = None
    for _ in range(2):
        finished = run_command(sys.executable, SCRIPT, "file", "OUT", "text", cwd=tmp_path)
        assert finished.code == 0 and "OUT/test: 1,000 bytes" in finished.output
        times = {name: (tmp_path / "OUT" / name).stat().st_mtime_ns for name in ("train", "valid", "test")}
        assert before in (None, times)
        before = times
    (tmp_path / "OUT" / "valid").unlink()  # what is missing is made again
    assert run_command(sys.executable, SCRIPT, "file", "OUT", "text", cwd=tmp_path).code == 0
    assert b"".join(splits(tmp_path / "OUT").values()) == real_text(20000)
    (tmp_path / "OUT" / "test").write_bytes(b"x" * 1000)  # of the right size, but other content
    finished = run_command(sys.executable, SCRIPT, "file", "OUT", "text", cwd=tmp_path)
    assert finished.code == 1 and "OUT/test exists and has other content" in finished.output
    assert sorted(os.listdir(tmp_path / "OUT")) == ["test", "train", "valid"]


@pytest.mark.parametrize("packed", [True, False])
def test_enwik8_from_a_local_file(small_enwik8, tmp_path, packed):
    source = tmp_path / "source"
    if packed:
        with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("enwik8", CONTENT)
    else:
        source.write_bytes(CONTENT)
    enwik8.write_enwik8(str(tmp_path / "out"), str(source))
    enwik8.write_enwik8(str(tmp_path / "out"), str(source))  # the same again: nothing changes
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


def test_a_broken_download_resumes_where_it_stopped(small_enwik8, tmp_path):
    RangeHandler.limit, RangeHandler.asked = 300, []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(RangeHandler))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/enwik8"
    try:
        with pytest.raises(UsageError, match="300 bytes are kept"):
            enwik8.write_enwik8(str(tmp_path / "out"), url)
        enwik8.write_enwik8(str(tmp_path / "out"), url)
    finally:
        server.shutdown()
    assert RangeHandler.asked == [0, 300]
    assert splits(tmp_path / "out")["train"] == CONTENT[:900]
