"""Models of words and word pieces leave fairseq with their vocabulary and rules; the numbers stay fairseq's."""

import json
import re
import sys

import pytest
import torch

from fairseq_sharnn import load
from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.evaluation.dynamic import DynamicSettings
from fairseq_sharnn.models.sha_rnn import SHARNNLanguageModel
from fairseq_sharnn.portable import command_line, text
from fairseq_sharnn.portable.compressor.compressor import compress, decompress
from fairseq_sharnn.portable.compressor.container import Settings
from tests.conftest import MICRO, ROOT, run_command
from tests.integration.forked import eval_forked, run_script, train_forked
from tests.integration.test_prepare_and_evaluate_text import sources

STREAMING = ("--task", "streaming_lm")
ADAPTIVE = ("--criterion", "adaptive_loss", "--ddp-backend", "legacy_ddp")
BANDS = [*MICRO, "--adaptive-softmax-cutoff", "60,200", "--adaptive-softmax-factor", "2"]
MODELS = {
    "word": ("word", MICRO, ()),
    "banded": ("word", BANDS, ADAPTIVE),
    "tied": ("word", [*BANDS, "--tie-adaptive-proj"], ADAPTIVE),
    "pieces": ("sentencepiece", MICRO, ()),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    options = sources(folder / "text", train=20000, valid=1500, test=2500)
    for kind, extra in (("word", ()), ("sentencepiece", ("--vocab-size", 400))):
        finished = run_script("prepare_text", kind, folder / kind, *options, *extra)
        assert finished.code == 0, finished.output[-2000:]
    return folder


@pytest.fixture(scope="module", params=MODELS)
def model(request, prepared, tmp_path_factory):
    """DATA, the checkpoint, and the folder that was exported from it."""
    kind, architecture, criterion = MODELS[request.param]
    data, folder = prepared / kind, tmp_path_factory.mktemp(request.param)
    options = (*STREAMING, *criterion, "--max-update", 10, "--disable-validation")
    finished = train_forked(data, folder, *options, model=architecture)
    assert finished.code == 0, finished.output[-3000:]
    checkpoint = folder / "checkpoint_last.pt"
    assert command_line.main(["export", str(checkpoint), str(folder / "out")]) == 0
    return data, checkpoint, folder / "out"


def test_score_is_the_number_of_eval_lm_and_of_the_one_scale(model, prepared):
    data, checkpoint, out = model
    theirs = eval_forked(data, checkpoint, *STREAMING, "--batch-size", 3, "--tokens-per-sample", 32)
    loss = re.search(r"Loss \(base 2\): ([\d.]+)", theirs.output)[1]
    scale = run_script(
        "evaluate_text", checkpoint, data, "--cpu", "--batch-size", 3, "--tokens-per-sample", 32, "--split", "test"
    )
    bits = re.search(r"bits per byte +([\d.]+)", scale.output)[1]
    score = load(out).score((prepared / "text" / "test").read_bytes(), lanes=3, chunk=32)
    assert f"{score.bits_per_token:.4f}" == loss and f"{score.bits_per_byte:.4f}" == bits
    assert score.bytes == (prepared / "text" / "test").stat().st_size


def test_dynamic_evaluation_of_words_pieces_and_bands(model, prepared, capsys):
    """`fairseq-eval-lm --dynamic-lr` learns with a plain and an adaptive softmax, and `score` prints its number."""
    data, checkpoint, _ = model
    cut, learn = ("--batch-size", 3, "--tokens-per-sample", 32), ("--dynamic-lr", 0.003)
    static, dynamic = (eval_forked(data, checkpoint, *STREAMING, *cut, *more) for more in ((), learn))
    assert dynamic.code == 0 and "evaluation: dynamic (adam, lr 0.003, " in dynamic.output, dynamic.output[-3000:]
    bits = [float(re.search(r"Loss \(base 2\): ([\d.]+)", finished.output)[1]) for finished in (static, dynamic)]
    assert bits[1] < bits[0] - 0.2, "the model has hardly been trained"
    cut = ("--data", data, "--lanes", 3, "--chunk", 32, "--json")
    command = ("score", prepared / "text" / "test", "--model", checkpoint, *cut, *learn)
    assert command_line.main([str(word) for word in command]) == 0
    portable = json.loads(capsys.readouterr().out)["all"]
    assert portable["evaluation"] == "dynamic" and portable["bits_per_token"] == pytest.approx(bits[1], abs=2e-4)


def test_samples_are_those_of_from_pretrained(model):
    data, checkpoint, out = model
    hub = SHARNNLanguageModel.from_pretrained(str(checkpoint.parent), checkpoint.name, str(data))
    ours = load(out)
    prompts = ["An assignment statement evaluates", "The value of", ""]
    for settings in ({"seed": 1}, {"temperature": 0}):
        expected = [hub.sample(prompt, length=30, **settings) for prompt in prompts]
        assert [ours.sample(prompt, length=30, **settings) for prompt in prompts] == expected
        assert ours.sample(prompts, length=30, **settings) == expected


def test_log_probabilities_are_fairseqs(model):
    data, checkpoint, out = model
    hub = SHARNNLanguageModel.from_pretrained(str(checkpoint.parent), checkpoint.name, str(data))
    ours, decoder = load(out), hub.models[0].decoder
    features = torch.randn(7, 32)
    with torch.no_grad():
        expected = decoder.logits(features).float().log_softmax(-1)
        targets = torch.tensor([4, 59, 60, 150, 199, 200, ours.codec.vocab - 1])
        torch.testing.assert_close(ours.output.log_probs(features), expected, rtol=0, atol=1e-5)
        found = ours.output.target_log_probs(features, targets)
        torch.testing.assert_close(found, expected.gather(1, targets[:, None])[:, 0], rtol=0, atol=1e-5)
        tokens = torch.arange(ours.codec.vocab).view(-1, 1)
        torch.testing.assert_close(ours.network.embed(tokens), decoder.network.embed(tokens), rtol=0, atol=1e-6)


def test_without_fairseq_and_without_data(model, prepared):
    """A stream of whole lines, a sample and a score from the folder only."""
    _, _, out = model
    arguments = ("--model", out, "--length", 12, "--seed", 2, "--prompt", "The value of")
    finished = run_command(
        *(sys.executable, ROOT / "tests" / "without.py", "fairseq,omegaconf,hydra", "-m", "fairseq_sharnn", "sample"),
        *arguments,
        cwd="/",
    )
    assert finished.code == 0, finished.output
    ours = load(out)
    assert finished.output == ours.sample("The value of", length=12, seed=2) + "\n"
    stream = ours.stream()
    assert stream.feed("The value of\n").shape == (stream.count, ours.codec.vocab)


def test_compressed_text_comes_back_or_is_refused(model, tmp_path):
    """Word pieces give every text back; a model of words refuses what its tokens do not."""
    ours = load(model[2])
    text = "  The value of\u00e4\t is\n\n zyzzyvas  ".encode()
    if ours.config.text == "word":
        with pytest.raises(UsageError, match="the content does not come back exactly from the model's tokens"):
            compress(ours, text, Settings(2))
        return
    for settings in (Settings(2), Settings(2, chunk=8, dynamic=DynamicSettings(1e-3))):
        assert decompress(load(model[2]), compress(ours, text, settings)) == text
    with pytest.raises(UsageError, match="the content is not UTF-8 at byte 0"):
        compress(ours, b"\xff", Settings(2))


def test_what_is_not_the_models_text(model):
    ours = load(model[2])
    with pytest.raises(UsageError, match="the prompt is not UTF-8 at byte 2"):
        ours.sample(b"ab\xff")
    with pytest.raises(UsageError, match="the text is not UTF-8 at byte 0"):
        ours.score(b"\xff\xfe")
    if ours.config.text == "word":
        with pytest.raises(UsageError, match="has no word that the model knows"):
            ours.sample("zyzzyvas qwertzuiops")


def test_a_vocabulary_or_a_package_that_is_missing(model, tmp_path, monkeypatch):
    data, checkpoint, out = model
    with pytest.raises(UsageError, match="name the DATA folder that it was trained on with --data"):
        load(checkpoint, data=str(tmp_path))
    assert load(checkpoint, data=str(data)).codec.vocab == load(out).codec.vocab
    names = (out / "dict.txt").read_text()
    try:
        (out / "dict.txt").write_text(names.partition("\n")[2])
        with pytest.raises(UsageError, match=r"different vocabularies|a vocabulary of"):
            load(out)
        (out / "dict.txt").write_text(names[: len(names) // 2].rpartition(" ")[0])
        with pytest.raises(UsageError, match=r"damaged|different vocabularies|a vocabulary of"):
            load(out)
    finally:
        (out / "dict.txt").write_text(names)
    package = "sentencepiece" if load(out).config.text == "sentencepiece" else "sacremoses"
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=f"pip install {package}"):
        text.read_codec(out, load.__globals__["PortableConfig"].from_json((out / "config.json").read_text(), "").text)
