"""fairseq's binarized splits as a corpus."""

import pickle

import numpy as np
import pytest
import torch
from fairseq.data import indexed_dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairseq_sharnn.data.corpora.tokens import TokenCorpus
from fairseq_sharnn.errors import UsageError

fixture_is_fine = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def written(folder, items, vocabulary=1000, name="test") -> str:
    """Write items through fairseq's builder; returns the prefix."""
    prefix = str(folder / name)
    builder = indexed_dataset.make_builder(f"{prefix}.bin", "mmap", vocabulary)
    for item in items:
        builder.add_item(torch.tensor(item, dtype=torch.int64))
    builder.finalize(f"{prefix}.idx")
    return prefix


@fixture_is_fine
@given(
    st.lists(st.lists(st.integers(0, 999), max_size=20), min_size=1, max_size=10).filter(any),
    st.sampled_from([1000, 70000]),  # 16 and 32 bits a token
)
def test_items_are_read_one_after_the_other(tmp_path, items, vocabulary):
    corpus = TokenCorpus(written(tmp_path, items, vocabulary), vocabulary)
    flat = [token for item in items for token in item]
    assert len(corpus) == len(flat)
    places = np.array([[0, len(flat) - 1], [len(flat) // 2, 0]])
    assert corpus.ids(places).dtype == np.int64
    assert corpus.ids(places).tolist() == [[flat[0], flat[-1]], [flat[len(flat) // 2], flat[0]]]
    assert corpus[len(flat) - 1] == flat[-1]
    assert pickle.loads(pickle.dumps(corpus)).ids(places).tolist() == corpus.ids(places).tolist()


def test_the_fingerprint_tells_another_text(tmp_path):
    same = [TokenCorpus(written(tmp_path, [range(4, 900)], name=name), 1000).fingerprint() for name in "ab"]
    other = TokenCorpus(written(tmp_path, [range(5, 901)], name="c"), 1000).fingerprint()
    assert same[0] == same[1] != other


def truncate(path, size):
    with open(path, "r+b") as file:
        file.truncate(size)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda prefix: truncate(f"{prefix}.bin", 0), "test.bin is empty"),
        (lambda prefix: truncate(f"{prefix}.bin", 10), "has 10 bytes, but .*test.idx says 200"),
        (lambda prefix: truncate(f"{prefix}.idx", 0), "test.idx is damaged or of another format"),
        (lambda prefix: truncate(f"{prefix}.idx", 20), "test.idx is damaged"),
        (lambda prefix: truncate(f"{prefix}.idx", 30), "test.idx is damaged"),
        (lambda prefix: truncate(f"{prefix}.idx", 100), "test.idx is damaged"),
    ],
)
def test_damaged_splits_are_named(tmp_path, spoil, message):
    prefix = written(tmp_path, [list(range(10))] * 10)
    spoil(prefix)
    with pytest.raises(UsageError, match=message):
        TokenCorpus(prefix, 1000)


def test_what_is_missing_or_of_another_vocabulary_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read .*nowhere\.bin: No such file"):
        TokenCorpus(str(tmp_path / "nowhere"), 1000)
    corpus = TokenCorpus(written(tmp_path, [[5, 700]]), 700)
    assert corpus[0] == 5
    with pytest.raises(UsageError, match="holds token number 700, but the vocabulary ends at 699"):
        corpus.ids(np.array([0, 1]))
