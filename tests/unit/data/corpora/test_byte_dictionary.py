import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_sharnn.data.corpora.byte_dictionary import ByteDictionary

DICTIONARY = ByteDictionary()


def test_has_the_bytes_beside_fairseqs_symbols():
    assert len(DICTIONARY) == 260
    assert DICTIONARY.bos() == 0 and DICTIONARY.pad() == 1 and DICTIONARY.eos() == 2 and DICTIONARY.unk() == 3
    assert DICTIONARY[b"a"[0] + DICTIONARY.offset] == "a"
    assert DICTIONARY[10 + DICTIONARY.offset] == "<0x0A>"
    assert len(set(DICTIONARY.symbols)) == 260


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_bytes_go_there_and_back(data):
    ids = DICTIONARY.encode_bytes(data)
    assert ids.dtype == torch.int64
    assert DICTIONARY.decode_bytes(ids) == data
    assert DICTIONARY.decode_bytes(DICTIONARY.encode_bytes(np.frombuffer(data, np.uint8))) == data
    assert DICTIONARY.string(ids) == data.decode("utf-8", "backslashreplace")


@settings(deadline=None)
@given(st.text(max_size=100))
def test_text_goes_there_and_back(text):
    ids = DICTIONARY.encode_line(text)
    assert ids[-1] == DICTIONARY.eos()
    assert DICTIONARY.string(ids) == text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@settings(deadline=None)
@given(st.lists(st.integers(-5, 400), max_size=50))
def test_any_ids_make_a_string(ids):
    assert isinstance(DICTIONARY.string(torch.tensor(ids, dtype=torch.int64)), str)


def test_invalid_utf8_and_special_symbols_are_shown():
    ids = torch.cat([DICTIONARY.encode_bytes(b"a\xff"), torch.tensor([3, 1, 2, 0, 999])])
    assert DICTIONARY.string(ids) == "a\\xff<unk><pad><unk>"
    assert DICTIONARY.string(ids, include_eos=True) == "a\\xff<unk><pad></s><unk>"
    assert DICTIONARY.string(torch.stack([ids[:2], ids[:2]])) == "a\\xff\na\\xff"
