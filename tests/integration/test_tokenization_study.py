"""scripts/tokenization_study.py as a command, at a size that trains in seconds: the report and its figures."""

import json
import lzma
import math
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch

from experiments.harness.processes import Processes
from experiments.harness.records import from_plain, read_record
from experiments.tokenization.folder import StudyFolder
from experiments.tokenization.plan import Plan, StudyRun
from experiments.tokenization.records import Manifest
from experiments.tokenization.text_splits import read_text
from experiments.tokenization.training_command import train
from tests.conftest import ROOT, real_text, run_command
from tests.integration.checkpoints import load
from tests.integration.forked import run_script
from tests.integration.option_names import unknown_options

SMALL = "--piece-sizes 400 --words 200 --width 32 --layers 2 --window 48 --lanes 4 --passes 0.1".split()
SMALL += "--attack-bytes 1500 --attack-words 25 --best 8".split()
RUNS = [f"{text}-{model}" for text in ("bytes", "words", "pieces-400") for model in ("sha_rnn", "transformer_lm")]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    (folder / "text.txt").write_bytes(real_text(40000).decode("utf-8", "ignore").encode())
    command = (
        sys.executable,
        ROOT / "scripts" / "tokenization_study.py",
        "./text.txt",
        "--out",
        "results/small",
        *SMALL,
    )
    finished = run_command(*command, cwd=folder, timeout=600)
    assert finished.code == 0, finished.output[-4000:]
    return folder, finished


@pytest.fixture(scope="module")
def runs(study):
    figures = json.loads((study[0] / "results" / "small" / "figures.json").read_text())
    assert list(figures["runs"]) == RUNS
    return figures["runs"]


def test_the_report_has_its_tables_and_plots(study):
    folder, finished = study
    out = folder / "results" / "small"
    report = (out / "REPORT.md").read_text()
    assert "preparing pieces-400" in finished.output and "REPORT.md: 6 runs" in finished.output
    assert list((out / "work").rglob("*.tmp")) == []
    assert "    scripts/tokenization_study.py ./text.txt --out results/small --piece-sizes 400" in report
    for heading in (
        "One scale",
        "Inside words",
        "The attack",
        "The sum over",
        "makes the text look easiest",
        "versions",
    ):
        assert re.search(rf"^##+ .*{heading}", report, flags=re.MULTILINE), heading
    for name in ("scale", "positions", "segmentations"):
        assert f"({name}.png)" in report
        assert (out / f"{name}.png").stat().st_size > 5000 and b"<svg" in (out / f"{name}.svg").read_bytes()
    assert str(folder) not in report and str(ROOT) not in report
    assert report.count("`fairseq-train results/small/work/data/") == 6 and "torch" in report


def tokens_read(study, name):
    """By a run in training: what fairseq-train itself says."""
    log = (study[0] / "results" / "small" / "work" / "runs" / name / "train.log").read_text()
    logged = re.search(r"train \| epoch 001 .* \| wpb ([\d.]+) .* \| num_updates (\d+)", log)
    return float(logged[1]) * int(logged[2])


def test_all_tokenizations_are_of_the_same_text_and_budget(study, runs):
    for text in ("bytes", "words", "pieces-400"):
        assert tokens_read(study, f"{text}-sha_rnn") == tokens_read(study, f"{text}-transformer_lm")
    figures = json.loads((study[0] / "results" / "small" / "figures.json").read_text())
    read = []
    for name in RUNS:
        train = figures["tokenizations"][name.rpartition("-")[0]]["splits"]["train"]
        read.append(tokens_read(study, name) * train["bytes"] / train["tokens"])
    assert max(read) - min(read) <= 0.1 * max(read), "bytes of text"
    assert len({(run["scale"]["bytes"], run["scale"]["words"]) for run in runs.values()}) == 1
    assert len({run["parameters"]["others"] for name, run in runs.items() if "sha_rnn" in name}) == 1
    for run in runs.values():
        scale, words = run["scale"], run["words"]
        assert scale["bits_per_byte"] * scale["bytes"] == pytest.approx(words["bits_per_word"] * words["words"])
        assert words["words"] == scale["words"]
        assert math.log2(scale["word_perplexity"]) == pytest.approx(words["bits_per_word"])
        assert run["training"]["cpu_seconds"] > 0 and run["training"]["peak_memory_bytes"] > 1e8
        assert 0 <= words["word_accuracy"] <= words["token_accuracy"] or words["tokens_per_word"] < 1.5


def test_bytes_cannot_be_attacked_and_pieces_can(runs):
    moved = []
    for name, run in runs.items():
        if name.startswith("words"):
            assert "attack" not in run
            continue
        attack = run["attack"]
        tables = [attack["resegmented"], attack["searched"]]
        summed = list(attack["summed"]["bits_per_word"].values())
        if name.startswith("bytes"):
            assert all(len({(row["tokens"], row["nats"]) for row in rows}) == 1 for rows in tables)
            assert len(set(summed)) == 1
        else:
            assert all(len({row["tokens"] for row in rows}) > 1 for rows in tables)
            assert summed == sorted(summed, reverse=True) and summed[-1] < summed[0]
            rows = {row["segmentation"]: row for row in attack["searched"]}
            moved.append(rows["easiest looking"]["token_perplexity"] / rows["canonical"]["token_perplexity"])
    # the search judges words one by one, so that a model which hardly knows any may be missed by a little
    assert moved and min(moved) < 1 and max(moved) < 1.01


