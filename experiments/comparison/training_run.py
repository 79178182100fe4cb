"""One training run: slices of fairseq-train that go on from each other's checkpoint, and a record that survives a kill."""

import contextlib
import os
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from experiments.comparison.contestants import Contestant
from experiments.comparison.learning_rate import Schedule
from experiments.comparison.presets import Budget, Preset, Trial
from experiments.comparison.sizes import Size
from experiments.harness import machine
from experiments.harness.folder import read_json, write_json
from experiments.harness.logs import SliceLog, read_slice
from experiments.harness.processes import (
    USER_DIR,
    Ended,
    Killed,
    Processes,
    fairseq,
    noted_memory,
    reason_of_failure,
    shown,
)
from fairseq_sharnn.errors import UsageError

NEVER = "1000000"  # epochs


@dataclass(frozen=True)
class Job:
    """What a run needs to know. rate: updates a second, lost_seconds: what fairseq's clock counts beside updates when it
    starts; both from an earlier run of the same contestant."""

    kind: str  # pace, trial, run or long
    contestant: Contestant
    size: Size
    trial: Trial
    budget: Budget
    slices: int
    seed: int
    rate: float = 1.0
    lost_seconds: float = 0.0

    def at(self, rate: float, lost_seconds: float) -> "Job":
        return replace(self, rate=rate, lost_seconds=lost_seconds)


