"""Models opened in Python: from paths of every kind, with options of every kind, one checkpoint or several."""

from pathlib import Path

import pytest
import torch

from fairseq_sharnn import load
from fairseq_sharnn.models.sha_rnn import SHARNNLanguageModel
from tests.integration.forked import train_forked

TRANSFORMER = "--arch transformer_lm --decoder-embed-dim 32 --decoder-ffn-embed-dim 64 --decoder-layers 1".split()
open_hub = SHARNNLanguageModel.from_pretrained


def test_kinds_of_paths(hub, portable, trained, tmp_path):
    folder = trained[0]
    expected = hub.sample("The ", length=5, seed=1)
    for one in (folder, str(folder), str(folder).encode()):
        assert open_hub(one, Path("checkpoint_last.pt"), None).sample("The ", length=5, seed=1) == expected
    assert open_hub(tmp_path, folder / "checkpoint_last.pt").sample("The ", length=5, seed=1) == expected
    for one in (None, 3, [folder]):
        for call in (open_hub, lambda path: open_hub(folder, path) if path != [folder] else open_hub(path), load):
            with pytest.raises(TypeError, match="must be a path"):
                call(one)
    for call in (
        lambda: open_hub(folder, ""),
        lambda: open_hub(folder, "a.pt:"),
        lambda: load(""),
        lambda: load("a\0"),
    ):
        with pytest.raises(ValueError, match="must name"):
            call()
    with pytest.raises(ValueError, match=r"is not a folder: give the one that holds x\.pt"):
        open_hub(folder / "checkpoint_last.pt", "x.pt")
    stream = portable.stream()
    stream.save(tmp_path / "stream")
    assert portable.stream(tmp_path / "stream").count == 0
    for call in (stream.save, portable.stream):
        with pytest.raises(TypeError, match="file must be a path"):
            call(3)
    for path in (tmp_path, tmp_path / "gone" / "stream"):
        for call in (stream.save, portable.stream):
            with pytest.raises(ValueError, match=r"cannot (read|write)"):
                call(path)


@pytest.mark.parametrize(
    "options, kind, message",
    [
        ({"device": 0}, TypeError, "device must be cpu"),
        ({"device": "meta"}, ValueError, "device meta is not available"),
        ({"device": torch.device("cuda:7")}, ValueError, "device cuda:7 is not available"),
        ({"device": ""}, ValueError, "is none that torch knows"),
        ({"dtype": 16}, TypeError, "dtype must be float32"),
        ({"dtype": torch.float64}, ValueError, "dtype must be one of"),
        ({"dtype": "int8"}, ValueError, "dtype must be one of"),
        ({"data": 3}, TypeError, "data must be a path"),
    ],
)
def test_options_of_load(trained, options, kind, message):
    with pytest.raises(kind, match=message) as error:
        load(trained[0] / "checkpoint_last.pt", **options)
    assert "\n" not in str(error.value)


def test_devices_and_types_as_torch_has_them(trained):
    model = load(trained[0] / "checkpoint_last.pt", torch.device("cpu"), torch.bfloat16, trained[0])
    assert (model.device, model.dtype) == (torch.device("cpu"), torch.bfloat16)


def test_an_option_that_does_not_exist(trained):
    with pytest.raises(TypeError, match="from_pretrained has no argument divice"):
        open_hub(trained[0], "checkpoint_last.pt", divice="cpu")
    assert open_hub(trained[0], "checkpoint_last.pt", context_length=200).models[0].decoder.network.sizes.context == 200


@pytest.fixture(scope="module")
def other(corpus, tmp_path_factory):
    """A checkpoint of the same sizes, trained otherwise."""
    folder = tmp_path_factory.mktemp("other")
    assert train_forked(corpus, folder, "--max-update", 6, "--seed", 5).code == 0
    return folder / "checkpoint_last.pt"


def test_several_checkpoints_are_one_model(hub, trained, other):
    """`sample` draws from the mean of the probabilities, which is what `score` scores."""
    files = [trained[0] / "checkpoint_last.pt", other]
    both = open_hub(trained[0], f"checkpoint_last.pt:{other}")
    assert open_hub(trained[0], files).sample("The ", length=9, seed=1) == both.sample("The ", length=9, seed=1)
    text = both.sample("The value", length=60, temperature=0)
    ids = both.encode(text)[:-1]
    with torch.no_grad():
        tokens = torch.cat([torch.tensor([2]), ids])[None, :-1]
        each = torch.stack([model.get_normalized_probs(model(tokens), log_probs=False)[0] for model in both.models])
    mean = each.mean(0)
    assert mean[len("The value") :, 4:].argmax(1).add(4).tolist() == ids[len("The value") :].tolist()
    torch.testing.assert_close(
        both.score(text)["positional_scores"], mean.gather(1, ids[:, None])[:, 0].log(), rtol=0, atol=1e-4
    )
    alone = [open_hub(file.parent, file.name) for file in files]
    drawn = {model.sample("The value", length=60, seed=3, temperature=2) for model in (*alone, both)}
    assert len(drawn) == 3
    twice = open_hub(trained[0], [files[0]] * 2)
    assert twice.sample("The ", length=30, seed=1) == hub.sample("The ", length=30, seed=1)


def test_a_model_without_state(corpus, trained, tmp_path):
    """`sample` refuses it, and the advice of the message works."""
    assert train_forked(corpus, tmp_path, model=[*TRANSFORMER, "--decoder-attention-heads", 1]).code == 0
    model = open_hub(tmp_path, "checkpoint_last.pt")
    with pytest.raises(ValueError, match="carry state, and this checkpoint is a TransformerLanguageModel") as error:
        model.sample("The ")
    expression = str(error.value).partition("draw with ")[2].replace("generate(", "model.generate(", 1)
    (hypotheses,) = eval(expression, {"model": model, "prompt": "The "})
    assert model.decode(hypotheses[0]["tokens"]).startswith("The ")
    assert len(model.score("The ")["positional_scores"]) == 4
    with pytest.raises(ValueError, match="carry state"):
        open_hub(tmp_path, [tmp_path / "checkpoint_last.pt", trained[0] / "checkpoint_last.pt"]).sample("The ")
