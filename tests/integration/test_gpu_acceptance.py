"""The command for somebody with a GPU, at toy size on the CPU: every stage, its end in time, and what a kill leaves."""

import json
import os
import signal
import subprocess
import sys
import time

from benchmarks.acceptance.processes import Stage
from benchmarks.gpu_acceptance import Report, accept
from tests.conftest import ROOT, real_text, run_command

COMMAND = (sys.executable, "-m", "benchmarks.gpu_acceptance")


def test_all_stages_at_toy_size(tmp_path):
    (tmp_path / "text").write_bytes(real_text(20000))
    out = tmp_path / "report"
    finished = run_command(*COMMAND, "--out", out, "--minutes", 8, "--text", tmp_path / "text", timeout=480)
    assert finished.code == 0, finished.output + (out / "log.txt").read_text()[-3000:]
    assert sorted(path.name for path in out.iterdir()) == [
        *("curve.csv", "log.txt", "report.json", "report.md", "sample.txt"),
    ]
    result = json.loads((out / "report.json").read_text())
    stages = result["stages"]
    assert result["finished"] and not any(entry["failed"] for entry in stages.values())
    assert all(entry["rows"] for entry in stages.values())
    assert {row["result"] for row in stages["golden"]["rows"] + stages["losses"]["rows"]} == {"ok"}
    done = {(row["model"], row["work"], row["chunks"]) for row in stages["speed"]["rows"]}
    assert {("fairseq_sharnn", "training", chunks) for chunks in ("jittered", "equal")} < done
    assert {(name, "generation", "equal") for name in ("fairseq_sharnn", "plain")} < done
    assert len(stages["kernels"]["rows"]) == 5
    assert [row["split"] for row in stages["training"]["rows"]] == ["valid", "train, first", "train, last"]
    assert stages["training"]["rows"][-1]["update"] == "6"
    assert len((out / "curve.csv").read_text().splitlines()) == 1 + 6 + 1
    assert len((out / "sample.txt").read_text()) >= 44
    drawn = [(row["step"], row["prompts"], row["text"]) for row in stages["sample"]["rows"]]
    assert drawn == [("plain", 1, "the same"), ("plain", 16, "the same")]
    text = (out / "report.md").read_text()
    assert "not complete" not in text and "| fairseq_sharnn | fp32 | 4 | training | jittered |" in text
    again = run_command(*COMMAND, "--out", out)
    assert again.code == 2 and f"--out {out} is not an empty folder: name a new one" in again.output


def rows_then_hang(count):
    for number in range(count):
        yield {"row": number}
    subprocess.Popen(["sleep", "60"])
    time.sleep(60)


def fails():
    yield {"row": 0}
    raise ValueError("no memory\nmore")


def dies():
    yield {"row": 0}
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_stage_that_hangs_fails_or_dies_ends_alone(tmp_path):
    report = Report(tmp_path, "command")
    stages = [
        Stage("hangs", "Hangs", rows_then_hang, {"count": 2}, 3.5),
        Stage("fails", "Fails", fails, {}, 30),
        Stage("dies", "Dies", dies, {}, 30),
        Stage("late", "Late", fails, {}, None),
    ]
    start = time.time()
    assert accept(stages, report, start + 40) is False
    entries = json.loads((tmp_path / "report.json").read_text())["stages"]
    assert {name: len(entry["rows"]) for name, entry in entries.items()} == {
        "hangs": 2,
        "fails": 1,
        "dies": 1,
        "late": 0,
    }
    assert "not done after" in entries["hangs"]["failed"][0]
    assert entries["fails"]["failed"] == ["ValueError: no memory"]
    assert "exit code" in entries["dies"]["failed"][0]
    assert entries["late"]["failed"] == ["not begun: no time was left"]


def test_what_was_measured_stays_when_it_is_killed(tmp_path):
    out = tmp_path / "report"
    process = subprocess.Popen([*COMMAND, "--out", str(out)], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 120
        while not (out / "report.md").exists():  # written after report.json
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    result = json.loads((out / "report.json").read_text())
    assert result["finished"] is False and result["stages"]["machine"]["rows"]
    assert "This report is not complete" in (out / "report.md").read_text()
