"""compare_transformer.py and ablate.py as a user starts them: the smoke preset, a kill, a second call, bad input."""

import csv
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT, run_command, write_corpus
from tests.integration.forked import run_script
from tests.integration.option_names import unknown_options
from tests.integration.test_bad_input import digests

# The Transformer with memory takes part where its package is installed.
WITH_MEMORY = ("transformer_xl",) if importlib.util.find_spec("x_transformers") else ()
EVERYONE = (
    *("sha_rnn", "sha_rnn_no_head", "sha_rnn_full", "transformer_deep", "transformer_wide", "transformer_gpt"),
    *("lstm_lm", *WITH_MEMORY),
)


def script(name, *arguments, timeout=1800):
    return run_command(sys.executable, ROOT / "scripts" / name, *arguments, timeout=timeout)


def refused(name, *arguments):
    """The same command after one import, for what ends before it starts a process."""
    return run_script(name[: -len(".py")], *arguments)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("comparison") / "data", 20000, 1500, 4200)


@pytest.fixture(scope="module")
def compared(data, tmp_path_factory):
    """The smoke preset, run once: its folder and what it printed."""
    out = tmp_path_factory.mktemp("compared") / "smoke"
    finished = script("compare_transformer.py", data, "--out", out, "--preset", "smoke")
    assert finished.code == 0, finished.output[-3000:]
    print(finished.line("comparison: done in "))  # how long it took, which depends on what else the machine does
    return out, finished


def test_every_contestant_has_every_figure(compared):
    out, finished = compared
    results = json.loads((out / "results.json").read_text())
    assert [item["name"] for item in results["summaries"]] == list(EVERYONE)
    for item in results["summaries"]:
        assert item["failed"] == [] and item["seeds"] == 1
        assert abs(item["parameters"] - 60_000) <= 1_800
        assert item["updates"]["mean"] == 8 and item["bytes"]["mean"] == pytest.approx(8 * 128, rel=0.02)
        for figure in ("train_bytes_per_second", "cores", "peak_memory", "valid_bpb", "test_bpb"):
            assert item[figure]["mean"] > 0, (item["name"], figure)
        assert item["main"]["bytes_per_second"]["mean"] > 0
        assert set(item["generation"]) == {"1000", "4000"} and min(item["generation"].values()) > 0
        assert 4 < item["test_bpb"]["mean"] < 9
        assert f"  {item['name']}: {item['parameters']:,} parameters" in finished.output
    for run in results["runs"]:
        assert [point["updates"] for point in run["points"]] == [4, 8]
        assert {item["tokens"] for item in run["evaluations"]} == {4200}  # each byte once, whichever way
        context = results["windows"][run["contestant"]]["context"]
        half = [item["command"] for item in run["evaluations"] if item["mode"] == "half"]
        window = {"lstm_lm": 128}.get(run["contestant"], 64)
        streaming = run["contestant"].startswith(("sha_rnn", "transformer_xl"))
        assert len(half) == (0 if streaming or context >= window // 2 else 1)
        assert all(command.endswith(f"--context-window {window // 2}") for command in half)
        assert len(run["commands"]) == 2 and " MKL_NUM_THREADS=1 fairseq-train " in run["commands"][0]
    assert len(results["trials"]) == len(EVERYONE) and all(trial["chosen"] for trial in results["trials"])
    count = len(EVERYONE)
    said = rf"comparison: {count} models x 1 seeds x 8 updates, {count} trials .* about \d+ (s|min)"
    assert re.search(said, finished.output)
    assert ("needs the package x-transformers: pip install" in finished.output) == (not WITH_MEMORY)


def test_files_that_are_made(compared):
    out, _ = compared
    rows = list(csv.DictReader((out / "results.csv").open()))
    assert [row["contestant"] for row in rows if row["kind"] == "run"] == list(EVERYONE)
    text = (out / "REPORT.md").read_text()
    plots = re.findall(r"!\[.*?\]\((plots/.*?\.png)\)", text)
    assert len(plots) == 4
    for plot in plots:
        assert (out / plot).exists() and (out / plot).with_suffix(".svg").exists()
    assert "Not complete yet" not in text and "Transformer-XL" in text and "fairseq-eval-lm" in text
    assert "C++ kernels on CPU: " in text and "| CPU/wall |" in text
    assert not list(out.rglob("*.tmp")) and not list(out.rglob("checkpoint_last.pt"))


def test_a_second_call_repeats_nothing(compared, data):
    out, _ = compared
    records = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.suffix in (".log", ".pt")}
    assert len(records) > 40
    before = json.loads((out / "results.json").read_text())
    finished = script("compare_transformer.py", data, "--out", out, "--preset", "smoke")
    assert finished.code == 0, finished.output[-3000:]
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.suffix in (".log", ".pt")} == records
    after = json.loads((out / "results.json").read_text())
    assert after["runs"] == before["runs"] and after["summaries"] == before["summaries"]


