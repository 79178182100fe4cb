"""The measurements of the tokenization study, on models small enough to check by hand."""

import argparse
import math

import numpy as np
import pytest
import torch
from fairseq.data import Dictionary
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.tokenization import attack, tables, words
from experiments.tokenization.plan import add_plan_options, make_plan
from experiments.tokenization.readers import StreamReader, WindowReader
from experiments.tokenization.segmentations import LINE_END, OneSegmentation, Segmenter, units_of
from fairseq_sharnn.data.corpora.byte_dictionary import ByteDictionary
from fairseq_sharnn.data.text.learn import train_pieces
from fairseq_sharnn.data.text.pieces import PieceModel, PieceTokenizer, dictionary_of
from fairseq_sharnn.data.text.spans import Spans, words_of_tokens
from fairseq_sharnn.data.text.words import JOIN, SPACE, WordRule, WordTokenizer
from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.models.sha_rnn import SHARNNDecoder, SHARNNLanguageModel
from fairseq_sharnn.modules.sha_rnn import SHARNN, SHARNNDropout, SHARNNSizes
from tests.conftest import real_text


@pytest.fixture(scope="module")
def segmenter():
    text = real_text(40000).decode("utf-8", "ignore").split("\n")
    model = PieceModel(train_pieces(lambda: iter(text), "unigram", 500), "model")
    return Segmenter(PieceTokenizer(model, dictionary_of(model, {}), "model"))


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from(list("ab \n\t.\u2581\u00e9")), max_size=40))
def test_units_are_the_text_and_segmenting_them_is_segmenting_it(segmenter, text):
    units = list(units_of(text))
    assert "".join(units) == text
    ids = [index for unit in units for index in segmenter.canonical(unit)]
    assert ids == segmenter.tokenizer.encode_prompt(text.encode())
    for unit in units:
        found = segmenter.n_best(unit, 5)
        assert found[0] == segmenter.canonical(unit) and len({tuple(ids) for ids in found}) == len(found) <= 5
        for segmentation in [*found, segmenter.sampled(unit, 0.1)]:
            assert segmenter.decode(segmentation) == unit.encode()


def test_words_have_several_segmentations_and_bytes_one(segmenter):
    assert len(segmenter.n_best(" statement", 64)) > 3 and segmenter.n_best(LINE_END, 64) == [[2]]
    control = OneSegmentation(ByteDictionary())
    assert control.n_best(" statement", 64) == [control.canonical(" statement")]
    assert control.decode(control.sampled(" statement", 0.1)) == b" statement"


class Scored:
    """What readers ask of a loaded model."""

    def __init__(self, model, dictionary):
        self.model = model.eval()
        self.task = type("Task", (), {"target_dictionary": dictionary, "carries_state": True})


def sha_rnn(vocab=40) -> Scored:
    torch.manual_seed(0)
    network = SHARNN(SHARNNSizes(vocab, 16, 32, 2, (0,), 1, 200), SHARNNDropout(0, 0, 0, 0, 0, 0))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    dictionary = Dictionary()
    for number in range(vocab - len(dictionary)):
        dictionary.add_symbol(f"w{number}")
    return Scored(SHARNNLanguageModel(SHARNNDecoder(dictionary, network)), dictionary)


def whole(scored, history, candidate):
    """−ln p of a candidate after a history, by running the model over all of it."""
    tokens = torch.tensor([[2, *history, *candidate]])
    with torch.no_grad():
        log_probs = scored.model.get_normalized_probs(scored.model(tokens[:, :-1]), log_probs=True)[0].double()
    picked = log_probs.gather(-1, tokens[0, 1:, None])[:, 0]
    return -float(picked[len(history) :].sum())


