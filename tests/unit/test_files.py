"""Files are written whole or not at all."""

import os
import subprocess
import sys

import pytest

from fairseq_sharnn.files import replace_whole, write_whole


def test_the_new_content_replaces_the_old(tmp_path):
    path = tmp_path / "a.json"
    write_whole(path, "old\r\n")
    write_whole(path, "né\n")
    write_whole(str(tmp_path / "b"), b"\xff\x00")
    assert path.read_bytes() == "né\n".encode()
    assert (tmp_path / "b").read_bytes() == b"\xff\x00"
    assert sorted(os.listdir(tmp_path)) == ["a.json", "b"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_everything_as_it_was(tmp_path, error):
    path = tmp_path / "a"
    path.write_text("old")

    def write(temporary):
        assert os.path.dirname(temporary) == str(tmp_path)
        with open(temporary, "w") as file:
            file.write("ne")
        raise error

    with pytest.raises(type(error)):
        replace_whole(path, write)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a"]


def test_what_a_killed_writer_left_is_removed_and_what_a_live_one_writes_stays(tmp_path):
    path = tmp_path / "a.pt"
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / f"a.pt.{ended.pid}-0.tmp").write_text("torn")
    (tmp_path / f"a.pt.{os.getppid()}-0.tmp").write_text("being written")
    (tmp_path / "a.pt.notes-1.tmp").write_text("somebody's own")
    write_whole(path, "new")
    assert sorted(os.listdir(tmp_path)) == ["a.pt", f"a.pt.{os.getppid()}-0.tmp", "a.pt.notes-1.tmp"]


def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE)
    write_whole(path, "through")
    assert reader.communicate(timeout=60)[0] == b"through"
    assert os.listdir(tmp_path) == ["pipe"]
