"""What README and docs/text.md tell a new user to type on a CPU, typed as it stands: bytes, Python, words, pieces."""

import re
import sys

import pytest

from tests.conftest import ROOT, USER_DIR, real_text, run_command
from tests.integration.documents import blocks, commands
from tests.integration.forked import run_forked, run_script

README, TEXT, TRAINING = ROOT / "README.md", ROOT / "docs" / "text.md", ROOT / "docs" / "training.md"


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A folder to stand in, with the texts that the commands name."""
    text = real_text(36000).decode("utf-8", "ignore").encode()
    third = len(text) // 3
    for name, start in {"a.txt": 0, "b.txt": third, "train.txt": 0, "valid.txt": third, "test.txt": 2 * third}.items():
        (tmp_path / name).write_bytes(text[start : start + third])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def typed(folder, page=README):
    """Run a page's commands on CPU that name the folder; returns what each printed, in order."""
    printed = []
    for tool, *words in commands(page):
        on_cpu = tool.startswith("scripts/prepare") or "--cpu" in words
        if folder not in words or not on_cpu:
            continue
        words = [{"fairseq_sharnn": USER_DIR, "8000": "400"}.get(word, word) for word in words]
        if tool.startswith("scripts/"):
            finished = run_script(tool[len("scripts/") : -len(".py")], *words)
        else:
            finished = run_forked(tool[len("fairseq-") :], *words)
        assert finished.code == 0, (tool, words, finished.output[-3000:])
        printed.append((tool, finished))
    return printed


def test_bytes(clone):
    printed = typed("data/mine")
    assert [tool for tool, _ in printed] == ["scripts/prepare_corpus.py", "fairseq-train", "fairseq-eval-lm"]
    size = (clone / "data" / "mine" / "test").stat().st_size
    assert f"Evaluated {size:,} tokens" in printed[-1][1].output and "Loss (base 2): " in printed[-1][1].output
    again = typed("data/mine")[1][1]  # the same command resumes, and finds its end reached
    assert re.search(r"Loaded checkpoint .*checkpoint_last.pt \(epoch 2 @ \d+ updates\)", again.output)
    assert "train_inner" not in again.output


def test_python_and_samples(clone, capsys):
    typed("data/mine")
    for page, loads in ((README, "load("), (TRAINING, "from_pretrained(")):
        (program,) = blocks(page, "python")
        assert loads in program and "sample(" in program
        exec(program, {})
        assert len(capsys.readouterr().out) > len("The history of ") + 250
    samples = [
        words for words in commands(README) if words[:3] == ["python", "-m", "fairseq_sharnn"] and "sample" in words
    ]
    for words in samples:
        finished = run_command(sys.executable, *words[1:], cwd=clone)
        assert finished.code == 0 and words[words.index("--prompt") + 1] in finished.output, finished.output
    assert len(samples) == 2 and sum("--model" in words for words in samples) == 1


def test_word_pieces(clone):
    printed = typed("data/pieces", TEXT)
    assert [tool for tool, _ in printed] == ["scripts/prepare_text.py", "fairseq-train", "scripts/evaluate_text.py"]
    assert "bits per byte" in printed[-1][1].output


def test_words(clone):
    ((tool, _),) = typed("data/words", TEXT)
    assert tool == "scripts/prepare_text.py" and (clone / "data" / "words" / "dict.txt").exists()
