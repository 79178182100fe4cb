"""The paper's recipe on real text for the time that is left, by fairseq-train, and a sample of what it has learned."""

import json
import logging
import multiprocessing
import os
import sys
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional
from unittest.mock import patch

from benchmarks.acceptance.processes import die_with_parent
from fairseq_sharnn.data.corpora.prepare import SPLITS, write_files, write_stdlib
from fairseq_sharnn.ops.step import MOST_LANES

Row = Dict[str, Any]
USER_DIR = Path(__file__).resolve().parent.parent.parent / "fairseq_sharnn"
_FORMAT = "%(asctime)s | %(levelname)s | %(name)s | %(message)s"  # of fairseq's command lines
# Validation, the checkpoint, and the start of the next stage.
_AFTER_TRAINING = 25.0


def write_corpus(folder: Path, text: Optional[str]) -> Iterator[Row]:
    """The splits of a text file, or of this Python's standard library."""
    if text is None:
        write_stdlib(str(folder))
    else:
        write_files(str(folder), [text])
    for split in SPLITS:
        yield {"split": split, "bytes": (folder / split).stat().st_size}


def command(data: Path, checkpoints: Path, size: str, device: str, lanes: int, hours: float) -> List[str]:
    """fairseq-train with the paper's recipe; at toy size the same options with a model that trains in a second."""
    on_gpu = device.startswith("cuda")
    sizes = ["--tokens-per-sample", "1024"]
    if size == "toy":
        sizes = "--decoder-embed-dim 32 --boom-dim 64 --decoder-layers 2 --context-length 96".split()
        sizes += ["--tokens-per-sample", "32", "--max-update", "6"]
    return [
        *(str(Path(sys.executable).with_name("fairseq-train")), str(data), "--user-dir", str(USER_DIR)),
        *("--task", "byte_level_lm", "--arch", "sha_rnn", *sizes, "--batch-size", str(lanes)),
        *(("--fp16", "--fp16-init-scale", "8") if on_gpu else ("--cpu",)),
        *("--optimizer", "lamb_min_trust", "--min-trust", "0.25", "--weight-decay", "1.2e-6", "--clip-norm", "0.25"),
        *("--lr", "2e-3", "--lr-scheduler", "fixed", "--warmup-updates", "800"),
        *("--stop-time-hours", f"{hours:.6f}", "--no-epoch-checkpoints", "--no-save-optimizer-state"),
        *("--best-checkpoint-metric", "bpb", "--save-dir", str(checkpoints)),
        *("--log-format", "json", "--log-interval", "1" if size == "toy" else "20"),
    ]


def train(
    data: Path, checkpoints: Path, size: str, device: str, lanes: int, until: float, curve: Path
) -> Iterator[Row]:
    """Train until the clock (`time.time`) is near `until`. The curve is written as it grows; the rows are its ends."""
    start = time.time()
    hours = max(until - start - _AFTER_TRAINING, 1.0) / 3600
    arguments = command(data, checkpoints, size, device, lanes, hours)
    reader, writer = os.pipe()
    process = multiprocessing.get_context("fork").Process(target=_fairseq_train, args=(arguments, writer))
    process.start()
    os.close(writer)
    first: Optional[Row] = None
    last: Row = {}
    with open(curve, "w", encoding="utf-8", buffering=1) as file:
        print("seconds,update,bits_per_byte,bytes_per_second,split", file=file)
        for line in os.fdopen(reader, encoding="utf-8", errors="replace"):
            print(line, end="")
            point = _point(line, time.time() - start)
            if point is None:
                continue
            print(",".join(str(value) for value in point.values()), file=file)
            if point["split"] == "train":
                first, last = first or point, point
            else:
                yield point
    process.join()
    if process.exitcode != 0:
        raise RuntimeError(f"fairseq-train ended with exit code {process.exitcode}")
    if first is not None:
        yield {**first, "split": "train, first"}
        yield {**last, "split": "train, last"}


def _fairseq_train(arguments: List[str], output: int) -> None:
    """The command fairseq-train in this process, on one GPU; what it prints goes to a pipe."""
    die_with_parent()
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout = sys.stderr = os.fdopen(output, "w", buffering=1)
    # as the command itself would set it up, had nothing else been imported before
    logging.basicConfig(format=_FORMAT, level=logging.INFO, stream=sys.stdout, force=True)
    sys.argv = arguments
    from fairseq_cli.train import cli_main

    cli_main()


def _point(line: str, seconds: float) -> Optional[Row]:
    """A point of the curve from a line of fairseq's log, or None."""
    for kind, prefix in (("train_inner", ""), ("valid", "valid_")):
        _, found, values = line.partition(f" | {kind} | {{")
        if found:
            logged = json.loads("{" + values)
            return {
                "seconds": round(seconds, 1),
                "update": logged.get("num_updates", logged.get(f"{prefix}num_updates")),
                "bits per byte": logged.get(f"{prefix}bpb"),
                "bytes/s": logged.get(f"{prefix}wps"),
                "split": "train" if kind == "train_inner" else "valid",
            }
    return None


def sample(checkpoint: Path, device: str, length: int, out: Path) -> Iterator[Row]:
    """A sample of the trained model, and how fast it was drawn; on a GPU with and without the CUDA graph of a step."""
    from fairseq_sharnn import load
    from fairseq_sharnn.portable import replayed

    model = load(str(checkpoint), device=device)
    prompts = ["The "] * MOST_LANES
    found: Dict[int, List[str]] = {}
    for replays in (True, False) if device.startswith("cuda") else (False,):
        with nullcontext() if replays else patch.object(replayed, "is_replayed", lambda network: False):
            for count in (1, MOST_LANES):
                draw = partial(model.sample, prompts[:count], temperature=0.8, seed=1)
                draw(length=8)
                start = time.perf_counter()
                texts = list(draw(length=length))
                taken = time.perf_counter() - start
                first = found.setdefault(count, texts)
                out.write_text(first[0], encoding="utf-8")
                yield {
                    "step": "CUDA graph" if replays else "plain",
                    "prompts": count,
                    "bytes each": length,
                    "bytes/s": round(count * length / taken),
                    "text": "the same" if texts == first else "another",
                    "begins": repr(texts[0][:60]),
                }
