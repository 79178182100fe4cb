"""Each range of the network's sizes and rates is checked here, and names its field."""

import pytest

from fairseq_sharnn.modules.sizes import SHARNNDropout, SHARNNSizes


@pytest.mark.parametrize(
    "sizes, message",
    [
        ({"width": 0}, "`width` must be at least 1, but it is 0"),
        ({"layers": 0}, "`layers` must be at least 1"),
        ({"context": 0}, "`context` must be at least 1"),
        ({"heads": 0}, "`heads` must be at least 1"),
        ({"heads": 5}, "`heads` 5 does not divide `width` 12"),
        ({"boom_width": 7}, "`boom_width` 7 is below `width` 12"),
        ({"boom_width": 0, "feed_forward": "full"}, "`boom_width` must be at least 1, but it is 0"),
        ({"attention_layers": (1, 4)}, "`attention_layers`: layer 4 does not exist.* numbered 0 to 3"),
        ({"attention_layers": (-1,)}, "`attention_layers`: layer -1 does not exist"),
        ({"static_vectors": "bare"}, "`static_vectors` must be one of overparameterized, plain, but it is bare"),
        ({"feed_forward": "swiglu"}, "`feed_forward` must be one of boom, full, but it is swiglu"),
    ],
)
def test_sizes_that_do_not_fit_are_named(sizes, message):
    with pytest.raises(ValueError, match=message):
        SHARNNSizes(**{"vocab": 20, "width": 12, "boom_width": 24, **sizes})


def test_a_full_feed_forward_layer_may_be_narrower_than_the_model():
    assert SHARNNSizes(20, 12, 6, feed_forward="full").boom_width == 6


@pytest.mark.parametrize("rate", [-0.1, 1.0, 2.0, float("nan")])
@pytest.mark.parametrize("site", ["input", "hidden", "attention", "boom", "output", "dropconnect"])
def test_rates_out_of_range_are_named(site, rate):
    with pytest.raises(ValueError, match=rf"`{site}` must be in \[0, 1\), but it is {rate}"):
        SHARNNDropout(**{site: rate})
