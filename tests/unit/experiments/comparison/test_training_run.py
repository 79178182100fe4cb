"""Slices, budgets and what survives a kill, with fairseq-train replaced by something that writes its log."""

import json
import re
from dataclasses import replace

import pytest
import torch

from experiments.comparison.preset_options import choose
from experiments.comparison.sizes import Size
from experiments.comparison.training_run import Job, TrainingRun
from experiments.comparison.trials import Budget, Trial
from experiments.harness import machine
from experiments.harness.logs import SliceLog
from experiments.harness.processes import Ended, Killed
from experiments.versus_transformer.lineup import contestants
from fairseq_sharnn.errors import UsageError

PRESET = choose("cpu")
SHA, WIDE = (
    next(item for item in contestants(PRESET) if item.name == name) for name in ("sha_rnn", "transformer_wide")
)


class FakeTraining:
    """Trains at 10 updates a second, validates for 4 s, loses 0.5 s at each start; may fail."""

    def __init__(self, folder):
        self.folder, self.commands, self.updates, self.clock, self.code = folder, [], 0, 0.0, 0
        self.environment, self.stopped = {"OMP_NUM_THREADS": "1"}, None

    def run(self, command, log, environment):
        self.commands.append(command)
        if self.stopped:
            raise self.stopped
        options = dict(zip(command, command[1:]))
        log.parent.mkdir(parents=True, exist_ok=True)
        if self.code:
            log.write_text("1.0 RuntimeError: no luck\n")
            return Ended(self.code, 5, 1.0, 1.0)
        if "--max-update" in options:
            made = int(options["--max-update"]) - self.updates
        else:
            made = round((float(options["--stop-time-hours"]) * 3600 - self.clock - 0.5) * 10)
        self.updates += made
        self.clock += 0.5 + made / 10 + 4
        log.write_text(
            "100.0 x | Start iterating over samples\n"
            f'{100 + made / 10} x | begin validation on "valid" subset\n'
            f"{100 + made / 10} peak memory {1000 + len(self.commands)}\n"
            f'{104 + made / 10} x | valid | {{"valid_bpb": "3.0", "valid_num_updates": "{self.updates}"}}\n'
        )
        self.save()
        return Ended(0, 1000 + len(self.commands), 6.0, 9.0)

    def save(self):
        checkpoints = self.folder / "checkpoints"
        checkpoints.mkdir(exist_ok=True)
        state = {
            "optimizer_history": [{"num_updates": self.updates, "optimizer_name": "x", "lr_scheduler_state": {}}],
            "extra_state": {"previous_training_time": self.clock, "train_iterator": {"epoch": 1}},
            "last_optimizer_state": None,
            "args": None,
            "cfg": None,
            "model": {},
        }
        torch.save(state, checkpoints / "checkpoint_last.pt")


def make(folder, contestant=SHA, budget=None, slices=4, kind="run", rate=10.0, lost=0.0, preset=PRESET):
    processes = FakeTraining(folder)
    size = Size(("--decoder-embed-dim", "16", "--boom-dim", "64"), 1234)
    job = Job(kind, contestant, size, contestant.trials[0], budget or Budget(minutes=2), slices, 3, rate, lost)
    return TrainingRun(folder, folder / "data", preset, job, processes), processes


def test_a_budget_of_processor_time(tmp_path):
    """fairseq-train counts CPU seconds, and so does the record; a budget in updates has no clock."""
    run, processes = make(tmp_path / "cpu", preset=replace(PRESET, charge="cpu"), slices=1)
    environments = []
    beneath = processes.run
    processes.run = lambda command, log, environment: (
        environments.append(environment),
        beneath(command, log, environment),
        log.write_text(
            re.sub(r"^([\d.]+)", lambda stamp: f"{stamp[1]}/{float(stamp[1]) / 2}", log.read_text(), flags=re.M)
        ),
    )[1]
    assert run.advance() is True
    assert environments == [{"OMP_NUM_THREADS": "1", "TRAINING_CLOCK": "processor"}]
    assert value(processes.commands[0], "--user-dir").endswith("experiments/fairseq_plugin")
    assert run.record.charge == "cpu" and run.record.train_seconds == run.record.train_wall_seconds / 2 > 0
    other, processes = make(tmp_path / "updates", preset=replace(PRESET, charge="cpu"), budget=Budget(updates=8))
    assert other.advance() is True
    assert value(processes.commands[0], "--user-dir").endswith("fairseq_sharnn") and other.record.charge == "wall"


