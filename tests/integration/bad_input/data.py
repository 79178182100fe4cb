"""DATA folders and files that are missing, empty, too short or of another kind."""

import shutil

from tests.integration.bad_input.common import Case, evaluates, remove, trains, write
from tests.integration.forked import train_forked


def trains_on(data):
    return lambda world: train_forked(data, world.saved.parent / "new")


def no_folder(world):
    shutil.rmtree(world.data)


def split_is_a_folder(world):
    (world.data / "valid").unlink()
    (world.data / "valid").mkdir()


def broken_link(world):
    (world.data / "train").unlink()
    (world.data / "train").symlink_to(world.data / "gone")


def save_dir_is_a_file(world):
    (world.saved.parent / "new").write_bytes(b"a file")


def colon_in_the_name(world):
    """DATA is then two folders, of which neither exists."""
    world.data.rename(world.data.parent / "my:data")


def trains_on_the_colon(world):
    return train_forked(world.data.parent / "my:data", world.saved.parent / "new")


CASES = [
    Case(
        "a colon in the name of the DATA folder",
        trains_on_the_colon,
        r"DATA \S+my:data has a colon, which separates folders",
        colon_in_the_name,
    ),
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
    Case("DATA of separators only", trains_on(":"), "give the DATA folder"),
    Case("--save-dir is a file", trains(), r"--save-dir \S+ is a file", save_dir_is_a_file),
    Case("a split is a broken link", trains(), "has no file named train", broken_link),
    Case(
        "raw bytes for streaming_lm",
        trains("--task", "streaming_lm"),
        r"DATA folder \S+ has no dict.txt: .*byte_level_lm",
    ),
]
