"""What fairseq's logs say, read from files in which each line begins with the time at which it was written: `WALL/CPU`."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

_BEGIN_TRAINING = "Start iterating over samples"
_BEGIN_VALIDATION = "begin validation on"
_EVALUATED = re.compile(r"Evaluated ([\d,]+) tokens in ([\d.,]+)s \(([\d.,]+) tokens/s\)")
_LOSS = re.compile(r"Loss \(base 2\): ([\d.,]+),")


@dataclass(frozen=True)
class SliceLog:
    """One slice of training, the part of a run between two validations.

    train_seconds, valid_seconds: time of updates and of the validation, by the clock that the log was read with.
    wall_seconds: time of updates by the clock on the wall. updates: of the whole run so far. warm_rate:
    updates a second after the first third of the slice. slice_bytes: read in this slice. train_bpb, valid_bpb: bits per
    byte at its end. gpu_free: the least free memory of the GPU that fairseq logged (GiB; None without a GPU).
    """

    train_seconds: float
    valid_seconds: float
    updates: int
    warm_rate: float
    slice_bytes: float
    train_bpb: Optional[float]
    valid_bpb: float
    gpu_free: Optional[float] = None
    wall_seconds: float = 0.0


class Moment(NamedTuple):
    """When a line was written: seconds on the wall, and CPU seconds of the process that wrote it."""

    wall: float
    cpu: float

    @classmethod
    def parse(cls, stamp: str) -> "Moment":
        """From `WALL/CPU`, or from `WALL` only: then both are the same. Raises ValueError."""
        wall, _, cpu = stamp.partition("/")
        return cls(float(wall), float(cpu or wall))


def stamped(path: Path) -> Iterator[Tuple[Moment, str]]:
    """The lines of a log, each with its time."""
    for line in path.read_text(encoding="utf-8").splitlines():
        time, _, text = line.partition(" ")
        try:
            yield Moment.parse(time), text
        except ValueError:
            continue  # a kill cut the line short


def _json(text: str, kind: str) -> Optional[Dict]:
    """The values of a log line `... | kind | {...}`; None for another line."""
    _, found, values = text.partition(f" | {kind} | {{")
    if not found:
        return None
    try:
        return json.loads("{" + values)
    except ValueError:
        return None


def read_slice(path: Path, updates_before: int, processor_time: bool = False) -> Optional[SliceLog]:
    """Read a slice's log; None if it has no validation after its training.

    processor_time: take times from the CPU seconds of the training instead of the wall-clock.

    fairseq logs the bytes per update of intervals of updates. Updates before the first and after the last whole interval
    are counted with the bytes of the nearest one. The gap between two epochs is not counted as training time.
    """
    began = since = valid_since = None
    train_seconds = valid_seconds = wall_seconds = wall_since = 0.0
    intervals: List[Tuple[int, float]] = []
    moments: List[Tuple[float, int]] = []  # (seconds of training, updates)
    train_bpb = valid = gpu_free = None
    for moment, text in stamped(path):
        time = moment.cpu if processor_time else moment.wall
        if _BEGIN_TRAINING in text:
            began, since, wall_since = True, time, moment.wall
        elif not began:
            continue
        elif _BEGIN_VALIDATION in text or "| end of epoch" in text:
            if since is not None:
                train_seconds += time - since
                wall_seconds += moment.wall - wall_since
            since, valid_since = None, time if _BEGIN_VALIDATION in text else None
        else:
            inner = _json(text, "train_inner")
            if inner is not None:
                intervals.append((int(inner["num_updates"]), float(inner["wpb"])))
                moments.append((train_seconds + time - (time if since is None else since), intervals[-1][0]))
                train_bpb = float(inner["bpb"])
                if "gb_free" in inner:
                    gpu_free = min(float(inner["gb_free"]), math.inf if gpu_free is None else gpu_free)
            found = _json(text, "valid")
            if found is not None and valid_since is not None:
                valid, valid_seconds = found, valid_seconds + time - valid_since
    if valid is None:
        return None
    updates = int(valid["valid_num_updates"])
    return SliceLog(
        train_seconds,
        valid_seconds,
        updates,
        _warm_rate(moments, train_seconds, updates - updates_before),
        _bytes(intervals, updates_before, updates),
        train_bpb,
        float(valid["valid_bpb"]),
        gpu_free,
        wall_seconds,
    )


def _warm_rate(moments: List[Tuple[float, int]], seconds: float, made: int) -> float:
    """Updates a second without the first third of the training, in which caches are cold."""
    warm = [moment for moment in moments if moment[0] >= seconds / 3]
    if len(warm) > 1 and warm[-1][0] > warm[0][0]:
        return (warm[-1][1] - warm[0][1]) / (warm[-1][0] - warm[0][0])
    return made / max(1e-3, seconds)


def _bytes(intervals: List[Tuple[int, float]], first: int, last: int) -> float:
    """Bytes read between two numbers of updates, from (updates, bytes per update) at the end of each interval."""
    total, done, rate = 0.0, first, intervals[0][1] if intervals else 0.0
    for updates, rate in intervals:
        if updates > done:
            total += (min(updates, last) - done) * rate
            done = updates
    return total + max(0, last - done) * rate


@dataclass(frozen=True)
class EvaluationLog:
    """One pass over a split: bytes scored, seconds of scoring, bits per byte."""

    tokens: int
    seconds: float
    bpb: float


def read_evaluation(path: Path) -> Optional[EvaluationLog]:
    """Read the log of fairseq-eval-lm, whose numbers have thousands separators; None if it has no result."""
    text = path.read_text(encoding="utf-8")
    counted, loss = _EVALUATED.search(text), _LOSS.search(text)
    if counted is None or loss is None:
        return None
    tokens, _, speed = (float(part.replace(",", "")) for part in counted.groups())
    return EvaluationLog(int(tokens), tokens / speed if speed else 0.0, float(loss.group(1).replace(",", "")))
