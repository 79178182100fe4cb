"""The Python interface under arguments that people pass: each works, or is one clear ValueError or TypeError."""

import copy
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.models.sha_rnn import SHARNNLanguageModel

open_hub = SHARNNLanguageModel.from_pretrained


@pytest.fixture(params=["hub", "portable"])
def model(request):
    """Both interfaces in turn."""
    return request.getfixturevalue(request.param)


def figure(score) -> float:
    """What a text costs, of either interface's score."""
    return float(score["score"]) if isinstance(score, dict) else score.bits_per_byte


def one_line(error) -> str:
    """What an error says: one line."""
    message = str(error.value)
    assert message and "\n" not in message, message
    return message


@pytest.mark.parametrize("option", ["length", "top_k", "seed", "temperature", "top_p"])
@pytest.mark.parametrize("value", [None, "3", [3], True, object(), torch.tensor([1, 2]), torch.tensor(True), 1j])
def test_what_is_no_number(model, option, value):
    if option == "seed" and value is None:
        assert model.sample("a", length=1, seed=None).startswith("a")
        return
    with pytest.raises(TypeError) as error:
        model.sample("a", **{"length": 2, option: value})
    assert one_line(error).startswith(f"{option} must be a ")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"length": -1}, "length >= 0"),
        ({"top_k": np.int64(-3)}, "top_k >= 0"),
        ({"top_p": 1.5}, "0 < top_p <= 1"),
        ({"top_p": 10**400}, "0 < top_p <= 1"),
        ({"temperature": float("inf")}, "a finite temperature"),
        ({"temperature": -0.5}, "a finite temperature >= 0"),
        ({"temperature": float("nan")}, "a finite temperature >= 0"),
        ({"seed": 2**64}, "seed must be from"),
        ({"seed": -(2**63) - 1}, "seed must be from"),
    ],
)
def test_numbers_out_of_range(model, options, message):
    with pytest.raises(ValueError) as error:
        model.sample("a", **{"length": 2, **options})
    assert message in one_line(error)


@pytest.mark.parametrize("three", [np.int64(3), np.uint8(3), torch.tensor(3)])
def test_whole_numbers_of_numpy_and_torch(model, three):
    expected = model.sample("The ", length=3, seed=3, top_k=3)
    assert model.sample("The ", length=three, seed=three, top_k=three) == expected


@pytest.mark.parametrize("temperature", [1e-320, 1e-45, 1e-31, np.float32(0)])
def test_the_lowest_temperatures_take_the_likeliest(model, temperature):
    greedy = model.sample("The ", length=5, temperature=0)
    assert model.sample("The ", length=5, temperature=temperature) == greedy


def test_extreme_numbers_that_work(model):
    assert len(model.sample("a", length=4, temperature=1e30, seed=1)) >= 5
    assert model.sample("a", length=4, top_k=10**30, seed=2**64 - 1).startswith("a")
    assert model.sample("a", length=0) == "a"
    assert model.sample("The ", length=200, seed=1).startswith("The ")  # twice the context


@pytest.mark.parametrize("text", [b"ab", bytearray(b"ab"), memoryview(b"ab"), np.str_("ab"), memoryview(b"a_b_")[::2]])
def test_kinds_of_text(model, text):
    assert model.sample(text, length=4, seed=1) == model.sample("ab", length=4, seed=1)
    assert list(model.encode(text)) == list(model.encode("ab"))
    assert figure(model.score(text)) == figure(model.score("ab"))


@pytest.mark.parametrize(
    "text", [None, 3, Path("a"), {"a"}, np.frombuffer(b"ab", np.uint8), torch.tensor([1]), iter("a")]
)
def test_what_is_no_text(model, portable, text):
    calls = [model.sample, model.score, model.encode, portable.stream().feed]
    for call in calls:
        with pytest.raises(TypeError) as error:
            call(text)
        assert "must be a text (str or bytes)" in one_line(error)


def test_half_a_surrogate_pair(model, portable):
    for call in (model.sample, model.score, model.encode, portable.stream().feed):
        with pytest.raises(ValueError, match="half of a surrogate pair at character 1"):
            call("a\ud800")
    assert model.sample("a\udcff", length=2, seed=1).startswith("a\\xff")  # a byte, as Python reads file names


def test_nothing_to_score(model, hub):
    for empty in ("", b""):
        with pytest.raises(ValueError, match="nothing to score"):
            model.score(empty)
    for several in (["a", ""], [""]):
        with pytest.raises(ValueError, match="nothing to score"):
            hub.score(several)
    with pytest.raises(ValueError, match="nothing to score"):
        hub.score("\n", replace_newline_with_eos=True)
    assert hub.score([]) == [] and len(hub.score(("a", b"bc"))) == 2


