"""Figures from one total."""

import math

import pytest

from fairseq_sharnn.data.text.symbols import name_of
from fairseq_sharnn.data.text.words import JOIN
from fairseq_sharnn.evaluation.scale import Scale, spelling_cost


def test_all_figures_come_from_one_total():
    scale = Scale(model_nats=600.0, spelling_nats=93.0, tokens=100, bytes=500, words=90, unknown=2)
    assert scale.nats == 693.0
    assert scale.nats_per_token == pytest.approx(6.93)
    assert scale.bits_per_byte == pytest.approx(693 / math.log(2) / 500)
    assert scale.word_perplexity == pytest.approx(math.exp(7.7))
    assert math.log2(scale.word_perplexity) * 90 == pytest.approx(scale.bits_per_byte * 500)
    assert scale.token_perplexity == pytest.approx(math.exp(6.0))
    report = scale.report()
    assert "nats per token       6.9300" in report and "2 <unk> are spelled out by a uniform byte model" in report
    assert "0.2683 of the bits per byte" in report and "the model by itself: 6.0000" in report
    assert "<unk>" not in scale._replace(spelling_nats=0.0, unknown=0).report()


def test_figures_too_large_for_a_float_are_infinite():
    scale = Scale(1e6, 0.0, 10, 10, 1, 0)
    assert scale.word_perplexity == math.inf and scale._replace(words=0).word_perplexity == math.inf


def test_unknown_words_are_charged_for_their_bytes_and_their_end():
    assert spelling_cost([]) == 0
    assert spelling_cost(["cat", name_of("\u00e9t\u00e9")]) == pytest.approx((3 + 1 + 5 + 1) * math.log(257))
    assert spelling_cost([name_of("\t"), JOIN]) == pytest.approx((2 + 1) * math.log(257))
