"""scripts/prepare_text.py, fairseq-train and scripts/evaluate_text.py, one after the other."""

import json
import math
import re
import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch
from fairseq.data import Dictionary
from fairseq.tasks.language_modeling import LanguageModelingConfig

from fairseq_sharnn.data.corpora.tokens import TokenCorpus
from fairseq_sharnn.data.text.folder import load_tokenizer
from fairseq_sharnn.evaluation import scoring
from fairseq_sharnn.evaluation.scoring import Scorer
from fairseq_sharnn.models.sha_rnn import SHARNNLanguageModel
from tests.conftest import ROOT, USER_DIR, real_text, run_command
from tests.integration.forked import eval_forked, run_forked, run_script, train_forked

KINDS = {
    "bytes": ("bytes",),
    "word": ("word",),
    "unigram": ("sentencepiece", "--vocab-size", 400),
    "bpe": ("sentencepiece", "--vocab-size", 400, "--model-type", "bpe"),
}
SPLITS = ("train", "valid", "test")


def sources(folder, train=30000, valid=3000, test=4001):
    """Real text with a few awkward characters, in three files; returns the options that name them."""
    folder.mkdir(parents=True, exist_ok=True)
    text = real_text(train + valid + test).decode("utf-8", "ignore").encode()
    tail = "\u2581 \t\0 caf\u00e9\r\n  zyzzyva  <unk> @-@ \u3000no line end".encode()
    parts = {"train": text[:train], "valid": text[train : train + valid], "test": text[train + valid :] + tail}
    for split, part in parts.items():
        (folder / split).write_bytes(part)
    return [piece for split in SPLITS for piece in (f"--{split}", folder / split)]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Folders of all kinds, the source of each split, and what the commands printed."""
    folder = tmp_path_factory.mktemp("prepared")
    options = sources(folder / "text")
    printed = {}
    for name, (kind, *extra) in KINDS.items():
        printed[name] = run_script("prepare_text", kind, folder / name, *options, *extra)
        assert printed[name].code == 0, printed[name].output[-2000:]
    return folder, {split: (folder / "text" / split).read_bytes() for split in SPLITS}, printed


@pytest.mark.parametrize("name", ["word", "unigram", "bpe"])
def test_what_is_on_disk_is_the_very_text(prepared, name):
    folder, texts, printed = prepared
    dictionary = Dictionary.load(str(folder / name / "dict.txt"))
    tokenizer = load_tokenizer(str(folder / name), dictionary)
    for split, text in texts.items():
        corpus = TokenCorpus(str(folder / name / split), len(dictionary))
        ids = corpus.ids(np.arange(len(corpus))).tolist()
        unknown = folder / name / f"{split}.unknown"
        names = iter(unknown.read_text(encoding="utf-8").splitlines()) if unknown.exists() else None
        spelled = tokenizer.spell(ids, names)
        assert b"".join(spelled) == text
        lengths, words = (np.load(folder / name / f"{split}.{what}.npy") for what in ("bytes", "words"))
        assert lengths.tolist() == [len(part) for part in spelled] and lengths.sum() == len(text)
        assert words.sum() == len(text.split())
        assert re.search(
            rf"{split}: {len(ids):,} tokens of {len(text):,} bytes and {len(text.split()):,} words, [\d,]+ unknown; "
            "decoded back and compared",
            printed[name].output,
        )
        assert dictionary.unk() in ids or name != "word"
    about = json.loads((folder / name / "tokenizer.json").read_text())
    assert about["splits"]["test"]["words"] == len(texts["test"].split())
    assert len(dictionary) == about["vocabulary"]
    if name != "word":
        assert about["settings"] == {"vocab_size": 400, "model_type": name, "character_coverage": 0.9999}
    assert name == "word" or len(dictionary) == 400 + 3, (
        "sentencepiece's unused <unk> gives way to fairseq's four symbols"
    )
    counts = [dictionary.count[i] for i in range(dictionary.nspecial, len(dictionary))]
    assert counts == sorted(counts, reverse=True), "an adaptive softmax needs the most frequent first"


def test_bytes_are_the_files_themselves(prepared):
    folder, texts, _ = prepared
    assert {split: (folder / "bytes" / split).read_bytes() for split in SPLITS} == texts


def test_the_command_starts_in_a_process_of_its_own_and_shows_progress(tmp_path):
    script = ROOT / "scripts" / "prepare_text.py"
    finished = run_command(sys.executable, script, "word", tmp_path / "out", *sources(tmp_path / "text"), cwd=tmp_path)
    assert finished.code == 0 and "checking test: 100%" in finished.output, finished.output[-2000:]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "text"]


def test_wikitext_is_recognised(tmp_path):
    text = " \n = Robert <unk> = \n \n Robert <unk> is an English film @-@ actor . He had 3 @,@ 000 fans . \n" * 5
    for split in SPLITS:
        (tmp_path / split).write_text(text)
    options = [piece for split in SPLITS for piece in (f"--{split}", tmp_path / split)]
    finished = run_script("prepare_text", "word", tmp_path / "out", *options)
    assert "words: style spaced with WikiText's line ends" in finished.output
    count = len(text.split()) + text.count("\n")  # as published: words and line ends
    assert f"test: {count:,} tokens of {len(text)} bytes and {len(text.split())} words, 0 unknown" in finished.output
    symbols = (tmp_path / "out" / "dict.txt").read_text()
    assert "\n@-@ 5\n" in symbols and "\n\\x3cunk> 10\n" in symbols


@pytest.fixture(scope="module")
def models(prepared, tmp_path_factory):
    """A micro model for each kind, and a Transformer on pieces, trained for a few updates."""
    folder, _, _ = prepared
    saved = tmp_path_factory.mktemp("models")
    for name in KINDS:
        task = "byte_level_lm" if name == "bytes" else "streaming_lm"
        done = train_forked(folder / name, saved / name, "--task", task, "--max-update", 20)
        assert done.code == 0, done.output[-2000:]
    model = "--arch transformer_lm --decoder-layers 1 --decoder-attention-heads 2 --decoder-embed-dim 32".split()
    model += "--decoder-input-dim 32 --decoder-output-dim 32 --decoder-ffn-embed-dim 64".split()
    recipe = "--optimizer adam --lr 1e-3".split()
    on_pieces = (folder / "unigram", saved / "transformer", "--task", "streaming_lm")
    done = train_forked(*on_pieces, "--max-update", 3, model=model, recipe=recipe)
    assert done.code == 0, done.output[-2000:]
    return saved


def evaluated(checkpoint, data, *options, path):
    finished = run_script("evaluate_text", checkpoint, data, "--cpu", "--json", path, *options)
    assert finished.code == 0, finished.output[-2000:]
    figures = json.loads(path.read_text())
    assert figures.pop("seconds") > 0
    return finished, figures


@pytest.mark.parametrize("name", list(KINDS))
def test_figures_agree_with_fairseq_eval_lm(prepared, models, tmp_path, name):
    folder, texts, _ = prepared
    checkpoint, options = models / name / "checkpoint_last.pt", ("--batch-size", 3, "--tokens-per-sample", 48)
    finished, figures = evaluated(checkpoint, folder / name, *options, path=tmp_path / "json")
    task = "byte_level_lm" if name == "bytes" else "streaming_lm"
    printed = eval_forked(folder / name, checkpoint, "--task", task, *options).output
    loss = float(re.search(r"Loss \(base 2\): ([\d.]+)", printed).group(1))
    # what eval-lm prints is rounded (5e-5), from a sum in float32
    assert figures["model_nats"] / figures["tokens"] / math.log(2) == pytest.approx(loss, abs=6e-5)
    assert figures["bytes"] == len(texts["test"]) and figures["words"] == len(texts["test"].split())
    total = figures["bits_per_byte"] * figures["bytes"]
    assert total == pytest.approx(math.log2(figures["word_perplexity"]) * figures["words"])
    assert total == pytest.approx(figures["nats_per_token"] * figures["tokens"] / math.log(2))
    assert f"bits per byte        {figures['bits_per_byte']:.4f}" in finished.output
    if name == "bytes":
        assert figures["bits_per_byte"] == pytest.approx(loss, abs=6e-5)
    if name == "word":
        names = (folder / name / "test.unknown").read_text(encoding="utf-8").splitlines()
        assert figures["unknown"] == len(names) > 0 and figures["spelling_nats"] > 0
        assert "spelled out by a uniform byte model" in finished.output
    else:
        assert figures["unknown"] == 0 == figures["spelling_nats"]


def test_a_transformer_is_evaluated_in_the_same_way(prepared, models, tmp_path):
    """Trained by our task, or by fairseq's own language_modeling: the same figures."""
    folder, texts, _ = prepared
    options = ("--tokens-per-sample", 30, "--context-window", 10, "--split", "valid")
    checkpoint = models / "transformer" / "checkpoint_last.pt"
    _, figures = evaluated(checkpoint, folder / "unigram", *options, path=tmp_path / "json")
    assert figures["bytes"] == len(texts["valid"])
    assert 4 < figures["nats_per_token"] < 8
    state = torch.load(checkpoint, weights_only=False)
    state["cfg"]["task"] = {**asdict(LanguageModelingConfig(tokens_per_sample=30)), "_name": "language_modeling"}
    state["cfg"]["task"].update(seed=1, data=str(folder / "unigram"))
    state["task_state"] = {}
    state["cfg"]["task"] = {key: value for key, value in state["cfg"]["task"].items() if "${" not in str(value)}
    torch.save(state, tmp_path / "fairseqs.pt")
    finished, same = evaluated(tmp_path / "fairseqs.pt", folder / "unigram", *options, path=tmp_path / "json")
    assert same == figures and "could not be verified" not in finished.output
    state["cfg"]["task"]["data"] = str(tmp_path / "gone")
    torch.save(state, tmp_path / "fairseqs.pt")
    finished, same = evaluated(tmp_path / "fairseqs.pt", folder / "unigram", *options, path=tmp_path / "json")
    assert same == figures
    assert re.search(r"note: .*gone\) has no dict.txt here: .* could not be verified", finished.output)
    state["cfg"]["task"]["data"] = str(folder / "bpe")
    torch.save(state, tmp_path / "fairseqs.pt")
    finished = run_script("evaluate_text", tmp_path / "fairseqs.pt", folder / "unigram", "--cpu")
    assert finished.code == 1
    assert re.search(r"error: .* was trained on \S+bpe, of another vocabulary than that of DATA", finished.output)