def test_a_folder_of_another_configuration_is_left_alone(compared, data):
    out, _ = compared
    before = digests(out)
    finished = refused("compare_transformer.py", data, "--out", out, "--preset", "smoke", "--updates", 9)
    assert finished.code == 1
    assert finished.line("error: ").endswith(
        f"--out {out} belongs to another configuration (preset budget updates: 8 there, 9 asked for): name a new folder, "
        "or give the options it was made with"
    )
    finished = refused("ablate.py", data, "--out", out, "--preset", "smoke")
    assert finished.code == 1 and "(script: compare_transformer.py there, ablate.py asked for)" in finished.output
    assert digests(out) == before


@pytest.mark.parametrize(
    "options, message",
    [
        (("--preset", "tiny"), "--preset tiny is not one of smoke, cpu, gpu, paper"),
        (("--preset", "smoke", "--updates", "0"), "--updates must be above 0, but it is 0"),
        (("--preset", "smoke", "--parameters", "500"), "--parameters 500: sha_rnn comes no nearer than"),
        (
            ("--preset", "cpu", "--minutes", "0.0001", "--only", "lstm_lm"),
            "--minutes 0.0001 is too small for one valid",
        ),
        (("--preset", "smoke", "--only", "rnn"), "--only rnn is not one of sha_rnn, "),
        (("--preset", "gpu"), "--preset gpu needs a CUDA device, and torch sees none: take --preset cpu"),
    ],
)
def test_bad_input_is_one_line(data, tmp_path, options, message):
    finished = refused("compare_transformer.py", data, "--out", tmp_path / "out", *options)
    assert finished.code == 1 and "Traceback" not in finished.output, finished.output[-2000:]
    (error,) = [line for line in finished.output.splitlines() if line.startswith("error: ")]
    assert error.startswith(f"error: {message}")
    own = re.sub(r"\(--decoder-embed-dim [^)]*\)", "", error)  # a size, in fairseq-train's options
    assert unknown_options("compare_transformer", own) == []
    assert not (tmp_path / "out").exists()  # so that the next attempt may name it again


@pytest.mark.parametrize("name", ["compare_transformer.py", "ablate.py"])
def test_commands_start_in_any_folder(name, tmp_path):
    finished = run_command(sys.executable, ROOT / "scripts" / name, "--help", cwd=tmp_path)
    assert finished.code == 0 and "--long-minutes" in finished.output
    assert ("--window WINDOW" in finished.output) == (name == "compare_transformer.py")


def test_data_without_splits_is_one_line(tmp_path, data):
    finished = refused("compare_transformer.py", tmp_path / "gone", "--out", tmp_path / "out", "--preset", "smoke")
    assert finished.code == 1 and finished.line("error: ").startswith(
        f"error: DATA folder {tmp_path / 'gone'} does not"
    )
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "train").write_bytes(b"abc")
    finished = refused("ablate.py", tmp_path / "half", "--out", tmp_path / "out", "--preset", "smoke")
    assert finished.code == 1 and "has no file named valid" in finished.line("error: ")
    assert not (tmp_path / "out").exists()


def some_ablations(data, out):
    chosen = "base,lamb,plain_vectors,full_feed_forward"
    return (data, "--out", out, "--preset", "smoke", "--only", chosen)


def wait_for(condition, seconds=900):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.1)


