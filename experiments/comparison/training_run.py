"""One training: slices of fairseq-train that resume from each other's checkpoint, and a record that survives a kill."""

import contextlib
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import List, Optional, Tuple

from experiments.comparison.contestant import Contestant
from experiments.comparison.device import device_environment
from experiments.comparison.learning_rate import LearningRate
from experiments.comparison.presets import CPU_TIME, Preset
from experiments.comparison.records import Point, RunRecord
from experiments.comparison.sizes import Size
from experiments.comparison.training_command import (
    by_processor_time,
    clock_environment,
    context_of,
    fixed_options,
    length_of,
    stop_options,
)
from experiments.comparison.trials import Budget, Trial
from experiments.harness import machine
from experiments.harness.logs import SliceLog, read_slice
from experiments.harness.processes import Ended, Killed, Processes, as_typed, noted_memory, reason_of_failure
from experiments.harness.records import read_record, write_record
from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.registration import register


@dataclass(frozen=True)
class Job:
    """What is to be trained, and how long. kind: pace, trial, run or long.

    rate: updates a second, and lost_seconds: what fairseq's clock counts besides updates when it starts; both as measured
    in an earlier training of the same contestant.
    """

    kind: str
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

    def new_record(self) -> RunRecord:
        return RunRecord(
            kind=self.kind,
            contestant=self.contestant.name,
            seed=self.seed,
            trial=str(self.trial),
            budget=str(self.budget),
            parameters=self.size.parameters,
            lost_seconds=self.lost_seconds,
        )