def test_json_has_null_for_what_is_not_finite(models, tmp_path):
    for split in SPLITS:
        (tmp_path / split).write_bytes(b" " * 300)
    checkpoint = models / "bytes" / "checkpoint_last.pt"
    finished = run_script("evaluate_text", checkpoint, tmp_path, "--cpu", "--json", tmp_path / "json")
    assert finished.code == 0, finished.output[-2000:]
    figures = json.loads((tmp_path / "json").read_text(), parse_constant=pytest.fail)
    assert figures["word_perplexity"] is None and figures["words"] == 0


def test_large_vocabularies_are_scored_in_parts(prepared, models, monkeypatch):
    folder, _, _ = prepared
    for name in ("unigram", "transformer"):
        scored = Scorer(str(models / name / "checkpoint_last.pt"), str(folder / "unigram"), cpu=True)
        corpus, options = scored.corpus("valid"), {"tokens_per_sample": 32, "batch_size": 3}
        whole = scored.nats(corpus, **options)
        monkeypatch.setattr(scoring, "MOST_PROBABILITIES", 403 * 7)
        np.testing.assert_allclose(scored.nats(corpus, **options), whole, atol=1e-5)
        monkeypatch.undo()


def test_text_in_text_out_with_the_folders_tokenizer(prepared, models):
    folder, _, _ = prepared
    for name in ("word", "unigram", "bpe"):
        model = SHARNNLanguageModel.from_pretrained(str(models / name), "checkpoint_last.pt", str(folder / name))
        text = model.sample("The statement", length=30, seed=1)
        assert text.startswith("The statement") and len(text) > 30
        assert model.decode(model.encode("The (expression)  is.")) == "The (expression)  is."
        tokens = model.task.codec.encode(b"The statement")
        assert model.task.codec.decode(tokens) == b"The statement"


def test_validate_reads_a_prepared_folder(prepared, models):
    folder, _, _ = prepared
    finished = run_forked(
        *("validate", folder / "word", "--user-dir", USER_DIR, "--task", "streaming_lm", "--cpu", "--batch-size", 2),
        *("--path", models / "word" / "checkpoint_last.pt", "--valid-subset", "test", "--log-format", "simple"),
        *("--tokens-per-sample", 32),
    )
    assert "ppl" in finished.line("valid on 'test' subset")