def test_a_reader_gives_what_the_whole_text_gives():
    scored = sha_rnn()
    reader, history = StreamReader(scored), []
    for part in ([5], [6, 7, 8], [9, 30]):
        candidates = [[10], [11, 12, 13], part, [14, 15]]
        expected = [whole(scored, history, candidate) for candidate in candidates]
        assert reader.nats(candidates).tolist() == pytest.approx(expected, abs=1e-5)
        assert reader.read(part) == pytest.approx(expected[2], abs=1e-5)
        history += part


def test_a_window_forgets_but_else_gives_the_same():
    scored = sha_rnn()
    model = scored.model

    class Decoder:
        """A Transformer's view: features apart from the output layer."""

        def __call__(self, tokens, features_only=False):
            features, _ = model.decoder.network(tokens.t())
            return features.transpose(0, 1), None

        output_layer = staticmethod(model.decoder.output_layer)

    class Stateless:
        decoder = Decoder()
        get_normalized_probs = staticmethod(model.get_normalized_probs)

    scored.model = Stateless
    reader = WindowReader(scored, window=40)
    reader.read([5, 6, 7])
    scored.model = model
    expected = [whole(scored, [5, 6, 7], candidate) for candidate in ([8], [9, 10, 11])]
    assert reader.nats([[8], [9, 10, 11]]).tolist() == pytest.approx(expected, abs=1e-5)
    reader.read(list(range(4, 40)))
    assert len(reader.history) == 40 and reader.history[-1] == 39


def test_sums_and_searches_on_a_real_tokenizer(segmenter):
    scored = sha_rnn(len(segmenter.tokenizer.dictionary))
    text = real_text(3000).decode("utf-8", "ignore")[2000:]
    summed = attack.sum_segmentations(scored, segmenter, text, window=64, count=20, best=16)
    bits = list(summed.bits_per_word.values())
    assert list(summed.bits_per_word) == [1, 2, 4, 8, 16] and summed.words == 20
    assert bits == sorted(bits, reverse=True) and bits[0] > bits[-1]
    rows = {row.segmentation: row for row in attack.search_segmentations(scored, segmenter, text, window=64, count=30)}
    assert rows["easiest looking"].token_perplexity < rows["canonical"].token_perplexity
    assert rows["likeliest"].bits_per_word <= rows["canonical"].bits_per_word
    assert rows["likeliest"].bits_per_word < rows["easiest looking"].bits_per_word
    control = OneSegmentation(ByteDictionary())
    same = attack.search_segmentations(sha_rnn(260), control, text, window=64, count=10)
    assert len({(row.tokens, row.nats) for row in same}) == 1


def test_figures_of_a_segmentation():
    figures = attack.describe_segmentation("any", math.log(2) * 60, 10, "ab cd\n")
    assert figures.bits_per_byte == pytest.approx(10) and figures.bits_per_word == pytest.approx(30)
    assert figures.token_perplexity == pytest.approx(64)


def spans_of(tokens):
    lengths = np.array([len(token) for token in tokens])
    data = np.frombuffer(b"".join(tokens), dtype=np.uint8)
    return data, Spans(lengths, words_of_tokens(data, lengths))


def test_places_in_words():
    tokens = [b" ", b"ca", b"t", b" ", b"", b"dog", b"", b".", b"\n", b" b", b"c d", b"e"]
    data, spans = spans_of(tokens)
    places = words.find_places(data, spans)
    assert places.word.tolist() == [-1, 0, 0, -1, -1, 1, -1, 1, -1, 2, 3, 3]
    assert places.position.tolist() == [-1, 0, 1, -1, -1, 0, -1, 1, -1, 0, 0, 1]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([b"", b" ", b"a", b" ab", b"c", b"\n", b"d "]), min_size=1, max_size=20), st.data())
