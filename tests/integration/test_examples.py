"""The recipes of examples/wikitext-103 and examples/text8 on small real text: their own commands and configurations."""

import re
import shutil
import sys

import pytest

from fairseq_sharnn.data.text import moses
from tests.conftest import ROOT, USER_DIR, real_text, run_command
from tests.integration.documents import commands
from tests.integration.forked import run_forked, run_script

# In place of the paper's sizes: a model that trains in a second, and vocabularies that a small text allows.
SMALL = {
    "--adaptive-softmax-cutoff": "50,200",
    "--tokens-per-sample": "32",
    "--batch-size": "2",
    "--vocab-size": "400",
    "--max-epoch": "1",
}
MICRO = "--decoder-embed-dim 32 --boom-dim 64 --decoder-layers 2 --context-length 96 --max-update 2 --cpu".split()
HYDRA = (
    "model.decoder_embed_dim=32 model.boom_dim=64 model.decoder_layers=2 model.context_length=96 dataset.batch_size=2 "
    "task.tokens_per_sample=32 optimization.max_update=2 common.cpu=true common.fp16=false"
).split()


def small(command):
    """The same command for a micro model on CPU."""
    words = [SMALL.get(before, word) for before, word in zip(["", *command], command)]
    return [word for word in words if word != "--fp16"]


@pytest.fixture(params=["wikitext-103", "text8"])
def example(request, tmp_path, monkeypatch):
    """A folder like a clone in which the downloads have been unpacked: small text of the same form."""
    text = real_text(30000).decode("utf-8", "replace")
    if request.param == "wikitext-103":
        lines = [" " + " ".join(moses.surfaces(" ".join(line.split()), "en")) + " " for line in text.split("\n")]
        parts = {"train": lines[:400], "valid": lines[400:450], "test": lines[450:500]}
        (tmp_path / "wikitext-103").mkdir()
        for split, part in parts.items():
            content = "\n".join([" ", " = A Title = ", " a <unk> of 3 @,@ 000 @-@ year @.@ ", *part, ""])
            (tmp_path / "wikitext-103" / f"wiki.{split}.tokens").write_text(content)
    else:
        (tmp_path / "text8").write_text(" " + " ".join(re.findall("[a-z]+", text.lower())))
    monkeypatch.chdir(tmp_path)
    return request.param, tmp_path


def test_the_commands_of_the_readme(example):
    name, folder = example
    done = []
    for command in commands(ROOT / "examples" / name / "README.md"):
        tool = command[0]
        if tool in ("curl", "unzip", "echo"):
            continue
        if tool == "scripts/prepare_corpus.py":
            finished = run_command(sys.executable, ROOT / tool, *command[1:], cwd=folder)  # .venv is activated
        elif tool.startswith("scripts/"):
            finished = run_script(tool[len("scripts/") : -len(".py")], *small(command[1:]))
        elif tool == "fairseq-train":
            options = [USER_DIR if word == "fairseq_sharnn" else word for word in small(command[1:])]
            finished = run_forked("train", *options, *MICRO)
        else:
            assert tool == "fairseq-hydra-train"
            finished = hydra(name, command[command.index("--config-name") + 1], folder)
        assert finished.code == 0, (command, finished.output[-3000:])
        done.append(tool)
        if tool == "scripts/evaluate_text.py":
            assert "bits per byte" in finished.output
        if tool == "scripts/prepare_text.py" and command[1] == "word":
            assert "style spaced" in finished.output and (name == "text8" or "WikiText's line ends" in finished.output)
            assert name == "text8" or " 0 unknown" in finished.line("/train:")
    assert done.count("scripts/evaluate_text.py") == 2 and "fairseq-hydra-train" in done


def hydra(name, config, folder):
    data = f"{folder}/data/{name}" + {"pieces": "-pieces", "words": "-words" if name == "text8" else ""}.get(config, "")
    save = folder / "hydra"
    shutil.rmtree(save, ignore_errors=True)
    cutoffs = ["model.adaptive_softmax_cutoff='50,200'"] if config == "words" else []
    return run_forked(
        *("hydra-train", "--config-dir", ROOT / "examples" / name, "--config-name", config, f"task.data={data}"),
        *(f"common.user_dir={USER_DIR}", f"checkpoint.save_dir={save}", f"hydra.run.dir={folder}", *HYDRA, *cutoffs),
    )


@pytest.mark.parametrize(
    "name, config, kind", [("wikitext-103", "pieces", "sentencepiece"), ("text8", "words", "word")]
)
def test_the_configurations_that_a_readme_only_mentions(tmp_path, name, config, kind):
    (tmp_path / "text").write_bytes(real_text(20000).decode("utf-8", "ignore").encode())
    options = [part for split in ("train", "valid", "test") for part in (f"--{split}", tmp_path / "text")]
    out = tmp_path / "data" / f"{name}-{config}"
    size = {"sentencepiece": 400, "word": 250}[kind]
    made = run_script("prepare_text", kind, out, "--vocab-size", size, *options)
    assert made.code == 0, made.output[-2000:]
    finished = hydra(name, config, tmp_path)
    assert finished.code == 0 and "ppl" in finished.line("valid on"), finished.output[-3000:]
