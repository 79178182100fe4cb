"""Words and pieces there and back: any text, to the last byte."""

import pydoc_data.topics
from functools import lru_cache

import pytest
from fairseq.data import Dictionary
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fairseq_sharnn.data.text import lines
from fairseq_sharnn.data.text.learn import train_pieces
from fairseq_sharnn.data.text.moses import default_gaps, surfaces
from fairseq_sharnn.data.text.pieces import PieceModel, PieceTokenizer, dictionary_of
from fairseq_sharnn.data.text.recognise import recognise
from fairseq_sharnn.data.text.symbols import RESERVED, name_of, text_of
from fairseq_sharnn.data.text.words import MARKS, WordRule, WordTokenizer
from fairseq_sharnn.errors import UsageError

quick = settings(max_examples=200, deadline=None)

# Text that finds the seams: spaces of all kinds, sentencepiece's sign for one, Moses' own placeholders, WikiText.
AWKWARD = [" ", "  ", "\t", "\n", "\r\n", "\0", "\u2581", "\u2585", "\u00a0", "\u3000", "\u2028", "\x1c", "\ufeff"]
AWKWARD += ["e\u0301", "\ufb01", "\U0001f642", "\U0010ffff", "\\", "\\j", "<unk>", "</s>", "<0x0A>", "@-@", " @,@ "]
AWKWARD += ["DOTMULTI", "DOTDOTMULTI", "THISISPROTECTED000", "...", "don't", '"', "'", "&quot;", "(a)", "3.5%", "U.S."]
AWKWARD += [" = Title = \n", "The", "cat", ",", ".", "\u4e2d\u6587"]
seams = st.lists(st.sampled_from(AWKWARD) | st.characters(blacklist_categories=("Cs",)), max_size=30).map("".join)
texts = st.text(st.characters(blacklist_categories=("Cs",)), max_size=60) | seams

RULES = [WordRule("moses"), WordRule("spaced"), WordRule("spaced", edge=" ")]


def english(size=60000):
    with open(pydoc_data.topics.__file__, encoding="utf-8") as file:
        return file.read()[:size]


@quick
@given(texts)
def test_names_are_printable_distinct_and_lead_back(text):
    name = name_of(text)
    assert name.isprintable() and " " not in name and text_of(name) == text
    assert name not in RESERVED and name not in MARKS[:2]


def split_in_lines(text, folder=None):
    ended = text.split("\n")
    for number, line in enumerate(ended):
        yield from lines.parts_of(line, number < len(ended) - 1)


def words_there_and_back(rule, text):
    dictionary, ids, rest = Dictionary(), [], []
    for part in split_in_lines(text):
        item = [dictionary.add_symbol(name) for name in rule.names(part)]
        item += [dictionary.eos()] if part.last and part.ended else []
        ids += item
        rest.append((item, not part.first))
    tokenizer = WordTokenizer(rule, dictionary)
    whole = tokenizer.spell(ids)
    assert len(whole) == len(ids)
    in_parts = [spelled for item, continues in rest for spelled in tokenizer.spell(item, continues=continues)]
    assert in_parts == whole, "parts of a line are spelled as in the whole line"
    return whole


@pytest.mark.parametrize("rule", RULES, ids=["moses", "spaced", "wikitext"])
@quick
@given(text=texts)
@example(text="")
@example(text=" \n = Valkyria Chronicles III = \n \n Senj\u014d no Valkyria 3 : <unk> @-@ b \n")
def test_words_come_back_to_the_byte(rule, text):
    assert b"".join(words_there_and_back(rule, text)) == text.encode()


@pytest.mark.parametrize("rule", RULES, ids=["moses", "spaced", "wikitext"])
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_long_lines_come_back_in_parts(rule, data):
    text = data.draw(seams) + "word and, word " * 2000 + data.draw(seams) + "x" * 20000 + " y" * 9000
    assert b"".join(words_there_and_back(rule, text)) == text.encode()
    assert max(len(part.text) for part in lines.parts_of("a b " * 9000, True)) < lines.LONGEST + 4


@pytest.mark.parametrize("rule", RULES, ids=["moses", "spaced", "wikitext"])
@quick
@given(ids=st.lists(st.integers(0, 8), max_size=12))
def test_any_ids_decode(rule, ids):
    """What a model draws need not be what an encoder writes."""
    dictionary = Dictionary()
    for name in (*MARKS, "a", name_of("\t")):
        dictionary.add_symbol(name)
    assert len(dictionary) == 9
    assert len(WordTokenizer(rule, dictionary).spell(ids)) == len(ids)


