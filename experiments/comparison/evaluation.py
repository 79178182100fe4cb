"""Bits per byte of the whole test split by fairseq-eval-lm, and how long it took."""

from pathlib import Path
from statistics import mean
from typing import Dict, List, NamedTuple, Optional, Sequence

from experiments.comparison.contestants import Contestant
from experiments.comparison.presets import Preset
from experiments.comparison.training_run import Run
from experiments.harness.folder import read_json, write_json
from experiments.harness.logs import read_evaluation
from experiments.harness.processes import USER_DIR, Processes, fairseq, reason_of_failure, shown

HALF = "half"  # the mode in which half of each window is context, where that takes longer than SHA-RNN


def evaluate(run: Run, mode: str, options: Sequence[str], processes: Processes) -> Dict:
    """Evaluate a run's best checkpoint once; the record is kept in the run's folder and read from there next time.

    Returns mode, bits per byte, bytes scored, seconds of scoring, bytes/s, peak memory, the command; or the reason why there
    is no result. Without a checkpoint (in a folder made of records alone) there is nothing to evaluate, and nothing is kept.
    """
    path = run.folder / f"evaluation-{mode}.json"
    record = read_json(path)
    if record is not None:
        return record
    if not run.checkpoint.exists():
        return {"mode": mode, "command": "", "reason": f"{run.checkpoint} is gone"}
    command: List[str] = [
        *(fairseq("eval-lm"), str(run.data), "--user-dir", str(USER_DIR), "--task", "byte_level_lm"),
        *("--path", str(run.checkpoint), "--gen-subset", "test", *run.preset.device, "--num-workers", "0"),
        *("--log-format", "none", *options),
    ]
    log = run.folder / f"evaluation-{mode}.log"
    environment = {**processes.environment, **dict(run.job.contestant.environment)}
    ended = processes.run(command, log, environment)
    found = read_evaluation(log)
    record = {"mode": mode, "command": shown(command, environment), "reason": None}
    if ended.code != 0 or found is None:
        record["reason"] = reason_of_failure(log, ended.code)
    else:
        record.update(
            bpb=found.bpb,
            tokens=found.tokens,
            seconds=found.seconds,
            bytes_per_second=found.tokens / found.seconds if found.seconds else 0.0,
            peak_memory=ended.peak_memory,
        )
    write_json(path, record)
    return record


def streaming_options(preset: Preset) -> List[str]:
    """SHA-RNN: lanes that carry their state through the file, each warmed on what a lane before it would remember."""
    return [
        *("--tokens-per-sample", str(preset.eval_chunk), "--batch-size", str(preset.eval_lanes)),
        *("--context-window", str(preset.context)),
    ]


def block_options(preset: Preset) -> List[str]:
    """Stateless models: blocks of the training length, one after the other."""
    return ["--tokens-per-sample", str(preset.window), "--batch-size", str(windows_at_once(preset, preset.window))]


def windows_at_once(preset: Preset, window: int) -> int:
    """Windows in a batch: as many bytes as SHA-RNN's lanes have, and no fewer windows than lanes."""
    return preset.eval_lanes * max(1, preset.eval_chunk // window)


def window_length(preset: Preset, contestant: Contestant) -> int:
    """Bytes of a window with context: as in training for Transformers, whose positions end there; SHA-RNN's for an LSTM."""
    return preset.context if contestant.family == "lstm" else preset.window


def window_options(preset: Preset, window: int, context: int) -> List[str]:
    """Stateless models: overlapping windows, the first `context` bytes of each (but the first) unscored."""
    return [
        *("--tokens-per-sample", str(window), "--batch-size", str(windows_at_once(preset, window))),
        *("--context-window", str(context)),
    ]


def largest_context(window: int, seconds_in_blocks: float, allowed: float) -> int:
    """The unscored context that windows of `window` bytes can afford in `allowed` seconds of scoring.

    Windows that overlap by w score the file in 1 / (1 - w / window) times the time of plain blocks. A multiple of a
    thirty-second of the window; 0 where plain blocks alone take that long.
    """
    step = max(1, window // 32)
    if seconds_in_blocks <= 0 or seconds_in_blocks >= allowed:
        return 0
    return min(int(window * (1 - seconds_in_blocks / allowed)) // step * step, window - step)


class Allowance(NamedTuple):
    """What windows may cost: the seconds that a streaming contestant took, and its name."""

    name: str
    seconds: float


def fit_context(
    runs: Sequence[Run],
    seconds_in_blocks: float,
    allowance: Allowance,
    processes: Processes,
    path: Path,
    tries: int = 4,
) -> Dict:
    """Find, by measuring, the largest context whose evaluation costs no more than is allowed; kept in `path`.

    runs: those of one contestant, one for each seed. What counts is their mean, for one timing may be off by a tenth.
    Returns the context, what each try took, and the reason why one failed. One that is too slow is followed by one with
    less; the first that fits, by one with more where its speed allows that. What was found for another allowance, or
    failed, is looked for again, with what has been measured.
    """
    known: Optional[Dict] = read_json(path)
    allowed = allowance.seconds
    settled = known is not None and known.get("reason") is None
    if settled and (known.get("reference"), known["allowed_seconds"]) == (allowance.name, allowed):
        return known
    preset, contestant = runs[0].preset, runs[0].job.contestant
    window = window_length(preset, contestant)
    measured, best, too_much, reason = [], 0, window, None
    context = largest_context(window, seconds_in_blocks, allowed)
    while best < context < too_much and len(measured) < tries:
        mode, options = f"window-{context}", window_options(preset, window, context)
        records = [evaluate(run, mode, options, processes) for run in runs]
        reason = next((f"{mode}: {record['reason']}" for record in records if record["reason"] is not None), None)
        if reason is not None:
            break
        seconds = mean(record["seconds"] for record in records)
        measured.append({"context": context, "seconds": seconds})
        # what the blocks would have taken at the speed just seen, and a little less
        estimate = 1.02 * seconds * (1 - context / window)
        upwards = best == 0 and seconds <= allowed
        if seconds <= allowed:
            best = context
            context = largest_context(window, estimate, allowed) if upwards else 0
        else:
            too_much = context
            context = min(largest_context(window, estimate, allowed), context - max(1, window // 32)) if not best else 0
    found = {
        "context": best,
        "window": window,
        "reference": allowance.name,
        "allowed_seconds": allowed,
        "measured": measured,
        "reason": reason,
    }
    write_json(path, found)
    return found