class TrainingRun:
    """A training in a folder of its own: run.json (the record), slice-N.log, checkpoints/."""

    def __init__(self, folder: Path, data: Path, preset: Preset, job: Job, processes: Processes):
        self.folder, self.data, self.preset, self.job, self.processes = folder, data, preset, job, processes
        self.record = read_record(RunRecord, folder / "run.json") or job.new_record()
        if by_processor_time(job, preset):
            self.record.charge = CPU_TIME

    @property
    def usable(self) -> bool:
        """Whether it ended well, so that its best checkpoint can be evaluated."""
        return self.record.ended and not self.record.failed

    @property
    def length(self) -> int:
        """Bytes in a chunk of training, or in a window of a stateless model."""
        return length_of(self.job, self.preset)

    @property
    def context(self) -> int:
        """The context length of a contestant that carries state."""
        return context_of(self.job, self.preset)

    @property
    def checkpoint(self) -> Path:
        """The best checkpoint by validation."""
        return self.folder / "checkpoints" / "checkpoint_best.pt"

    @property
    def trust_log(self) -> Path:
        """LAMB's trust ratios over training, where they are logged."""
        return self.folder / "trust.jsonl"

    @property
    def remaining_slices(self) -> int:
        return 0 if self.record.ended else self.job.slices - self.record.slices

    def advance(self) -> bool:
        """Train one slice and record it; False if an earlier call had trained it. A command that fails ends the run.

        Raises UsageError if the command was stopped from outside: then the slice is repeated by the next call. A slice
        that was killed twice has failed, because it probably needs more memory than there is.
        """
        number = self.record.slices + 1
        log = self.folder / f"slice-{number}.log"
        updates_done, clock = self._checkpoint_clock()
        if updates_done > self.record.updates and log.exists() and self.record.schedule:
            done = self._read(log)  # an earlier call was killed between checkpoint and record
            if done is not None and done.updates == updates_done:
                self._record_slice(done, Ended(0, noted_memory(log), 0.0, 0.0))
                return False
        if number == 1:  # an attempt that was stopped may have left something
            updates_done, clock = 0, 0.0
            self._remove_leftovers()
        elif updates_done == 0:
            raise UsageError(
                f"{self.folder / 'checkpoints'} has lost its checkpoint: delete {self.folder} to repeat it"
            )
        self._train(number, log, clock)
        return True

    def _train(self, number: int, log: Path, clock: float) -> None:
        self.record.schedule = self._learning_rate()
        command = self.command(number, clock)
        environment = {
            **self.processes.environment,
            **device_environment(self.preset),
            **clock_environment(self.job, self.preset),
            **dict(self.job.contestant.environment),
        }
        self.record.commands[number - 1 :] = [as_typed(command, environment)]
        if machine.made_by() not in self.record.made_by:
            self.record.made_by.append(machine.made_by())
        self._save()
        try:
            ended = self.processes.run(command, log, environment)
        except Killed:
            if self._killed_before(number):
                return self._fail("killed twice in the same slice, by hand or because memory ran out")
            raise
        done = self._read(log)
        if ended.code != 0 or done is None:
            self._fail(reason_of_failure(log, ended.code))
        else:
            self._record_slice(done, ended)

    def _read(self, log: Path) -> Optional[SliceLog]:
        return read_slice(log, self.record.updates, by_processor_time(self.job, self.preset))

    def _remove_leftovers(self) -> None:
        shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            self.trust_log.unlink()

    def _save(self) -> None:
        write_record(self.folder / "run.json", self.record)

    def _fail(self, reason: str) -> None:
        self.record.status, self.record.reason = "failed", reason
        self._save()

    def _killed_before(self, number: int) -> bool:
        """Record that the slice was killed; returns whether it was killed before."""
        self.record.killed.append(number)
        self._save()
        return self.record.killed.count(number) > 1

    def command(self, number: int, clock: float) -> List[str]:
        """fairseq-train for slice `number` (from 1), when its own clock stands at `clock` seconds."""
        job = self.job
        logs_trust = job.contestant.trust_log and job.kind == "run"
        return [
            *fixed_options(job, self.preset, self.data, self.folder / "checkpoints"),
            *self._learning_rate().options(),
            *(("--trust-log", str(self.trust_log)) if logs_trust else ()),
            *(("--trust-log-interval", str(self.preset.log_interval)) if logs_trust else ()),
            *stop_options(job, number, clock + self.record.lost_seconds, self.record.train_seconds),
        ]

    def _learning_rate(self) -> LearningRate:
        """Over the updates that the whole run will make, estimated from its speed so far."""
        record, budget = self.record, self.job.budget
        if budget.updates is not None:
            return LearningRate.of(self.job.trial, budget.updates)
        seconds, done = record.train_seconds, record.updates
        rate = done / seconds if seconds > 0 else self.job.rate
        total = done + round(rate * max(0.0, budget.seconds - seconds))
        if record.slices == 0 or record.schedule is None:
            return LearningRate.of(self.job.trial, total)
        return record.schedule.continued(done, total)

    def _checkpoint_clock(self) -> Tuple[int, float]:
        """Updates, and seconds as fairseq counts them (with validation, without start-up), in the last checkpoint."""
        path = self.folder / "checkpoints" / "checkpoint_last.pt"
        if not path.exists():
            return 0, 0.0
        from fairseq import checkpoint_utils

        register()
        state = checkpoint_utils.load_checkpoint_to_cpu(str(path))
        return state["optimizer_history"][-1]["num_updates"], float(state["extra_state"]["previous_training_time"])

    def _record_slice(self, done: SliceLog, ended: Ended) -> None:
        record, job = self.record, self.job
        if job.budget.seconds is not None:
            planned = job.budget.seconds * (record.slices + 1) / job.slices - record.train_seconds
            record.lost_seconds = max(0.0, record.lost_seconds + planned - done.train_seconds)
        record.slices += 1
        record.train_seconds += done.train_seconds
        record.train_wall_seconds += done.wall_seconds
        record.valid_seconds += done.valid_seconds
        record.updates = done.updates
        record.bytes += done.slice_bytes
        record.warm_rate = done.warm_rate
        record.peak_memory = max(record.peak_memory, ended.peak_memory)
        if done.gpu_free is not None:
            used = machine.gpu_memory() - round(done.gpu_free * 2**30)
            record.gpu_peak_memory = max(record.gpu_peak_memory or 0, used)
        record.cpu_seconds += ended.cpu_seconds
        record.wall_seconds += ended.wall_seconds
        record.points.append(
            Point(record.train_seconds / 60, done.updates, record.bytes, done.valid_bpb, done.train_bpb)
        )
        if record.slices == job.slices:
            record.status = "finished"
        self._save()

    def drop_optimizer_state(self) -> None:
        """Remove the last checkpoint of a run that has ended: only the best one is needed."""
        last = self.folder / "checkpoints" / "checkpoint_last.pt"
        if self.record.ended and self.checkpoint.exists() and last.exists():
            os.remove(last)