@pytest.mark.parametrize("option", ["lanes", "chunk", "context_window"])
def test_numbers_of_score(portable, option):
    expected = portable.score("The value of the", **{option: 3}).nats
    assert portable.score("The value of the", **{option: np.int32(3)}).nats == expected
    for value in (3.0, "3", True, [3]):
        with pytest.raises(TypeError, match=f"{option} must be a whole number"):
            portable.score("The value of the", **{option: value})
    with pytest.raises(TypeError, match=r"dynamic must be DynamicSettings"):
        portable.score("The value of the", dynamic=5e-4)
    with pytest.raises(ValueError, match="must be at least"):
        portable.score("The value of the", **{option: -1})


@pytest.mark.parametrize(
    "ids", [[101, 102], (101, 102), np.array([101, 102]), torch.tensor([101, 102]), range(101, 103)]
)
def test_kinds_of_ids(model, portable, ids):
    assert model.decode(ids) == "ab"
    assert portable.stream().feed_ids(ids).shape == (2, 256)


@pytest.mark.parametrize(
    "ids, kind",
    [
        (None, TypeError),
        ("ab", TypeError),
        (5, TypeError),
        (torch.tensor(5), TypeError),
        (torch.tensor([1.5]), TypeError),
        ([True], TypeError),
        (["a"], TypeError),
        ([260], UsageError),
        (torch.tensor([-1]), UsageError),
        ([[5], [6]], UsageError),
    ],
)
def test_what_are_no_ids_of_the_model(model, hub, portable, ids, kind):
    calls = [model.decode, portable.stream().feed_ids, *([lambda ids: hub.generate([ids])] if ids is not None else ())]
    for call in calls:
        with pytest.raises(kind) as error:
            call(ids)
        one_line(error)


def test_generate(hub):
    ids = hub.encode("The ")
    best = hub.generate(ids, beam=np.int64(2), max_len_b=5)[0]["tokens"]
    assert torch.equal(best, hub.generate([ids.tolist()], beam=2, max_len_b=5)[0][0]["tokens"])
    assert hub.generate([], beam=2) == [] and hub.decode(torch.stack([ids, ids])) == "The \nThe "
    for beam, kind in ((0, ValueError), (-1, ValueError), (None, TypeError), (2.0, TypeError)):
        with pytest.raises(kind, match="beam must be"):
            hub.generate([ids], beam=beam)
    for sentences in (None, 3, "The "):
        with pytest.raises(TypeError, match="generate takes a list of ids"):
            hub.generate(sentences)
    with pytest.raises(ValueError, match="continue a text with sample"):
        hub.translate("The ")


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_and_pickles(model, again):
    other = again(model)
    assert other.sample("The ", length=9, seed=1) == model.sample("The ", length=9, seed=1)
    assert figure(other.score("The value")) == figure(model.score("The value"))
    torch.save(other, io.BytesIO())


def test_streams_are_copied_and_pickled(portable):
    stream = portable.stream()
    stream.feed("abc" * 60)
    expected = stream.copy().feed("The ")
    for other in (copy.copy(stream), copy.deepcopy(stream), pickle.loads(pickle.dumps(stream))):
        torch.testing.assert_close(other.feed("The "), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("cast", ["half", "bfloat16", "double", "float", "eval", "cpu"])
def test_moves_and_casts(model, cast):
    changed = getattr(copy.deepcopy(model), cast)()
    assert changed.sample("The ", length=5, seed=1).startswith("The ")
    assert figure(changed.score("The value of")) == pytest.approx(figure(model.score("The value of")), abs=0.05)


def test_torchs_quantization_is_refused_before_it_begins(model, portable):
    for one in (model, portable.module):
        with pytest.raises(ValueError, match=r"torch\.ao\.quantization does not fit this model: .* --int8"):
            torch.ao.quantization.quantize_dynamic(one, {torch.nn.Linear, torch.nn.LSTM}, dtype=torch.qint8)
    assert model.sample("a", length=2).startswith("a")


def test_a_loaded_model_is_not_trained(hub):
    with pytest.raises(ValueError, match="loaded for inference"):
        hub.train()
    assert hub.models[0].eval() is hub.models[0]


def test_a_model_whose_outputs_are_nan_says_so(portable):
    ruined = copy.deepcopy(portable)
    with torch.no_grad():
        next(ruined.network.parameters()).fill_(float("nan"))
    with pytest.raises(UsageError, match=r"outputs are not numbers \(NaN\)"):
        ruined.sample("The ", length=3, seed=1)