def test_whole_words_are_right_when_all_between_their_ends_and_the_end_is(tokens, data):
    text, spans = spans_of(tokens)
    places = words.find_places(text, spans)
    if not spans.words.sum():
        return
    hits = np.array(data.draw(st.lists(st.booleans(), min_size=len(tokens), max_size=len(tokens))))
    nats = np.arange(1.0, len(tokens) + 1)
    count = int(places.word.max(initial=-1)) + 1
    closed = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)), dtype=bool)
    figures = words.measure_words(nats, hits, closed, np.ones(len(tokens), dtype=bool), places)
    right = []
    for word in range(int(spans.words.sum())):
        mine = np.flatnonzero(places.word == word)
        if len(mine):
            right.append(hits[mine[0] : mine[-1] + 1].all() and closed[word])
    if len(right) == spans.words.sum():
        assert figures.word_accuracy == pytest.approx(np.mean(right))
    assert figures.first_share + figures.hidden_share == pytest.approx(1)
    by = figures.by_position
    inside = places.position >= 0
    assert sum(row.tokens for row in by) == inside.sum()
    assert sum(row.tokens * row.bits for row in by) == pytest.approx(nats[inside].sum() / math.log(2))


def test_a_word_is_closed_by_a_guess_that_begins_with_white(segmenter):
    """Text "in a\ncat": the tokens predicted after "in" and "a" decide, others do not."""
    dictionary = ByteDictionary()
    ids = dictionary.encode_bytes(b"in a\ncat").numpy()
    places = words.find_places(*spans_of([bytes([value]) for value in b"in a\ncat"]))
    spell = words.make_speller(type("Task", (), {"dictionary": dictionary}))
    for guessed, expected in ((b"xn a\nxxx", [True, True, True]), (b"insa\ncat", [False, True, True])):
        guesses = dictionary.encode_bytes(guessed).numpy()
        assert words.find_closed_words(spell, ids, guesses, places).tolist() == expected

    tokens = segmenter.tokenizer.encode_prompt(b"in the\n")
    spelled = segmenter.tokenizer.spell(tokens)
    places = words.find_places(*spans_of(spelled))
    for behind, expected in ((b"\n", True), (b" a", True), (b"s", False), (b",", False)):
        guesses = np.array(tokens)
        guesses[-1] = segmenter.tokenizer.encode_prompt(behind)[0]
        assert (
            words.find_closed_words(segmenter.tokenizer.spell, np.array(tokens), guesses, places).tolist()[-1]
            == expected
        )


def test_words_are_closed_by_the_rule_of_their_spaces():
    dictionary = Dictionary()
    for name in ("dog", ",", "cat", JOIN, SPACE):
        dictionary.add_symbol(name)
    tokenizer = WordTokenizer(WordRule("moses"), dictionary)
    ids = np.array([dictionary.index(name) for name in ("dog", "cat")])
    places = words.find_places(*spans_of(tokenizer.spell(ids.tolist())))
    for guess, expected in (("cat", True), (",", False), (JOIN, False), (SPACE, True), ("</s>", True)):
        guesses = np.array([dictionary.index("dog"), dictionary.index(guess)])
        closed = words.find_closed_words(tokenizer.spell, ids, guesses, places)
        assert closed.tolist() == [expected, True], guess


def test_numbers_in_tables():
    assert [tables.rounded(value) for value in (4114.2, 99_999_999.0, 4.08e42, math.inf)] == [
        "4,114",
        "99,999,999",
        "4.08e+42",
        "inf",
    ]
    assert tables.signed(-0.0001, 2) == "+0.00" and tables.percent(None) == ""


def test_a_plan_has_an_option_for_each_of_its_settings():
    parser = argparse.ArgumentParser()
    add_plan_options(parser)
    args = parser.parse_args("--piece-sizes 300,400 --passes 0.5 --seed -3".split())
    plan = make_plan(args, "text", "digest")
    assert (plan.piece_sizes, plan.passes, plan.seed, plan.words) == ((300, 400), 0.5, -3, 8000)
    for wrong in ("--piece-sizes 300,0", "--passes 0", "--layers 1", "--piece-sizes x"):
        option = wrong.split()[0]
        with pytest.raises(UsageError, match=f"^{option} "):
            make_plan(parser.parse_args(wrong.split()), "text", "digest")
