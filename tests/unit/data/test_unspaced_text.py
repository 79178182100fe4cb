"""Text without spaces, or with very few: every text has its pieces and its words, and comes back to the last byte."""

import os
import re
import tempfile
from contextlib import contextmanager

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fairseq_sharnn.data.corpora.prepare import SPLITS
from fairseq_sharnn.data.text import lines, prepare
from fairseq_sharnn.data.text.learn import SMALLEST, learn_pieces
from fairseq_sharnn.data.text.pieces import PieceModel, PieceTokenizer, dictionary_of
from fairseq_sharnn.data.text.spacing import few_spaces
from fairseq_sharnn.errors import UsageError

few = settings(max_examples=25, deadline=None)
SCRIPTS = {
    "Chinese": "今天气很好我们去公园明下雨。",
    "Japanese": "今日はとても天気がいいです、カタカナ",
    "Thai": "สวัสดีครับวันนี้อากาศ",
    "Khmer": "ខ្ញុំស្រលាញ់ភាសាខ្មែរ",
    "DNA": "ACGT",
    "emoji": "🙂🙃👩\u200d👧",
    "one character": "a",
    "line ends": "\r",
    "nothing to learn": "\t\0\u2581\u2585\x1f",
    "control characters": "".join(map(chr, [*range(1, 9), *range(11, 32), 127, 128, 133, 159])),
    "wide and rare spaces": "字\u3000\u2028 ",
    "not for interchange": "\ufffe\uffff\ufeff\ufffd\u2047",
    "in words": "ab \u2581",
}
OF_SCRIPTS = st.sampled_from(sorted(SCRIPTS)).flatmap(
    lambda script: st.lists(st.text(st.sampled_from(SCRIPTS[script]), max_size=60), min_size=1, max_size=12)
)
ANY = st.lists(st.text(st.characters(blacklist_categories=("Cs",)), max_size=30), min_size=1, max_size=6)
TEXTS = st.one_of(OF_SCRIPTS, ANY).map("\n".join)
OTHER = st.text(st.characters(blacklist_categories=("Cs",)), max_size=40)


@contextmanager
def silent(total, what):
    yield lambda count: None


def tokenizer_of(text, kind, size):
    proto, coverage = learn_pieces(lambda: iter(text.split("\n")), kind, size)
    assert 0 < coverage <= 1
    model = PieceModel(proto, "model")
    assert size is None or model.processor.get_piece_size() == size
    return PieceTokenizer(model, dictionary_of(model, {}), "model")


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@few
@given(text=TEXTS, other=OTHER, size=st.sampled_from([None, SMALLEST, SMALLEST + 3, 300, 2000]))
@example(text="今天天气很好\n我们去公园\n明天下雨\n" * 200, other=" a  b\u2581 ", size=271)
@example(text="\n\n\n", other="a b", size=None)
@example(text="\r\n" * 9, other="\r", size=SMALLEST)
@example(text="1\n0\r", other="", size=SMALLEST)
@example(text="01\x1f", other="", size=SMALLEST)
@example(text="\x1f", other="\x1e", size=None)
def test_every_text_has_pieces_and_every_other_one_comes_back(kind, text, other, size):
    try:
        tokenizer = tokenizer_of(text, kind, size)
    except UsageError as error:
        advised = re.search(r"is larger than the training text allows: choose at most (\d+)$", str(error))
        tokenizer = tokenizer_of(text, kind, int(advised.group(1)))
    for sample in (text, other, f"{text} {other}"):
        assert tokenizer.decode(tokenizer.encode_prompt(sample.encode())) == sample.encode()


def test_more_characters_than_pieces_are_spelled_in_bytes():
    """20,000 characters, all as frequent, in a vocabulary of 1,000."""
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 20000)))
    tokenizer = tokenizer_of(text, "bpe", 1000)
    assert tokenizer.decode(tokenizer.encode_prompt(text.encode())) == text.encode()


def test_a_space_that_is_no_piece_costs_one_token():
    """Not the three bytes of the sign that sentencepiece writes for it, and not the rest of its line in bytes."""
    tokenizer = tokenizer_of("今天天气很好\n" * 50, "unigram", None)
    assert len(tokenizer.encode_line("今天 天气")) == 5
    assert len(tokenizer.encode_line("今天\u2581天气")) == 7


@pytest.mark.parametrize("kind", ["word", "unigram", "bpe"])
@few
@given(text=TEXTS.filter(bool))
@example(text="\n")
@example(text="กขค" * 6000)
def test_folders_of_such_text_are_written_and_checked(kind, text):
    """`prepare` compares what it has written with the source, and refuses a difference."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = os.path.join(folder, "text"), os.path.join(folder, "out")
        with open(source, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        sources = dict.fromkeys(SPLITS, source)
        if kind == "word":
            about = prepare.prepare_words(out, sources, silent)
        else:
            about = prepare.prepare_pieces(out, sources, silent, kind)
        assert about["splits"]["test"]["bytes"] == len(text.encode())


def test_long_parts_are_cut_at_any_character():
    long = lines.Part("x" * 20000, True, True, True)
    parts = list(lines.short(iter([long, lines.Part("a b", True, True, False)])))
    assert [len(part.text) for part in parts] == [8192, 8192, 3616, 3]
    assert [part.first for part in parts] == [True, False, False, True]
    assert [part.last for part in parts] == [False, False, True, True]


@pytest.mark.parametrize("script", ["Chinese", "Japanese", "Thai", "Khmer"])
def test_scripts_without_spaces_are_named(script):
    note = few_spaces(f"{SCRIPTS[script]}\n" * 50)
    assert re.search(r"\(\d+% of its characters are of scripts that put no spaces between words\)", note)


def test_long_runs_and_white_space_are_named():
    assert "70 characters stand between two spaces on average" in few_spaces(("ACGT" * 18)[:70] + "\n")
    assert "only white space" in few_spaces("\n \n")


@pytest.mark.parametrize(
    "text",
    [
        "Plain English, with the words between spaces.\n",
        "Лингвистическая неопределённость\n",
        "apple\nbanana\ncherry\n",
        "Rechtsschutzversicherungsgesellschaften hoffen.\n",
        "The word 猫 means cat, and nothing else is Chinese here.\n",
    ],
)
def test_other_text_needs_no_note(text):
    assert few_spaces(text * 20) is None