def processes_of(folder):
    """Processes whose command line names the folder."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                words = open(f"/proc/{entry}/cmdline", "rb").read().decode("utf-8", "replace")
            except OSError:
                continue
            if str(folder) in words and int(entry) != os.getpid():
                found.append(words)
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_ablations_resume_after_kill_and_after_ctrl_c(data, tmp_path):
    out = tmp_path / "ablations"
    command = [sys.executable, str(ROOT / "scripts" / "ablate.py"), *map(str, some_ablations(data, out))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    for number, (moment, sent) in enumerate((("trials/lamb-1", signal.SIGKILL), ("runs/lamb-seed1", signal.SIGINT))):
        with open(tmp_path / f"output-{number}", "w") as output:
            process = subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                env=environment,
            )
            wait_for(
                lambda moment=moment, process=process: (
                    (out / moment / "slice-1.log").exists() or process.poll() is not None
                )
            )
            assert process.poll() is None, (tmp_path / f"output-{number}").read_text()
            process.send_signal(sent)
            process.wait(60)
        wait_for(lambda: not processes_of(out), 30)
    assert "error: interrupted; what is finished stays" in (tmp_path / "output-1").read_text()
    assert process.returncode == 1
    finished_before = {path: path.stat().st_mtime_ns for path in out.glob("trials/*/run.json")}
    assert len(finished_before) == 2

    finished = script("ablate.py", *some_ablations(data, out))
    assert finished.code == 0, finished.output[-3000:]
    assert {path: path.stat().st_mtime_ns for path in out.glob("trials/*/run.json")} == finished_before
    results = json.loads((out / "results.json").read_text())
    assert [item["name"] for item in results["summaries"]] == "base lamb plain_vectors full_feed_forward".split()
    for run in results["runs"]:
        assert (run["status"], [point["updates"] for point in run["points"]]) == ("finished", [4, 8])
    assert [item["context"] for item in results["context"]["lengths"]] == [256, 512]
    assert all(item["tokens"] == 4200 and item["peak_memory"] > 0 for item in results["context"]["lengths"])
    assert [line["update"] for line in results["trust"]["plain LAMB (minimum trust 0)"]] == list(range(1, 9))
    assert min(min(line["trust"].values()) for line in results["trust"]["plain LAMB (minimum trust 0)"]) < 0.25
    text = (out / "REPORT.md").read_text()
    assert "plots/trust-ratios.png" in text and "plots/context-length.png" in text


# A trial of the default, an eighth of a run, ends before its first update where other work holds the cores.
BRIEF = ("--minutes", 0.1, "--trial-minutes", 0.1)


def check_timed(results, names):
    """Runs of 6 seconds in 2 slices, one of the preset's trials for each that is tuned."""
    assert [item["name"] for item in results["summaries"]] == names
    for run in results["runs"]:
        assert run["status"] == "finished", run["reason"]
        assert len(run["points"]) == 2 and run["updates"] > 2 and run["train_seconds"] > 3
        assert run["schedule"]["total"] > run["schedule"]["warmup"] > 0 and run["test_bpb"] > 0
    assert all(trial["status"] == "finished" and trial["chosen"] for trial in results["trials"])


def test_a_timed_comparison(data, tmp_path):
    options = ("--out", tmp_path / "out", "--preset", "smoke", *BRIEF, "--only", "sha_rnn,lstm_lm")
    finished = script("compare_transformer.py", data, *options)
    assert finished.code == 0, finished.output[-3000:]
    check_timed(json.loads((tmp_path / "out" / "results.json").read_text()), ["sha_rnn", "lstm_lm"])
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    if sys.platform.startswith(
        "linux"
    ):  # charged by processor time, so each run has used the same, whoever else worked
        assert {run["charge"] for run in results["runs"]} == {"cpu"}
        assert all(run["train_seconds"] == pytest.approx(6, abs=1.5) for run in results["runs"])
        assert all(run["train_wall_seconds"] > 0.9 * run["train_seconds"] for run in results["runs"])
        assert "| minutes on the wall |" in (tmp_path / "out" / "REPORT.md").read_text()
    pace = json.loads((tmp_path / "out" / "pace" / "sha_rnn" / "run.json").read_text())
    assert pace["warm_rate"] > 0 and pace["kind"] == "pace"


def test_timed_ablations(data, tmp_path):
    """Variants have no trials of their own: they train, and their speed is measured, with those of the base."""
    options = ("--out", tmp_path / "out", "--preset", "smoke", *BRIEF, "--only", "no_head")
    finished = script("ablate.py", data, *options)
    assert finished.code == 0, finished.output[-3000:]
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    check_timed(results, ["base", "no_head"])
    assert len(results["trials"]) == 1
    assert {path.name for path in (tmp_path / "out" / "pace").iterdir()} == {"base", "no_head"}
    # a chunk is half of a context that is shorter than two
    assert [item["chunk"] for item in results["context"]["lengths"]] == [64, 64]


def test_a_run_that_fails_is_a_row_that_says_so(tmp_path, data):
    """A validation split with fewer bytes than lanes: SHA-RNN cannot validate on it, the LSTM can."""
    odd = write_corpus(tmp_path / "data", 20000, 10, 4200)
    out = tmp_path / "out"
    finished = script("compare_transformer.py", odd, "--out", out, "--preset", "smoke", "--only", "sha_rnn,lstm_lm")
    assert finished.code == 0, finished.output[-3000:]
    ours, theirs = json.loads((out / "results.json").read_text())["summaries"]
    assert ours["seeds"] == 0 and "fewer than the 16 lanes of --batch-size 16" in ours["failed"][0]
    assert theirs["seeds"] == 1 and theirs["test_bpb"]["mean"] > 0
    assert "**failed: seed 1:" in (out / "REPORT.md").read_text()
