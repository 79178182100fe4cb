"""The fairseq-train command of a slice."""

from pathlib import Path
from typing import TYPE_CHECKING, Dict, List

from experiments.comparison.presets import CPU_TIME, Preset
from experiments.harness.processes import BY_PROCESSOR_TIME, PLUGIN, fairseq

if TYPE_CHECKING:
    from experiments.comparison.training_run import Job

_NEVER = "1000000"  # epochs


def length_of(job: "Job", preset: Preset) -> int:
    """Bytes in a chunk of training, or in a window of a stateless model."""
    return job.trial.length or (preset.chunk if job.contestant.streaming else preset.window)


def context_of(job: "Job", preset: Preset) -> int:
    """The context length of a contestant that carries state."""
    return job.trial.context or job.contestant.context_length(preset)


def by_processor_time(job: "Job", preset: Preset) -> bool:
    """Whether a training is charged its CPU seconds, not the time that passes."""
    return preset.charge == CPU_TIME and job.budget.seconds is not None


def clock_environment(job: "Job", preset: Preset) -> Dict[str, str]:
    """Variables for the clock by which fairseq-train stops."""
    return BY_PROCESSOR_TIME if by_processor_time(job, preset) else {}


def fixed_options(job: "Job", preset: Preset, data: Path, checkpoints: Path) -> List[str]:
    """fairseq-train with the options that are the same in all slices of a run."""
    streaming = job.contestant.streaming
    user_dir = PLUGIN if by_processor_time(job, preset) else job.contestant.user_dir
    length = length_of(job, preset)
    update = (job.contestant.lanes or preset.lanes) * preset.chunk if streaming else preset.bytes_per_update
    lanes = max(1, update // length)
    context = () if job.trial.context is None else ("--context-length", str(job.trial.context))
    # few lanes, because each starts without context; windows start without context anyway, so as many as fit well
    valid_lanes = 16 if streaming else preset.eval_lanes * 2
    interval = max(1, preset.log_interval // 4) if job.kind == "pace" else preset.log_interval
    options = [
        *(fairseq("train"), str(data), "--user-dir", str(user_dir), "--task", "byte_level_lm"),
        *job.contestant.arguments,
        *context,
        *job.size.options,
        *job.contestant.optimizer,
        *("--tokens-per-sample", str(length), "--batch-size", str(lanes), "--batch-size-valid", str(valid_lanes)),
        *("--seed", str(job.seed), *preset.device, "--num-workers", "0"),
        *("--save-dir", str(checkpoints), "--no-epoch-checkpoints"),
        *("--save-interval", _NEVER, "--validate-interval", _NEVER, "--best-checkpoint-metric", "bpb"),
        *("--log-format", "json", "--log-interval", str(interval)),
    ]
    if job.kind in ("pace", "trial"):
        options.append("--no-save")
    if streaming and job.budget.updates is not None and "--no-bptt-jitter" not in options:
        options.append("--no-bptt-jitter")  # the same bytes in each update as the others
    return options


def stop_options(job: "Job", number: int, clock: float, train_seconds: float) -> List[str]:
    """Where slice `number` (from 1) of a run ends.

    clock: what fairseq's clock shows before the first update. train_seconds: of the slices before.
    """
    if job.budget.updates is not None:
        return ["--max-update", str(job.budget.updates * number // job.slices)]
    wanted = job.budget.seconds * number / job.slices - train_seconds
    return ["--stop-time-hours", f"{(clock + max(0.0, wanted)) / 3600:.6f}"]
