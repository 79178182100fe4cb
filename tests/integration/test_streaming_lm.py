"""Words in fairseq's own binarized format through fairseq's own command lines."""

import re

import pytest
import torch

from fairseq_sharnn.models.sha_rnn import SHARNNLanguageModel
from tests.conftest import MICRO, USER_DIR, fairseq, real_text, train
from tests.integration.checkpoints import differences
from tests.integration.forked import eval_forked, run_forked, train_forked

STREAMING = ("--task", "streaming_lm")
ADAPTIVE = ("--criterion", "adaptive_loss", "--ddp-backend", "legacy_ddp")
BANDS = [*MICRO, "--adaptive-softmax-cutoff", "100,400", "--tie-adaptive-proj"]


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A DATA folder made by fairseq-preprocess, and the number of tokens in its test split."""
    folder = tmp_path_factory.mktemp("words")
    text = real_text(60000).decode("utf-8", "replace").splitlines(keepends=True)
    parts = {"train": text[:600], "valid": text[600:700], "test": text[700:800]}
    for split, lines in parts.items():
        (folder / f"{split}.txt").write_text("".join(lines))
    prefs = [part for split in parts for part in (f"--{split}pref", folder / f"{split}.txt")]
    finished = fairseq("preprocess", "--only-source", *prefs, "--destdir", folder / "data", "--workers", 1)
    assert finished.code == 0, finished.output[-2000:]
    return folder / "data", sum(len(line.split()) + 1 for line in parts["test"])


@pytest.fixture(scope="module")
def plain(words, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    finished = train(words[0], folder, *STREAMING, "--max-update", 12, "--warmup-updates", 5)
    assert finished.code == 0, finished.output[-3000:]
    return folder, finished


@pytest.fixture(scope="module")
def banded(words, tmp_path_factory):
    folder = tmp_path_factory.mktemp("banded")
    finished = train_forked(
        words[0], folder, *STREAMING, *ADAPTIVE, "--max-update", 12, "--log-interval", 1, model=BANDS
    )
    assert finished.code == 0, finished.output[-3000:]
    return folder, finished


def evaluated(finished):
    count = int(re.search(r"Evaluated ([\d,]+) tokens", finished.output).group(1).replace(",", ""))
    return count, float(re.search(r"Loss \(base 2\): ([\d.]+)", finished.output).group(1))


@pytest.mark.parametrize("kind", ["plain", "banded"])
def test_words_train_validate_and_evaluate(request, words, kind):
    (data, size), (folder, training) = words, request.getfixturevalue(kind)
    curve = [float(value) for value in re.findall(r"train_inner .*? loss=([\d.]+)", training.output)]
    assert len(curve) == 12 and curve[-1] < curve[0] - 0.5
    assert "bpb" not in training.output, "bits per token are no bits per byte"
    checkpoint = folder / "checkpoint_best.pt"
    scores = []
    for lanes, length in ((1, 32), (3, 64)):
        finished = eval_forked(data, checkpoint, *STREAMING, "--batch-size", lanes, "--tokens-per-sample", length)
        assert finished.code == 0, finished.output[-2000:]
        count, loss = evaluated(finished)
        assert count == size
        scores.append(loss)
    assert scores[0] == pytest.approx(scores[1], abs=0.5)
    validated = run_forked(
        *("validate", data, "--user-dir", USER_DIR, *STREAMING, "--cpu", "--batch-size", 3, "--path", checkpoint),
        *("--valid-subset", "test", "--tokens-per-sample", 64, "--log-format", "simple"),
    )
    loss = float(re.search(r" loss ([\d.]+)", validated.line("valid on 'test' subset")).group(1))
    assert loss == pytest.approx(scores[1], abs=2e-3)


@pytest.mark.parametrize("kind", ["plain", "banded"])
def test_text_in_text_out(request, words, kind):
    folder, _ = request.getfixturevalue(kind)
    model = SHARNNLanguageModel.from_pretrained(str(folder), "checkpoint_best.pt", str(words[0]))
    text = model.sample("The statement is", length=20, seed=1)
    assert text.startswith("The statement is") and len(text) > 30
    assert text == model.sample("The statement is", length=20, seed=1)
    assert "<unk>" not in text and "<pad>" not in text
    assert model.sample("a b", length=0) == "a b"
    greedy = model.sample_bytes(b"The statement is", length=8, temperature=0)
    read = model.task.codec.encode(greedy)
    tokens = torch.tensor([[2, *read]])
    with torch.no_grad():
        scores = model.models[0].get_normalized_probs(model.models[0](tokens), log_probs=True)[0]
    scores[:, [0, 1, 3]] = -1e9
    drawn = len(read) - 3
    assert scores[3 : 3 + drawn].argmax(-1).tolist() == read[3:] and drawn > 4
    score = model.score("The statement is")
    assert len(score["positional_scores"]) == 3
    assert model.decode(model.encode("The statement is")) == "The statement is"


def test_a_checkpoint_without_its_data_folder_is_an_ordinary_exception(plain, tmp_path):
    with pytest.raises(ValueError, match=r"has no dict\.txt"):
        SHARNNLanguageModel.from_pretrained(str(plain[0]), "checkpoint_best.pt", str(tmp_path))


@pytest.mark.parametrize("options", [(), (*ADAPTIVE, *BANDS[-3:])], ids=["plain", "banded"])
def test_a_resumed_run_is_the_run_that_was_not_stopped(words, tmp_path, options):
    data, steps = words[0], ("--warmup-updates", 3, "--save-interval-updates", 7, "--keep-interval-updates", 1)
    train_forked(data, tmp_path / "whole", *STREAMING, *steps, *options, "--max-update", 14)
    for updates in (7, 14):
        done = train_forked(data, tmp_path / "parts", *STREAMING, *steps, *options, "--max-update", updates)
        assert done.code == 0, done.output[-2000:]
    assert differences(tmp_path / "whole" / "checkpoint_last.pt", tmp_path / "parts" / "checkpoint_last.pt") == []


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_transformer_reads_the_same_tokens(words, tmp_path, adaptive):
    data, size = words
    model = "--arch transformer_lm --decoder-embed-dim 32 --decoder-ffn-embed-dim 64 --decoder-layers 1".split()
    model += "--decoder-attention-heads 2 --decoder-input-dim 32 --decoder-output-dim 32".split()
    if adaptive:
        model += "--adaptive-softmax-cutoff 100,400 --adaptive-input --adaptive-input-cutoff 100,400".split()
        model += ["--tie-adaptive-weights", *ADAPTIVE]
    recipe = "--optimizer adam --lr 1e-3".split()
    finished = train_forked(data, tmp_path, *STREAMING, "--max-update", 3, model=model, recipe=recipe)
    assert finished.code == 0, finished.output[-3000:]
    assert "ppl" in finished.line("valid on")
    scored = eval_forked(data, tmp_path / "checkpoint_last.pt", *STREAMING, "--tokens-per-sample", 32)
    assert evaluated(scored)[0] == size


def test_training_goes_on_from_the_same_vocabulary_alone(words, plain, tmp_path):
    """As many symbols, in another order: neither resumed, nor fine-tuned, nor evaluated."""
    (data, _), (folder, _) = words, plain
    other = tmp_path / "data"
    other.mkdir()
    for path in data.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    lines = (data / "dict.txt").read_text().splitlines()
    lines[0], lines[1] = lines[1], lines[0]
    (other / "dict.txt").write_text("\n".join(lines) + "\n")
    checkpoint = folder / "checkpoint_best.pt"
    for finished in (
        train_forked(other, folder, *STREAMING, "--max-update", 20),
        train_forked(other, tmp_path / "new", *STREAMING, "--finetune-from-model", checkpoint),
        eval_forked(other, checkpoint, *STREAMING, "--tokens-per-sample", 32),
    ):
        assert finished.code == 1 and "Traceback" not in finished.output
        assert "was trained on another vocabulary than that of DATA" in finished.output, finished.output[-1500:]
