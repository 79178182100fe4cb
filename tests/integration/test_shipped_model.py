"""The model in the package: it works without fairseq, its card says what it does, and one command exchanges it."""

import json
import re
import sys

import pytest

from experiments.weights.training_command import training_command
from fairseq_sharnn import load
from fairseq_sharnn.evaluation.dynamic import DynamicSettings
from fairseq_sharnn.portable import shipped
from fairseq_sharnn.portable.checkpoint import _load as contents_of
from fairseq_sharnn.portable.command_line import main
from tests.conftest import ROOT, run_command
from tests.integration.forked import run_script, train_forked
from tests.integration.test_portable import without_fairseq

FIGURE = r"^\| {} \| ([\d,]+) \| (?:([\d,]+) bytes, )?([\d.]+) bits per byte \| `python -m fairseq_sharnn (.*)` \|$"


def on_card(what, folder=shipped.SHIPPED):
    """Bytes, compressed bytes, bits per byte and the command of a row of the card."""
    card = (folder / "README.md").read_text(encoding="utf-8")
    count, packed, bits, command = re.search(FIGURE.format(what), card, flags=re.MULTILINE).groups()
    return int(count.replace(",", "")), packed, float(bits), command


def test_bits_per_byte_of_a_fixed_text_without_fairseq():
    """The figure of the card is what its command prints where `import fairseq` fails."""
    count, _, bits, command = on_card("LICENSE of this package")
    assert command == "score LICENSE --lanes 1"
    finished = without_fairseq(*command.split(), "--json")
    assert finished.code == 0, finished.output
    found = json.loads(finished.output[finished.output.index("{") :])
    assert found["all"]["bytes"] == count == (ROOT / "LICENSE").stat().st_size
    assert found["all"]["bits_per_byte"] == pytest.approx(bits, abs=1e-3)
    assert bits < 4, "an untrained model has 8"


def test_it_is_small_and_stored_as_its_card_says():
    assert sum(path.stat().st_size for path in shipped.SHIPPED.iterdir()) < 4_000_000
    model, card = load(), (shipped.SHIPPED / "README.md").read_text(encoding="utf-8")
    assert f"| parameters | {sum(p.numel() for p in model.module.parameters()):,} |" in card
    assert f"| stored as | {model.config.dtype} |" in card and str(model.dtype) == "torch.float32"
    for part in ("texts and their licence", "Its training", "fairseq-train DATA", "hours of training", "| test |"):
        assert part in card, part


def test_samples_of_the_card():
    """Each has its command. (The text itself may differ on another CPU: sums round differently.)"""
    card = (shipped.SHIPPED / "README.md").read_text(encoding="utf-8")
    shown = re.findall(
        r'^python -m fairseq_sharnn sample --prompt "([^"]*)" (.*)\n```\n\n```text\n([^`]*)\n```',
        card,
        flags=re.MULTILINE,
    )
    assert len(shown) == 3
    for seed, (prompt, options, text) in enumerate(shown, start=1):
        assert text.startswith(prompt) and options == f"--length 400 --temperature 0.7 --seed {seed}"


def test_commands_use_it_where_no_model_is_named(tmp_path):
    pytest.importorskip("constriction")
    found = without_fairseq("sample", "--prompt", "It was ", "--length", 20, "--seed", 1)
    assert found.code == 0 and found.output == load().sample("It was ", length=20, seed=1) + "\n"
    (tmp_path / "text").write_bytes(b"It was the best of times, it was the worst of times. ")
    for command in (("compress", "text", "out"), ("decompress", "out", "back")):
        finished = run_command(sys.executable, "-m", "fairseq_sharnn", *command, cwd=tmp_path)
        assert finished.code == 0, finished.output
    assert (tmp_path / "back").read_bytes() == (tmp_path / "text").read_bytes()
    assert shipped.SHIPPED.name in without_fairseq("info").line("default model")


def test_info_says_how_to_put_a_missing_model_back(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(shipped, "SHIPPED", shipped._PACKAGE / "portable" / "weights" / "nowhere")
    assert main(["info"]) == 1
    assert "missing or damaged" in capsys.readouterr().out


@pytest.fixture(scope="module")
def exchanged(trained, corpus, tmp_path_factory):
    """scripts/ship_weights.py with the micro model, into a folder that holds another model: what it printed, OUT."""
    out = tmp_path_factory.mktemp("exchanged") / "model"
    out.mkdir()
    (out / "config.json").write_text("old")
    options = ("--data", corpus, "--out", out, "--bytes", 600, "--learn", 300, "--dynamic-lr", 0.001)
    finished = run_script("ship_weights", trained[0] / "checkpoint_best.pt", *options)
    assert finished.code == 0, finished.output
    return finished, out


def test_one_command_exchanges_the_model(exchanged, corpus):
    finished, out = exchanged
    assert "float16" in finished.output.splitlines()[-1]
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    model, text = load(out), (corpus / "test").read_bytes()
    assert on_card("static", out)[::2] == (600, pytest.approx(model.score(text[:600]).bits_per_byte, abs=1e-4))
    count, packed, bits, command = on_card("compressed, static", out)
    assert (count, command) == (300, "compress FILE OUT") and bits == pytest.approx(8 * int(packed) / 300, abs=1e-4)
    count, _, bits, command = on_card("dynamic", out)
    assert (count, command) == (300, "score FILE --dynamic-lr 0.001")
    learned = model.score(text[:300], dynamic=DynamicSettings(lr=0.001))
    assert bits == pytest.approx(learned.bits_per_byte, abs=1e-4) and bits != on_card("static, the same .*", out)[2]
    assert "| bytes read | " in (out / "README.md").read_text() and "30 |" in (out / "README.md").read_text()


def test_the_command_on_the_card_is_that_of_the_training(trained, tmp_path, corpus):
    """Its options give the configuration of the checkpoint again."""
    cfg = contents_of(trained[0] / "checkpoint_best.pt")["cfg"]
    words = training_command(cfg)
    begin = words.index("fairseq_sharnn") + 1
    options = words[begin : words.index("--save-dir")]
    again = train_forked(corpus, tmp_path, *options, "--max-update", 2)
    assert again.code == 0, again.output[-2000:]
    ours = contents_of(tmp_path / "checkpoint_last.pt")["cfg"]
    assert ours["model"] == cfg["model"] and ours["optimizer"] == cfg["optimizer"] and ours["task"] == cfg["task"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--data", "nowhere"), "--data nowhere has no file train"),
        (("--data", "DATA", "--bytes", 0), "--bytes and --learn must be at least 1"),
    ],
)
def test_what_the_exchange_refuses(trained, corpus, tmp_path, options, message):
    options = [corpus if option == "DATA" else option for option in options]
    finished = run_script("ship_weights", trained[0] / "checkpoint_best.pt", "--out", tmp_path / "out", *options)
    assert finished.code == 1 and message in finished.output and not (tmp_path / "out").exists()