def test_what_is_done_is_not_done_again(study):
    folder, _ = study
    runs = folder / "results" / "small" / "work" / "runs"
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*.json")}
    (runs / "words-sha_rnn" / "words.json").unlink()
    old = (folder / "results" / "small" / "figures.json").read_text()
    command = (sys.executable, ROOT / "scripts" / "tokenization_study.py", "text.txt", "--out", "results/small", *SMALL)
    finished = run_command(*command, cwd=folder)
    assert finished.code == 0, finished.output[-3000:]
    after = {path: path.stat().st_mtime_ns for path in runs.rglob("*.json")}
    assert [path.parent.name for path in before if before[path] != after[path]] == ["words-sha_rnn"]
    took = re.compile(r'"seconds": [\d.e-]+')
    assert took.sub("", (folder / "results" / "small" / "figures.json").read_text()) == took.sub("", old)


def test_an_interrupted_run_is_trained_from_its_beginning(study, monkeypatch):
    monkeypatch.chdir(study[0])
    folder, run = StudyFolder(Path("results/small")), StudyRun("words", "sha_rnn")
    plan = from_plain(Plan, json.loads((folder.out / "work" / "plan.json").read_text()))
    manifest = read_record(Manifest, folder.data("words") / "tokenizer.json")
    checkpoint, record = folder.checkpoint(run), folder.record(run, "training")
    before, written = load(checkpoint)["model"], record.read_text()
    record.unlink()
    big = torch.ones(400_000_000)  # memory of the process that starts the run is no part of the run's memory
    assert train(plan, folder, run, manifest, Processes())
    assert 100e6 < json.loads(record.read_text())["peak_memory_bytes"] < 4 * big.numel()
    assert not train(plan, folder, run, manifest, Processes())
    record.write_text(written)  # its seconds are in the report
    after = load(checkpoint)["model"]
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_run_that_fails_is_named_and_the_others_are_kept(study, tmp_path, monkeypatch):
    shutil.copytree(study[0], tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    runs = tmp_path / "copy" / "results" / "small" / "work" / "runs"
    (runs / "words-sha_rnn" / "words.json").unlink()
    (runs / "words-sha_rnn" / "checkpoints" / "checkpoint_last.pt").write_bytes(b"no checkpoint")
    finished = run_script("tokenization_study", "text.txt", "--out", "results/small", *SMALL)
    assert finished.code == 1 and "Traceback" not in finished.output
    assert "error: words-sha_rnn: measuring failed (" in finished.output and "measurements.log" in finished.output
    assert "run the same command again to resume" in finished.output
    assert (runs / "bytes-sha_rnn" / "words.json").exists()


def test_texts_are_read_packed_and_cut_at_a_character(tmp_path):
    text = "caf\u00e9 \u20ac".encode()
    (tmp_path / "text").write_bytes(text)
    (tmp_path / "text.xz").write_bytes(lzma.compress(text))
    for path in (str(tmp_path / "text"), str(tmp_path / "text.xz")):
        assert read_text(path, None) == text == read_text(path, len(text)) == read_text(path, 999)
        assert [read_text(path, size).decode() for size in (3, 4, 5, 8)] == ["caf", "caf", "caf\u00e9", "caf\u00e9 "]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ("text.txt", "--out", "results/small", *SMALL, "--seed", 2),
            "belongs to another configuration \\(seed: 1 there, 2 asked for\\)",
        ),
        (("bad.txt", "--out", "new", *SMALL), "bad.txt is not UTF-8 at byte 3"),
        (("gone.txt", "--out", "new", *SMALL), "cannot read gone.txt: No such file"),
        (("text.txt", "--out", "new", *SMALL, "--width", 0), "--width must be above 0"),
        (("text.txt", "--out", "new", *SMALL, "--layers", 1), "--layers must be at least 2"),
        (
            ("text.txt", "--out", "new", *SMALL, "--piece-sizes", "x"),
            "--piece-sizes takes whole numbers such as 500,2000",
        ),
        (("bad.xz", "--out", "new", *SMALL), "bad.xz is damaged, or no xz file"),
        (("cut.xz", "--out", "new", *SMALL), "cut.xz is damaged, or no xz file"),
        (("text.txt", "--out", "new", *SMALL, "--first-bytes", 0), "--first-bytes must be above 0"),
        (("text.txt", "--out", "new", *SMALL, "--first-bytes", 999), "text.txt has 999 bytes, too few"),
        (("text.txt", "--out", "new", *SMALL, "--window", 9999), "too few for its 5 percent to fill one update"),
        (("text.txt", "--out", "new", *SMALL, "--piece-sizes", 99999), "--piece-sizes 99999 is larger than"),
        (("text.txt", "--out", "new", *SMALL, "--piece-sizes", 3), "--piece-sizes 3 is too small"),
        (
            ("text.txt", "--out", "new", *SMALL, "--words", 99999),
            "--words 99999 .* it has (\\d+) words .*; choose at most \\1$",
        ),
    ],
)
def test_bad_input_is_answered_in_one_line(study, monkeypatch, arguments, message):
    folder, _ = study
    monkeypatch.chdir(folder)
    (folder / "bad.txt").write_bytes(b"abc\xff")
    (folder / "bad.xz").write_bytes(b"abc")
    (folder / "cut.xz").write_bytes(lzma.compress(b"abc" * 1000)[:-20])
    finished = run_script("tokenization_study", *arguments)
    assert finished.code == 1 and "Traceback" not in finished.output, finished.output[-2000:]
    assert re.search(f"^error: .*{message}", finished.output, flags=re.MULTILINE), finished.output[-2000:]
    (error,) = [line for line in finished.output.splitlines() if line.startswith("error: ")]
    assert unknown_options("tokenization_study", error) == []
    assert not (folder / "new").exists()
