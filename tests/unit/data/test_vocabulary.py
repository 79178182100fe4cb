"""The vocabulary without fairseq numbers symbols like fairseq's Dictionary."""

import pytest
from fairseq.data import Dictionary
from hypothesis import given
from hypothesis import strategies as st

from fairseq_sharnn.data.text.symbols import name_of
from fairseq_sharnn.data.text.vocabulary import Vocabulary, digest_of
from fairseq_sharnn.errors import UsageError


@given(st.lists(st.text(min_size=1).map(name_of), unique=True, max_size=20))
def test_ids_and_digest_are_fairseqs(tmp_path_factory, names):
    path = str(tmp_path_factory.mktemp("dict") / "dict.txt")
    theirs = Dictionary()
    for name in names:
        theirs.add_symbol(name)
    theirs.save(path)
    theirs, ours = Dictionary.load(path), Vocabulary.load(path)
    assert ours.symbols == theirs.symbols and len(ours) == len(theirs) and ours.nspecial == theirs.nspecial
    assert [ours.index(name) for name in [*names, "not there"]] == [
        theirs.index(name) for name in [*names, "not there"]
    ]
    assert [ours.bos(), ours.pad(), ours.eos(), ours.unk()] == [theirs.bos(), theirs.pad(), theirs.eos(), theirs.unk()]
    assert ours[len(ours)] == theirs[len(theirs)] == "<unk>"
    assert digest_of(ours) == digest_of(theirs)


@pytest.mark.parametrize("text", ["word\n", "a 1\na 2\n", "a 1\n\nb 2\n", "<unk> 3\n", "a 1"[:2] + "\n", "a 1\nb x\n"])
def test_damaged_dictionaries_are_refused_in_one_line(text):
    with pytest.raises(UsageError, match=r"dict\.txt is damaged in line \d") as error:
        Vocabulary.from_text(text, "dict.txt")
    assert "\n" not in str(error.value)
