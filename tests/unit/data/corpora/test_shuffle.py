"""Pieces of a text in a random order: every byte once, cut where paragraphs end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairseq_sharnn.data.corpora.shuffle import pieces, write_shuffled
from fairseq_sharnn.errors import UsageError

texts = st.lists(st.sampled_from([b"\n\n", b"\n", b"a", b"word ", b"\x00"]), min_size=1, max_size=200).map(b"".join)


@given(texts, st.integers(1, 50))
def test_the_pieces_are_the_text_and_are_long_enough(text, size):
    cut = pieces(text, size)
    assert b"".join(text[start:end] for start, end in cut) == text
    assert all(size <= end - start < 2 * size + 2 for start, end in cut[:-1])
    assert 0 < cut[-1][1] - cut[-1][0] < 2 * size + 2


@given(texts, st.integers(1, 50))
def test_a_piece_ends_with_its_paragraph_where_one_ends(text, size):
    for start, end in pieces(text, size)[:-1]:
        searched = text[start + size : start + 2 * size]
        assert text[end - 2 : end] == b"\n\n" if b"\n\n" in searched else end - start == size


def test_the_order_is_random_and_that_of_its_seed(tmp_path):
    source = tmp_path / "train"
    source.write_bytes(b"".join(b"paragraph %04d\n\n" % number for number in range(1000)))
    for name, seed in (("one", 1), ("again", 1), ("two", 2)):
        assert write_shuffled(str(source), str(tmp_path / name), 12, seed) == 1000
    one, again, two = ((tmp_path / name).read_bytes() for name in ("one", "again", "two"))
    assert one == again != two
    assert one != source.read_bytes()
    assert sorted(one.split(b"\n\n")) == sorted(source.read_bytes().split(b"\n\n"))


def test_a_file_that_exists_stays_and_nothing_partial_is_left(tmp_path):
    source, target = tmp_path / "train", tmp_path / "new"
    source.write_bytes(b"text")
    target.write_bytes(b"mine")
    with pytest.raises(UsageError, match="exists: name another"):
        write_shuffled(str(source), str(target))
    with pytest.raises(UsageError, match="cannot write"):
        write_shuffled(str(source), str(tmp_path / "missing" / "new"))
    source.write_bytes(b"")
    with pytest.raises(UsageError, match="is empty"):
        write_shuffled(str(source), str(tmp_path / "other"))
    assert target.read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "train"]