class Run:
    """A run in its own folder: run.json (the record), slice-N.log, checkpoints/."""

    def __init__(self, folder: Path, data: Path, preset: Preset, job: Job, processes: Processes):
        self.folder, self.data, self.preset, self.job, self.processes = folder, data, preset, job, processes
        self.record: Dict = read_json(folder / "run.json") or {
            "kind": job.kind,
            "contestant": job.contestant.name,
            "seed": job.seed,
            "trial": str(job.trial),
            "budget": str(job.budget),
            "parameters": job.size.parameters,
            "status": "running",
            "reason": None,
            "slices": 0,
            "points": [],
            "train_seconds": 0.0,
            "valid_seconds": 0.0,
            "updates": 0,
            "bytes": 0.0,
            "warm_rate": None,
            "peak_memory": 0,
            "gpu_peak_memory": None,
            "killed": [],
            "cpu_seconds": 0.0,
            "wall_seconds": 0.0,
            "lost_seconds": job.lost_seconds,
            "schedule": None,
            "commands": [],
            "made_by": [],
        }

    @property
    def finished(self) -> bool:
        return self.record["status"] != "running"

    @property
    def failed(self) -> bool:
        return self.record["status"] == "failed"

    @property
    def checkpoint(self) -> Path:
        """The best checkpoint by validation."""
        return self.folder / "checkpoints" / "checkpoint_best.pt"

    @property
    def remaining_slices(self) -> int:
        return 0 if self.finished else self.job.slices - self.record["slices"]

    def advance(self) -> None:
        """Train one slice and write it into the record; a command that fails ends the run, with the reason.

        Raises UsageError where the command was stopped from outside: then the slice is not done, and nothing failed. Only
        one that is killed twice in the same slice has failed: it wants more memory than there is.
        """
        number = self.record["slices"] + 1
        log = self.folder / f"slice-{number}.log"
        updates_done, clock = self._checkpoint_clock()
        if updates_done > self.record["updates"] and log.exists() and self.record["schedule"]:
            done = read_slice(log, self.record["updates"])  # this script was killed between checkpoint and record
            if done is not None and done.updates == updates_done:
                return self._record_slice(done, Ended(0, noted_memory(log), 0.0, 0.0))
        if number == 1:  # an attempt that was stopped may have left something
            updates_done, clock = 0, 0.0
            shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)
            with contextlib.suppress(FileNotFoundError):
                self._trust_log.unlink()
        elif updates_done == 0:
            raise UsageError(
                f"{self.folder / 'checkpoints'} has lost its checkpoint: delete {self.folder} to repeat it"
            )
        self.record["schedule"] = asdict(self._schedule())
        command = self.command(number, clock)
        environment = {**self.processes.environment, **dict(self.job.contestant.environment)}
        self.record["commands"][number - 1 :] = [shown(command, environment)]
        if machine.here() not in self.record["made_by"]:
            self.record["made_by"].append(machine.here())
        write_json(self.folder / "run.json", self.record)
        try:
            ended = self.processes.run(command, log, environment)
        except Killed:
            if self._killed_again(number):
                return self._fail("killed twice in the same slice, for want of memory or by hand")
            raise
        done = read_slice(log, self.record["updates"])
        if ended.code != 0 or done is None:
            self._fail(reason_of_failure(log, ended.code))
        else:
            self._record_slice(done, ended)

    def _fail(self, reason: str) -> None:
        self.record.update(status="failed", reason=reason)
        write_json(self.folder / "run.json", self.record)

    def _killed_again(self, number: int) -> bool:
        """Note that the slice was killed; whether it was before."""
        killed = self.record.setdefault("killed", [])
        killed.append(number)
        write_json(self.folder / "run.json", self.record)
        return killed.count(number) > 1

    def command(self, number: int, clock: float) -> List[str]:
        """fairseq-train for slice `number` (from 1), when its own clock stands at `clock` seconds."""
        job, preset = self.job, self.preset
        streaming = job.contestant.streaming
        length = preset.chunk if streaming else preset.window
        lanes = job.contestant.lanes or preset.lanes
        if not streaming:
            lanes = max(1, preset.lanes * preset.chunk // preset.window)
        interval = max(1, preset.log_interval // 4) if job.kind == "pace" else preset.log_interval
        options: List[str] = [
            *(fairseq("train"), str(self.data), "--user-dir", str(USER_DIR), "--task", "byte_level_lm"),
            *job.contestant.arguments,
            *job.size.options,
            *job.contestant.optimizer,
            *self._schedule().options(),
            *("--tokens-per-sample", str(length), "--batch-size", str(lanes)),
            # lanes begin from nothing, so few of them; windows do anyway, so as many as a batch of evaluation has and more
            *("--batch-size-valid", str(16 if streaming else preset.eval_lanes * 2)),
            *("--seed", str(job.seed), *preset.device, "--num-workers", "0"),
            *("--save-dir", str(self.folder / "checkpoints"), "--no-epoch-checkpoints"),
            *("--save-interval", NEVER, "--validate-interval", NEVER, "--best-checkpoint-metric", "bpb"),
            *("--log-format", "json", "--log-interval", str(interval)),
        ]
        if job.kind in ("pace", "trial"):
            options.append("--no-save")
        if job.contestant.trust_log and job.kind == "run":
            options += ["--trust-log", str(self._trust_log), "--trust-log-interval", str(preset.log_interval)]
        if job.budget.updates is not None:
            if streaming:
                options.append("--no-bptt-jitter")  # the same bytes in each update as the others
            return [*options, "--max-update", str(job.budget.updates * number // job.slices)]
        wanted = job.budget.seconds * number / job.slices - self.record["train_seconds"]
        stop = clock + max(0.0, wanted) + self.record["lost_seconds"]
        return [*options, "--stop-time-hours", f"{stop / 3600:.6f}"]

    @property
    def _trust_log(self) -> Path:
        return self.folder / "trust.jsonl"

    def _schedule(self) -> Schedule:
        """Over the updates that the whole run will make, as far as is known now: a fall follows the machine's real speed."""
        record, budget = self.record, self.job.budget
        seconds, done = record["train_seconds"], record["updates"]
        if budget.updates is not None:
            return Schedule.of(self.job.trial, budget.updates)
        rate = done / seconds if seconds > 0 else self.job.rate
        total = done + round(rate * max(0.0, budget.seconds - seconds))
        if record["slices"] == 0:
            return Schedule.of(self.job.trial, total)
        return Schedule(**record["schedule"]).continued(done, total)

    def _checkpoint_clock(self) -> Tuple[int, float]:
        """Updates and seconds of training as fairseq counts them (validation in, start-up out) in the last checkpoint."""
        path = self.folder / "checkpoints" / "checkpoint_last.pt"
        if not path.exists():
            return 0, 0.0
        from fairseq import checkpoint_utils

        state = checkpoint_utils.load_checkpoint_to_cpu(str(path))
        return state["optimizer_history"][-1]["num_updates"], float(state["extra_state"]["previous_training_time"])

    def _record_slice(self, done: SliceLog, ended: Ended) -> None:
        record, job = self.record, self.job
        if job.budget.seconds is not None:
            wanted = job.budget.seconds * (record["slices"] + 1) / job.slices - record["train_seconds"]
            record["lost_seconds"] = max(0.0, record["lost_seconds"] + wanted - done.train_seconds)
        record["slices"] += 1
        record["train_seconds"] += done.train_seconds
        record["valid_seconds"] += done.valid_seconds
        record["updates"] = done.updates
        record["bytes"] += done.slice_bytes
        record["warm_rate"] = done.warm_rate
        record["peak_memory"] = max(record["peak_memory"], ended.peak_memory)
        if done.gpu_free is not None:
            used = machine.gpu_memory() - round(done.gpu_free * 2**30)
            record["gpu_peak_memory"] = max(record.get("gpu_peak_memory") or 0, used)
        record["cpu_seconds"] += ended.cpu_seconds
        record["wall_seconds"] += ended.wall_seconds
        record["points"].append(
            {
                "minutes": record["train_seconds"] / 60,
                "updates": done.updates,
                "bytes": record["bytes"],
                "train_bpb": done.train_bpb,
                "valid_bpb": done.valid_bpb,
            }
        )
        if record["slices"] == job.slices:
            record["status"] = "finished"
        write_json(self.folder / "run.json", record)

    @property
    def best_valid_bpb(self) -> Optional[float]:
        """The best validation, None for a run without one."""
        return min((point["valid_bpb"] for point in self.record["points"]), default=None)

    def drop_optimizer_state(self) -> None:
        """Of a finished run only the best checkpoint is needed."""
        last = self.folder / "checkpoints" / "checkpoint_last.pt"
        if self.finished and self.checkpoint.exists() and last.exists():
            os.remove(last)
