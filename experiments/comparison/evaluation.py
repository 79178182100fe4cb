"""Bits per byte of the whole test split by fairseq-eval-lm, and how long that takes."""

from pathlib import Path
from typing import List, Sequence

from experiments.comparison.device import device_environment
from experiments.comparison.presets import Preset
from experiments.comparison.records import Evaluation
from experiments.comparison.training_run import TrainingRun
from experiments.harness.logs import read_evaluation
from experiments.harness.processes import Processes, as_typed, fairseq, reason_of_failure
from experiments.harness.records import read_record, write_record

# Ways to evaluate; a window with a context of w bytes is "window-w".
STREAMING = "streaming"
BLOCKS = "blocks"
HALF = "half"  # half of each window is context


def window_mode(context: int) -> str:
    return f"window-{context}"


def evaluation_path(run: TrainingRun, mode: str) -> Path:
    return run.folder / f"evaluation-{mode}.json"


def read_evaluations(run: TrainingRun, modes: Sequence[str]) -> List[Evaluation]:
    """The records of those of the modes that the run was evaluated in."""
    records = [read_record(Evaluation, evaluation_path(run, mode)) for mode in modes]
    return [record for record in records if record is not None]


def evaluate(run: TrainingRun, mode: str, options: Sequence[str], processes: Processes, split: str = "test") -> bool:
    """Evaluate a run's best checkpoint on a split and record it under the mode; False if that was done already.

    Without a checkpoint (in a folder that has only records) nothing is evaluated and nothing recorded.
    """
    path = evaluation_path(run, mode)
    if path.exists() or not run.checkpoint.exists():
        return False
    command = [
        *(fairseq("eval-lm"), str(run.data), "--user-dir", str(run.job.contestant.user_dir), "--task", "byte_level_lm"),
        *("--path", str(run.checkpoint), "--gen-subset", split, *run.preset.device, "--num-workers", "0"),
        *("--log-format", "none", *options),
    ]
    log = run.folder / f"evaluation-{mode}.log"
    environment = {
        **processes.environment,
        **device_environment(run.preset),
        **dict(run.job.contestant.environment),
    }
    ended = processes.run(command, log, environment)
    found = read_evaluation(log)
    typed = as_typed(command, environment)
    if ended.code != 0 or found is None:
        record = Evaluation(mode, typed, reason=reason_of_failure(log, ended.code))
    else:
        record = Evaluation(
            mode,
            typed,
            bpb=found.bpb,
            tokens=found.tokens,
            seconds=found.seconds,
            bytes_per_second=found.tokens / found.seconds if found.seconds else 0.0,
            peak_memory=ended.peak_memory,
        )
    write_record(path, record)
    return True


def streaming_options(preset: Preset, context: int) -> List[str]:
    """A model with state: lanes carry it through the file; each is warmed on the bytes that its memory would hold.

    context: C in bytes. A chunk is half of it at most, so that a memory remains.
    """
    chunk = max(1, min(preset.eval_chunk, context // 2))
    return [
        *("--tokens-per-sample", str(chunk), "--batch-size", str(preset.eval_lanes)),
        *("--context-window", str(context)),
    ]


def block_options(preset: Preset, window: int) -> List[str]:
    """Stateless models: blocks of the training length, one after the other."""
    return ["--tokens-per-sample", str(window), "--batch-size", str(windows_at_once(preset, window))]


def window_options(preset: Preset, window: int, context: int) -> List[str]:
    """Stateless models: overlapping windows. The first `context` bytes of each (except the first) are not scored."""
    return [
        *("--tokens-per-sample", str(window), "--batch-size", str(windows_at_once(preset, window))),
        *("--context-window", str(context)),
    ]


def windows_at_once(preset: Preset, window: int) -> int:
    """Windows in a batch: no fewer bytes than SHA-RNN's lanes have, and no fewer windows than lanes."""
    return preset.eval_lanes * max(1, preset.eval_chunk // window)


def window_length(run: TrainingRun) -> int:
    """Bytes of a window with context: as in training for Transformers, whose positions end there; SHA-RNN's for an LSTM."""
    return run.preset.context if run.job.contestant.family == "lstm" else run.length