def value(command, option):
    return command[command.index(option) + 1]


def test_slices_come_to_the_budget_without_validation_and_start_up(tmp_path):
    run, processes = make(tmp_path / "run")
    while not run.record.ended:
        run.advance()
    record = run.record
    assert len(processes.commands) == record.slices == len(record.points) == 4
    assert record.train_seconds == pytest.approx(120, abs=1.1)
    assert [point.minutes for point in record.points] == pytest.approx([0.5, 1, 1.5, 2], abs=0.02)
    assert record.valid_seconds == pytest.approx(16)
    assert record.updates == pytest.approx(1200, abs=11)
    assert (record.cpu_seconds, record.wall_seconds) == (24.0, 36.0)
    assert record.peak_memory == 1004 and run.record.best_valid_bpb == 3.0
    assert record.commands[0].startswith("OMP_NUM_THREADS=1 fairseq-train ") and len(record.commands) == 4
    assert record.made_by == [machine.made_by()]
    assert "--max-update" not in processes.commands[0] and "--no-bptt-jitter" not in processes.commands[0]


def test_what_starting_takes_is_known_from_an_earlier_run(tmp_path):
    run, _ = make(tmp_path / "run", lost=5.0)
    assert float(value(run.command(1, 0.0), "--stop-time-hours")) * 3600 == pytest.approx(35.0, abs=0.01)


def test_a_falling_schedule_ends_where_the_speed_so_far_leads(tmp_path):
    short = replace(SHA, trials=(Trial(4e-3, "linear", 0.25),))  # its warm-up ends within the first slice
    run, processes = make(tmp_path / "run", short, rate=7.0)
    schedules = []
    for _ in range(2):
        run.advance()
        schedules.append(run.record.schedule)
    totals = [int(value(command, "--total-num-update")) for command in processes.commands]
    assert totals[0] == 7 * 120 and totals[1] == pytest.approx(1200, abs=2)
    first, second = schedules
    met = run.record.points[0].updates
    assert met > first.warmup and second.rate_at(met) == pytest.approx(first.rate_at(met))


def test_updates_mean_the_same_bytes_for_all(tmp_path):
    commands = []
    for contestant in (SHA, WIDE):
        run, processes = make(tmp_path / contestant.name, contestant, Budget(updates=10), slices=3)
        while not run.record.ended:
            run.advance()
        assert [value(command, "--max-update") for command in processes.commands] == ["3", "6", "10"]
        commands.append(processes.commands[0])
    read = [int(value(item, "--tokens-per-sample")) * int(value(item, "--batch-size")) for item in commands]
    assert read[0] == read[1] and "--no-bptt-jitter" in commands[0] and "--no-bptt-jitter" not in commands[1]


def test_a_run_goes_on_where_its_record_ends(tmp_path):
    run, processes = make(tmp_path / "run")
    run.advance()
    again, _ = make(tmp_path / "run")
    again.processes = processes
    assert again.record == run.record and again.remaining_slices == 3
    again.advance()
    assert len(processes.commands) == 2 and again.record.points[1].updates > run.record.points[0].updates


def test_killed_between_checkpoint_and_record(tmp_path):
    """The slice is there: it is taken over, not trained again."""
    run, processes = make(tmp_path / "run")
    run.advance()
    path = tmp_path / "run" / "run.json"
    finished = run._record_slice
    run._record_slice = lambda *unused: None
    run.advance()
    run._record_slice = finished
    assert json.loads(path.read_text())["slices"] == 1
    again, _ = make(tmp_path / "run")
    again.processes = processes
    assert again.advance() is False  # no work was done
    assert len(processes.commands) == 2
    assert [point.updates for point in again.record.points] == pytest.approx([300, 600], abs=9)
    assert len(again.record.commands) == 2 and again.record.peak_memory == 1002
    assert again.advance() is True
    assert len(processes.commands) == 3 and len(again.record.commands) == 3


