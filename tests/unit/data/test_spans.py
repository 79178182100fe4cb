"""Bytes and words of the original text that each token covers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_sharnn.data.text import spans as module
from fairseq_sharnn.data.text.spans import (
    Spans,
    count_words,
    positions_in_words,
    read_spans,
    words_of_tokens,
    write_spans,
)
from fairseq_sharnn.errors import UsageError

texts = st.binary(max_size=60) | st.text("ab \n\t\r\x0b\x0c\u00a0\u3000", max_size=60).map(str.encode)


@settings(max_examples=300, deadline=None)
@given(texts, st.randoms(), st.sampled_from([3, 1 << 22]))
def test_words_are_those_of_bytes_split(text, random, block):
    cuts = sorted(random.randrange(len(text) + 1) for _ in range(8))
    ends = [*cuts, len(text)]
    lengths = np.diff([0, *ends])
    data = np.frombuffer(text, dtype=np.uint8)
    original, module._BLOCK = module._BLOCK, block
    try:
        words = words_of_tokens(data, lengths)
        assert count_words(data) == len(text.split())
    finally:
        module._BLOCK = original
    starts = [i for i in range(len(text)) if text[i : i + 1].strip() and not text[max(0, i - 1) : i].strip()]
    expected = [sum(begin <= start < end for start in starts) for begin, end in zip([0, *ends], ends)]
    assert words.tolist() == expected and words.sum() == len(text.split())


def test_arrays_are_written_small_and_read_again(tmp_path):
    prefix = str(tmp_path / "test")
    write_spans(prefix, Spans(np.array([1, 0, 300]), np.array([1, 0, 0])))
    read = read_spans(prefix, 3)
    assert read.bytes.tolist() == [1, 0, 300] and read.bytes.dtype == np.uint16 and read.words.dtype == np.uint8
    with pytest.raises(UsageError, match=r"test\.bytes\.npy is of another text than the split's 4 tokens"):
        read_spans(prefix, 4)
    (tmp_path / "test.words.npy").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"test\.words\.npy is damaged"):
        read_spans(prefix, 3)
    (tmp_path / "test.words.npy").unlink()
    with pytest.raises(UsageError, match=r"test\.words\.npy is missing: .*scripts/prepare_text\.py"):
        read_spans(prefix, 3)


def test_positions_count_from_a_words_first_token():
    assert positions_in_words([0, 1, 0, 0, 1, 1, 2, 0]).tolist() == [-1, 0, 1, 2, 0, 0, 0, 1]
