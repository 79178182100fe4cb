import pytest

from fairseq_sharnn.models.config import parse_attention_layers


@pytest.mark.parametrize(
    "text, layers, expected",
    [
        ("none", 4, ()),
        ("all", 3, (0, 1, 2)),
        ("second-to-last", 4, (2,)),
        ("1,3", 4, (1, 3)),
        ("3, 1", 4, (1, 3)),
        ("[0]", 1, (0,)),
    ],
)
def test_choice_of_layers(text, layers, expected):
    assert parse_attention_layers(text, layers) == expected


@pytest.mark.parametrize(
    "text, layers, message",
    [
        ("last", 4, "'last' is not"),
        ("second-to-last", 1, "no second-to-last"),
    ],
)
def test_impossible_choices_of_layers(text, layers, message):
    with pytest.raises(ValueError, match=message):
        parse_attention_layers(text, layers)
