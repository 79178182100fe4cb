"""What README tells a new user to type on a CPU, typed as it stands: bytes, Python, words and word pieces."""

import re

import pytest

from tests.conftest import ROOT, USER_DIR, real_text
from tests.integration.documents import commands
from tests.integration.forked import run_forked, run_script

README = ROOT / "README.md"


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A folder to stand in, with the texts that README takes for granted."""
    text = real_text(36000).decode("utf-8", "ignore").encode()
    third = len(text) // 3
    for name, start in {"a.txt": 0, "b.txt": third, "train.txt": 0, "valid.txt": third, "test.txt": 2 * third}.items():
        (tmp_path / name).write_bytes(text[start : start + third])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def typed(folder):
    """Run README's commands on CPU that name the folder; returns what each printed, in order."""
    printed = []
    for tool, *words in commands(README):
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
    again = typed("data/mine")[1][1]  # the same command goes on, and finds its end reached
    assert re.search(r"Loaded checkpoint .*checkpoint_last.pt \(epoch 2 @ \d+ updates\)", again.output)
    assert "train_inner" not in again.output


def test_python(clone, capsys):
    typed("data/mine")
    lines = re.findall(
        r"^    ((?:from fairseq_sharnn|model = |print\(model).*)$", README.read_text(), flags=re.MULTILINE
    )
    assert len(lines) == 3
    exec("\n".join(lines), {})
    assert len(capsys.readouterr().out) > len("The history of ") + 250


def test_word_pieces(clone):
    printed = typed("data/pieces")
    assert [tool for tool, _ in printed] == ["scripts/prepare_text.py", "fairseq-train", "scripts/evaluate_text.py"]
    assert "bits per byte" in printed[-1][1].output


def test_words(clone):
    ((tool, _),) = typed("data/words")
    assert tool == "scripts/prepare_text.py" and (clone / "data" / "words" / "dict.txt").exists()
