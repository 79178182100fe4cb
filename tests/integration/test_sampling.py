"""From a loaded checkpoint to text: the hub interface."""

import pytest
import torch

from fairseq_sharnn.models.sha_rnn import SHARNNLanguageModel


@pytest.fixture(scope="module")
def model(trained):
    folder, _ = trained
    return SHARNNLanguageModel.from_pretrained(str(folder), "checkpoint_best.pt", str(folder))


def test_sample_continues_the_prompt(model):
    text = model.sample("The statement", length=40, seed=1)
    assert text.startswith("The statement") and len(text.encode("utf-8", "ignore")) >= 40
    assert model.sample("The statement", length=40, seed=1) == text
    assert model.sample("The statement", length=40, seed=2) != text
    assert model.sample("x", length=0) == "x"
    assert isinstance(model.sample(), str)


def test_sample_of_bytes(model):
    data = model.sample_bytes(b"\xff\x00", length=30, seed=3)
    assert data.startswith(b"\xff\x00") and len(data) == 32


def test_greedy_sampling_follows_the_models_probabilities(model):
    """Temperature 0, checked against the model run on the whole text at once; longer than its context."""
    prompt = b"An assignment statement evaluates the expression list. " * 3
    data = model.sample_bytes(prompt, length=20, temperature=0)
    dictionary = model.task.source_dictionary
    tokens = torch.cat([torch.tensor([dictionary.eos()]), dictionary.encode_bytes(data)])[None]
    network = model.models[0].decoder.network
    with torch.no_grad():
        state, logits = None, []
        for token in tokens[0]:
            features, state = network(token.view(1, 1), state)
            logits.append(network.logits(features[0, 0])[dictionary.offset :])
    assert bytes(logits[len(prompt) + step].argmax().item() for step in range(20)) == data[len(prompt) :]


@pytest.mark.parametrize("options", [{"top_k": 1}, {"top_p": 1e-6}])
def test_narrow_draws_are_greedy(model, options):
    assert model.sample("The ", length=12, seed=5, **options) == model.sample("The ", length=12, temperature=0)


@pytest.mark.parametrize(
    "options", [{"length": -1}, {"temperature": -1}, {"temperature": float("nan")}, {"top_p": 0}, {"top_k": -2}]
)
def test_settings_out_of_range(model, options):
    with pytest.raises(ValueError, match="sample needs"):
        model.sample("x", **options)


def test_what_cannot_be_loaded_or_sampled_is_an_ordinary_exception(model, tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        SHARNNLanguageModel.from_pretrained(str(tmp_path / "nowhere"), "x.pt")
    with pytest.raises(ValueError, match=r"x\.pt does not exist"):
        SHARNNLanguageModel.from_pretrained(str(tmp_path), "x.pt")
    with pytest.raises(TypeError, match="for lists of texts and beams"):
        model.sample(["The "])


def test_fairseqs_own_generation_and_scoring_work(model):
    dictionary = model.task.source_dictionary
    hypotheses = model.generate([dictionary.encode_bytes(b"The value")], beam=3, max_len_b=20)
    tokens = hypotheses[0][0]["tokens"]
    assert dictionary.string(tokens).startswith("The value")
    score = model.score("The value of the expression")
    assert len(score["positional_scores"]) == len("The value of the expression")
    text = dictionary.encode_bytes(b"The value of the expression")
    whole = torch.cat([torch.tensor([dictionary.eos()]), text])[None, :-1]
    with torch.no_grad():
        probabilities = model.models[0].get_normalized_probs(model.models[0](whole), log_probs=True)
    expected = probabilities[0].gather(1, text[:, None])[:, 0]
    torch.testing.assert_close(score["positional_scores"], expected, rtol=0, atol=1e-4)


def test_model_is_collapsed_for_inference(model):
    attending = [block for block in model.models[0].decoder.network.blocks if block.attention is not None]
    assert attending and all(block.attention.value._collapsed is not None for block in attending)