def test_killed_in_the_first_slice_begins_afresh(tmp_path):
    folder = tmp_path / "run"
    run, processes = make(folder)
    run.advance()
    (folder / "run.json").unlink()
    (folder / "slice-1.log").write_text("1.0 cut short")
    (folder / "trust.jsonl").write_text("{}")
    processes.updates, processes.clock = 0, 0.0
    again, _ = make(folder)
    again.processes = processes
    again.advance()
    assert value(processes.commands[1], "--stop-time-hours") == value(processes.commands[0], "--stop-time-hours")
    assert not (folder / "trust.jsonl").exists()


def test_a_lost_checkpoint_is_not_passed_over(tmp_path):
    run, _ = make(tmp_path / "run")
    run.advance()
    (tmp_path / "run" / "checkpoints" / "checkpoint_last.pt").unlink()
    with pytest.raises(UsageError, match="has lost its checkpoint: delete"):
        run.advance()


def test_a_failure_is_recorded_with_its_reason(tmp_path):
    run, processes = make(tmp_path / "run")
    processes.code = 1
    run.advance()
    kept = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run.record.failed and run.remaining_slices == 0
    assert (kept["status"], kept["reason"]) == ("failed", "RuntimeError: no luck")
    assert make(tmp_path / "run")[0].record.ended


def test_a_command_stopped_from_outside_is_no_failure(tmp_path):
    run, processes = make(tmp_path / "run")
    run.advance()
    processes.stopped = UsageError("fairseq-train was ended by SIGTERM")
    with pytest.raises(UsageError, match="SIGTERM"):
        run.advance()
    again, _ = make(tmp_path / "run")
    assert not again.record.ended and again.record.slices == 1
    processes.stopped, again.processes = None, processes
    while not again.record.ended:
        again.advance()
    assert not again.record.failed and len(again.record.commands) == 4
    assert again.record.train_seconds == pytest.approx(120, abs=1.1)


def test_a_slice_that_is_killed_twice_has_failed(tmp_path):
    run, processes = make(tmp_path / "run")
    processes.stopped = Killed("fairseq-train was ended by SIGKILL")
    with pytest.raises(Killed):
        run.advance()
    processes.stopped = None
    run.advance()
    processes.stopped = Killed("fairseq-train was ended by SIGKILL")
    with pytest.raises(Killed):  # another slice
        run.advance()
    assert not run.record.failed
    run.advance()
    assert run.record.failed and run.record.reason.startswith("killed twice in the same slice")
    assert make(tmp_path / "run")[0].record.failed


def test_a_gpus_peak_is_what_was_not_free(tmp_path, monkeypatch):
    run, _ = make(tmp_path / "run")
    monkeypatch.setattr(machine, "gpu_memory", lambda: 80 * 2**30)
    for free in (60.5, 61.0):
        run._record_slice(SliceLog(1.0, 1.0, 10, 1.0, 100.0, 5.0, 5.0, free), Ended(0, 1, 1.0, 1.0))
    assert run.record.gpu_peak_memory == 19.5 * 2**30


def test_trials_keep_no_checkpoint_and_trust_is_logged_where_it_is_asked_for(tmp_path):
    run, _ = make(tmp_path / "trial", kind="trial", slices=1)
    assert "--no-save" in run.command(1, 0.0)
    run, _ = make(tmp_path / "run")
    assert "--no-save" not in run.command(1, 0.0) and "--trust-log" not in run.command(1, 0.0)
    run, _ = make(tmp_path / "logged", replace(SHA, trust_log=True))
    assert "--trust-log" in run.command(1, 0.0)