def test_marks_are_few_in_plain_english():
    """The rule is the detokenizer's: what it restores costs no token."""
    rule, words, marks = WordRule("moses"), 0, 0
    text = "He said \"hello\" (and left), didn't he? It's 3.5% of the U.S. budget; x-rays cost more.\n" * 3
    for part in split_in_lines(text):
        for name in rule.names(part):
            words, marks = words + 1, marks + (name in MARKS)
    assert words > 60 and marks == 0


def test_wikitext_costs_one_token_a_word_and_one_a_line():
    text = " \n = Robert <unk> = \n \n Robert <unk> is an English film @-@ actor . He had 3 @,@ 000 fans . \n"
    names = [list(WordRule("spaced", edge=" ").names(part)) for part in split_in_lines(text)]
    assert names[0] == names[2] == names[4] == [] and names[1] == ["=", "Robert", "\\x3cunk>", "="]
    assert len(names[3]) == len(text.splitlines()[3].split()) and names[3][5:8] == ["film", "@-@", "actor"]
    moses = list(WordRule("moses").names(lines.Part("a film @-@ <unk> 3 @,@ 000", True, True, True)))
    assert moses == ["a", "film", "@-@", "\\x3cunk>", "3", "@,@", "000"]


@pytest.mark.parametrize(
    "text, rule",
    [
        (" \n = Title = \n \n Words , and words . \n", WordRule("spaced", edge=" ")),
        ("no it was n't black monday\n but while the <unk> did n't fall apart\n", WordRule("spaced")),
        (" anarchism originated as a term of abuse", WordRule("spaced")),
        ("Anarchism originated as a term of abuse.\n", WordRule("moses")),
        ("What <unk> is. " + "It is a word. " * 400, WordRule("moses")),
        (" An indented line, once. \nAnd others.\n", WordRule("moses")),
    ],
)
def test_styles_are_recognised(tmp_path, text, rule):
    (tmp_path / "text").write_text(text)
    assert recognise(str(tmp_path / "text")) == (rule, "<unk>" in text)
    assert recognise(str(tmp_path / "text"), "moses")[0] == WordRule("moses")


def test_what_sacremoses_rewrites_is_cut_simply():
    assert surfaces("DOTDOTMULTI and ...", "en") == ["DOTDOTMULTI", "and", ".", ".", "."]
    assert default_gaps(["a", "&amp;"], "en") == [True]


@lru_cache(maxsize=None)
def piece_tokenizer(kind) -> PieceTokenizer:
    text = english().split("\n")
    model = PieceModel(train_pieces(lambda: iter(text), kind, 500), "model")
    return PieceTokenizer(model, dictionary_of(model, {}), "model")


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@quick
@given(text=texts)
@example(text="")
@example(text="  lead\u2581 \u2581\u2581a  \0\t\r\n\n x ")
def test_pieces_come_back_to_the_byte(kind, text):
    tokenizer = piece_tokenizer(kind)
    ids = tokenizer.encode_prompt(text.encode())
    assert tokenizer.decode(ids) == text.encode()
    assert all(index == tokenizer.dictionary.eos() or index >= tokenizer.dictionary.nspecial for index in ids)
    assert ids.count(tokenizer.dictionary.eos()) == text.count("\n")


def test_pieces_are_the_same_every_time():
    text = english(20000).split("\n")
    assert len({train_pieces(lambda: iter(text), "unigram", 400) for _ in range(2)}) == 1


def test_models_that_lose_text_are_refused():
    import io

    import sentencepiece

    def trained(**options):
        out = io.BytesIO()
        text = english(20000).split("\n")
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(text), model_writer=out, vocab_size=400, minloglevel=2, **options
        )
        return out.getvalue()

    for options in ({}, {"byte_fallback": True}, {"add_dummy_prefix": False, "remove_extra_whitespaces": False}):
        with pytest.raises(UsageError, match="m loses text"):
            PieceModel(trained(**options), "m")
    with pytest.raises(UsageError, match="m is not a model of sentencepiece"):
        PieceModel(b"once upon a time", "m")


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_vocabulary_that_the_text_does_not_allow_is_named(kind):
    text = english(3000).split("\n")
    with pytest.raises(UsageError, match="--vocab-size 50000 is larger than the training text allows: choose at most"):
        train_pieces(lambda: iter(text), kind, 50000)
    with pytest.raises(UsageError, match="--vocab-size 250 is too small for this text's characters: choose at least"):
        train_pieces(lambda: iter(text), kind, 250)
