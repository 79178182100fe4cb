#!/usr/bin/env python3
"""What a GPU does with this package, in one command: is it right, which kernels run, how fast, and does it learn?

    python -m benchmarks.gpu_acceptance --out DIR                 # 8 minutes; then send DIR back
    python -m benchmarks.gpu_acceptance --out DIR --minutes 30 --text FILE

Writes DIR/report.md and report.json after each row that is measured, curve.csv (the training), sample.txt and log.txt.
It ends by itself in time, and what is written stays when it is stopped. On a CPU it does the same at toy size.
"""

import argparse
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

from benchmarks.acceptance.processes import Row, Stage, ask_without_starting_cuda, run
from benchmarks.acceptance.report import as_markdown
from experiments.harness.folder import write_json, write_text

# Kept free at the end for the sample (seconds), and of the whole time for the training.
_SAMPLE, _TRAINING_SHARE = 20.0, 0.35
_MAY_BE_CUT = ("lstm", "speed", "kernels")
# A stage is not begun with less time (seconds) than this.
_LEAST, _LEAST_TRAINING = 3.0, 40.0


def stages(size: str, device: str, text: Optional[str], work: Path, out: Path, end: float) -> List[Stage]:
    """All stages in their order. work: a folder for the corpus and checkpoints."""
    from benchmarks.acceptance import measurements, recipe
    from benchmarks.models import CASES, Case

    paper = size == "paper"
    case = CASES["paper"] if paper else Case(width=32, boom_width=64, lanes=4, length=8, context=24, layers=2)
    lanes, updates, repeats = ([16, 64, 128], 50, 5) if paper else ([4], 2, 2)
    precisions = ["fp16", "bf16", "fp32"] if device.startswith("cuda") else ["fp32"]
    case = replace(case, device=device, precision=precisions[0], lanes=lanes[0])
    data, checkpoints = work / "data", work / "checkpoints"
    ours = {"names": ["fairseq_sharnn"], "repeats": repeats, "workloads": ["training"]}
    speeds = [
        Stage("speed", "Speed", measurements.speed, {"case": each, **ours}, 60)
        for each in measurements.speed_cases(case, lanes, precisions)
    ]
    every = {"case": case, "repeats": repeats}
    return [
        Stage("machine", "Machine", measurements.the_machine, {"device": device}, 60),
        Stage("golden", "Golden tensors", measurements.golden, {"device": device}, 60),
        Stage("losses", "Losses against the CPU", measurements.losses, {"device": device, "updates": updates}, 60),
        Stage(
            "lstm",
            "What runs an LSTM layer",
            measurements.lstm_kernels,
            {"device": device, "width": case.width, "length": case.length, "lanes": lanes, "precisions": precisions},
            60,
        ),
        *speeds,
        Stage(
            "speed",
            "Speed",
            measurements.speed,
            {**every, "names": ["fairseq_sharnn", "plain"], "workloads": ["evaluation", "generation"]},
            60,
        ),
        Stage("speed", "Speed", measurements.speed, {**every, "names": ["plain"], "workloads": ["training"]}, 60),
        Stage("kernels", "Largest kernels of an update", measurements.update_kernels, {"case": case}, 60),
        Stage("corpus", "Text", recipe.write_corpus, {"folder": data, "text": text}, 30),
        Stage(
            "training",
            "The paper's recipe",
            recipe.train,
            {
                **{"data": data, "checkpoints": checkpoints, "size": size, "device": device, "lanes": lanes[0]},
                **{"until": end - _SAMPLE, "curve": out / "curve.csv"},
            },
            None,
        ),
        Stage(
            "sample",
            "A sample",
            recipe.sample,
            {
                **{"checkpoint": checkpoints / "checkpoint_best.pt", "device": device, "out": out / "sample.txt"},
                "length": 400 if paper else 40,
            },
            _SAMPLE,
        ),
    ]


class Report:
    """The result so far, written to `out` whenever it grows."""

    def __init__(self, out: Path, command: str):
        self.out = out
        self.result: Dict[str, Any] = {"command": command, "finished": False, "stages": {}}

    def stage(self, stage: Stage) -> Dict[str, Any]:
        """The entry of a stage; stages of one name share it."""
        return self.result["stages"].setdefault(stage.name, {"title": stage.title, "rows": [], "failed": []})

    def write(self) -> None:
        write_json(self.out / "report.json", self.result)
        write_text(self.out / "report.md", as_markdown(self.result))


def accept(all_stages: List[Stage], report: Report, end: float) -> bool:
    """Run stages one after the other, until the clock (`time.time`) is at `end`. Returns whether none has failed."""
    training = _TRAINING_SHARE * (end - time.time())
    for stage in all_stages:
        entry = report.stage(stage)
        left = end - time.time() - (0.0 if stage.name == "sample" else _SAMPLE)
        left -= training if stage.name in _MAY_BE_CUT else 0.0
        allowed = left if stage.seconds is None else min(stage.seconds, left)
        try:
            if allowed < (_LEAST if stage.seconds is not None else _LEAST_TRAINING):
                raise RuntimeError("not begun: no time was left")
            for row in run(stage, report.out / "log.txt", allowed):
                entry["rows"].append(row)
                report.write()
        except RuntimeError as error:
            entry["failed"].append(str(error))
        print(f"{stage.title}: {entry['failed'][-1] if entry['failed'] else 'done'}", flush=True)
        report.write()
    entries = report.result["stages"].values()
    return not any(entry["failed"] or any(row.get("result") == "FAILS" for row in entry["rows"]) for entry in entries)


def device_found(log: Path) -> str:
    """cuda where there is one, else cpu; asked in another process, because asking may start CUDA."""

    def found() -> Iterator[Row]:
        import torch

        yield {"device": "cuda" if torch.cuda.is_available() else "cpu"}

    return next(run(Stage("device", "Device", found, {}, 60), log, 60))["device"]


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path, help="folder for the report, new or empty")
    parser.add_argument("--minutes", type=float, default=8.0, help="all of it takes no longer")
    parser.add_argument("--device", help="cuda where there is one, else cpu")
    parser.add_argument("--size", choices=["paper", "toy"], help="paper on a GPU, toy on a CPU")
    parser.add_argument("--text", help="train on this file (default: this Python's standard library)")
    args = parser.parse_args(arguments)
    begin = time.time()
    if args.minutes <= 0:
        parser.error(f"--minutes must be above 0, but it is {args.minutes:g}")
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        parser.error(f"--out {args.out} is not an empty folder: name a new one")
    if args.text is not None and not Path(args.text).is_file():
        parser.error(f"--text {args.text} is not a file")
    args.out.mkdir(parents=True, exist_ok=True)
    ask_without_starting_cuda()
    device = args.device or device_found(args.out / "log.txt")
    size = args.size or ("paper" if device.startswith("cuda") else "toy")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    typed = "python -m benchmarks.gpu_acceptance " + " ".join(arguments if arguments is not None else sys.argv[1:])
    report = Report(args.out, typed)
    end = begin + 60 * args.minutes - 2  # the last stage's process must still end
    with tempfile.TemporaryDirectory(prefix="gpu-acceptance-") as work:
        passed = accept(stages(size, device, args.text, Path(work), args.out.resolve(), end), report, end)
    report.result["finished"] = True
    report.write()
    print(f"{args.out / 'report.md'} written")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
