"""What `python -m fairseq_sharnn` refuses: one line each, exit code 1, and no half-written OUT."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from fairseq_sharnn.portable import command_line, onnx_files


@pytest.fixture(scope="module")
def made(trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "model"
    assert command_line.main(["export", str(trained[0] / "checkpoint_best.pt"), str(out)]) == 0
    return out


@pytest.fixture
def model(made, tmp_path):
    """A copy of an exported model, to be damaged."""
    return shutil.copytree(made, tmp_path / "model")


def refused(*arguments) -> str:
    """The one line with which a command ends."""
    with pytest.raises(SystemExit) as error:
        command_line.main([str(argument) for argument in arguments])
    line = str(error.value.code)
    assert line.startswith("error: ") and "\n" not in line
    return line


def edit(model, **changes):
    path = model / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_folder_that_is_no_export(tmp_path):
    assert "is not an exported model: it has no config.json" in refused("sample", "--model", tmp_path)
    assert "does not exist" in refused("sample", "--model", tmp_path / "nowhere")


def test_files_cut_short(model, trained, tmp_path):
    weights, config = model / "model.safetensors", model / "config.json"
    whole = weights.read_bytes()
    for size in (0, 5, 300, len(whole) - 10):
        weights.write_bytes(whole[:size])
        assert "model.safetensors is cut short or damaged" in refused("sample", "--model", model)
    config.write_text(config.read_text()[:100])
    assert "config.json is cut short or damaged" in refused("score", config, "--model", model)
    weights.unlink()
    assert "it has no model.safetensors" in refused("sample", "--model", model)
    checkpoint = (trained[0] / "checkpoint_best.pt").read_bytes()
    for size in (0, 100, len(checkpoint) // 2):
        (tmp_path / "short.pt").write_bytes(checkpoint[:size])
        assert "short.pt is" in refused("sample", "--model", tmp_path / "short.pt")


def test_a_configuration_of_a_newer_format(model):
    edit(model, format_version=2)
    line = refused("sample", "--model", model)
    assert "config.json has format version 2" in line and "install a newer fairseq_sharnn" in line


@pytest.mark.parametrize(
    "changes", [{"format": "other"}, {"text": "runes"}, {"sizes": {}}, {"surprise": 1}, {"chunk": 0}, {"dtype": "int3"}]
)
def test_a_configuration_that_is_damaged(model, changes):
    edit(model, **changes)
    assert "config.json is" in refused("sample", "--model", model)


def test_weights_of_other_shapes(model):
    path = model / "model.safetensors"
    tensors = load_file(path)
    sizes = json.loads((model / "config.json").read_text())["sizes"]
    edit(model, sizes={**sizes, "boom_width": 96})
    assert "blocks.0.boom.expand.bias as [64]" in refused("sample", "--model", model)
    edit(model, sizes={**sizes, "layers": 3})
    assert "lacks network.blocks.2" in refused("sample", "--model", model)
    edit(model, sizes=sizes)
    save_file({**tensors, "extra": torch.zeros(1)}, path)
    assert "has extra, which the configuration does not know" in refused("sample", "--model", model)


def test_a_vocabulary_that_does_not_fit(model):
    sizes = json.loads((model / "config.json").read_text())["sizes"]
    edit(model, sizes={**sizes, "vocab": 300})
    assert "a vocabulary of 260 symbols, but its configuration has 300" in refused("sample", "--model", model)
    edit(model, sizes={**sizes, "vocab": 260}, text="word")
    assert "cannot read" in refused("sample", "--model", model)


def test_onnx_packages_missing(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_files.importlib.util, "find_spec", lambda name: None)
    line = refused("export", trained[0] / "checkpoint_best.pt", tmp_path / "out", "--onnx")
    assert "pip install onnx onnxruntime" in line and not list(tmp_path.iterdir())


def test_export_refuses_to_overwrite_and_leaves_nothing_behind(made, trained, tmp_path, monkeypatch):
    checkpoint = trained[0] / "checkpoint_best.pt"
    (tmp_path / "out").mkdir()
    assert "out is there already" in refused("export", checkpoint, tmp_path / "out")
    assert "is a folder" in refused("export", trained[0], tmp_path / "new")
    monkeypatch.setattr("fairseq_sharnn.portable.export.model_card", lambda *rest: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        command_line.main(["export", str(checkpoint), str(tmp_path / "new")])
    assert [path.name for path in tmp_path.iterdir()] == ["out"] and not list((tmp_path / "out").iterdir())
    (tmp_path / "file").touch()
    assert "cannot write" in refused("export", checkpoint, tmp_path / "file" / "out")


def test_a_checkpoint_of_another_model(tmp_path):
    torch.save({"model": {"weight": torch.zeros(1)}}, tmp_path / "other.pt")
    assert "not a checkpoint of a sha_rnn model" in refused("export", tmp_path / "other.pt", tmp_path / "out")
    torch.save([1, 2], tmp_path / "list.pt")
    assert "not a checkpoint of a sha_rnn model" in refused("sample", "--model", tmp_path / "list.pt")


class Harm:
    """Code that a pickle would run."""

    def __reduce__(self):
        return print, ("harm",)


def test_nothing_in_a_file_is_run(tmp_path, capsys):
    torch.save({"cfg": Harm()}, tmp_path / "harm.pt")
    assert "holds more than plain data: export it" in refused("sample", "--model", tmp_path / "harm.pt")
    assert "harm\n" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "options, message",
    [
        (["--length", -1], "sample needs length >= 0"),
        (["--top-p", 0], "0 < top_p <= 1"),
        (["--count", 0], "--count must be at least 1"),
        (["--prompts", "nowhere.txt"], "cannot read --prompts nowhere.txt"),
        (["--device", "cuda"], "no CUDA device here"),
        (["--device", "gpu"], "device gpu is none that torch knows"),
        (["--weights", "int4"], "--weights must be one of float32, bfloat16, int8, but it is int4"),
        (["--weights", "int8", "--dtype", "bfloat16"], "--weights int8 is for computing in float32 on CPU"),
    ],
)
def test_sample_options(made, options, message):
    assert message in refused("sample", "--model", made, *options)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--lanes", 0], "--lanes must be at least 1"),
        (["--lanes", 3000], "fewer than the 3000 lanes"),
        (["--chunk", 96], "leaves no memory of the model's context of 96: choose at most 95"),
        (["--context-window", -1], "--context-window must be at least 0"),
        (["--weights", "int8", "--dynamic-lr", 0.001], "--weights int8 cannot learn"),
    ],
)
def test_score_options(made, corpus, options, message):
    assert message in refused("score", corpus / "test", "--model", made, *options)


def test_files_that_cannot_be_scored(made, tmp_path):
    (tmp_path / "empty").touch()
    assert "empty is empty" in refused("score", tmp_path / "empty", "--model", made)
    assert "cannot read" in refused("score", tmp_path / "nowhere", "--model", made)
    assert "cannot read" in refused("score", tmp_path, "--model", made)


def test_a_stream_of_another_model_or_cut_short(made, tmp_path):
    from fairseq_sharnn import load
    from fairseq_sharnn.errors import UsageError

    model, path = load(made), tmp_path / "stream"
    model.stream().save(str(path))
    model.module.network.output_bias.data += 1
    with pytest.raises(UsageError, match="is of a stream of another model"):
        model.stream(str(path))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UsageError, match="cut short, damaged, or not a saved stream"):
        model.stream(str(path))
    with pytest.raises(UsageError, match="cannot read"):
        model.stream(str(tmp_path / "nowhere"))
