#!/usr/bin/env python3
"""What one training update allocates at its peak, of this package, the reference and fairseq's transformer_lm (CPU).

    python -m benchmarks.allocations                # D 256, H 1024, 16 lanes of 256 bytes, as speed.py's `small`

Peak resident memory, which speed.py reports, holds torch, fairseq and what malloc keeps for later as well, and differs from
run to run. What torch allocates hardly does.
"""

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.models import CASES, MeasuredModel, build
from benchmarks.page import show
from experiments.harness.markdown import table

MODELS = ("fairseq_sharnn", "plain", "transformer_lm")
SEED = 1
SMALLEST = 100_000  # bytes of an operator that has a row
BACKWARD = "autograd::engine::evaluate_function: "  # how the profiler begins the name of an operator's backward pass


class Peak(NamedTuple):
    """The most bytes that an update holds above what was there at its start, and the operators that allocated them."""

    bytes: int
    by_operator: Dict[str, int]  # bytes


def trace(model: MeasuredModel) -> List[Dict[str, Any]]:
    """The events of one training update, after one to warm up: operators, allocations and releases."""
    model.prepare("training")
    model.training()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        model.training()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(path))
        return json.loads(path.read_text(encoding="utf-8"))["traceEvents"]


def peak(events: List[Dict[str, Any]]) -> Peak:
    """The peak of a trace. An allocation belongs to the outermost operator in which it happened."""
    memory = sorted((event for event in events if event.get("name") == "[memory]"), key=lambda event: event["ts"])
    held, most, when = 0, 0, -1
    for number, event in enumerate(memory):
        held += event["args"]["Bytes"]
        if held > most:
            most, when = held, number
    live: Dict[int, Dict[str, Any]] = {}
    for event in memory[: when + 1]:
        if event["args"]["Bytes"] > 0:
            live[event["args"]["Addr"]] = event
        else:
            live.pop(event["args"]["Addr"], None)
    operators = [event for event in events if event.get("cat") == "cpu_op"]
    sizes: Dict[str, int] = defaultdict(int)
    for event in live.values():
        around = [item for item in operators if item["ts"] <= event["ts"] <= item["ts"] + item["dur"]]
        name = min(around, key=lambda item: item["ts"])["name"] if around else "outside of operators"
        sizes[name.replace(BACKWARD, "")] += event["args"]["Bytes"]
    return Peak(most, dict(sizes))


def report(peaks: Dict[str, Peak]) -> List[str]:
    """A row for each model, and what this package's peak consists of."""
    plain = peaks["plain"].bytes
    rows = [
        [f"`{name}`", f"{found.bytes / 1e6:,.1f} MB", f"{found.bytes / plain:.3f}"] for name, found in peaks.items()
    ]
    body = table(["", "at the peak, above the update's start", "of the reference"], rows)
    parts = sorted(peaks[MODELS[0]].by_operator.items(), key=lambda part: -part[1])
    rows = [[f"`{name}`", f"{size / 1e6:.1f} MB"] for name, size in parts if size >= SMALLEST]
    return [*body, "Of this package, by the operator that allocated it:", "", *table(["operator", "size"], rows)]


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="small", choices=sorted(CASES), help="model size")
    parser.add_argument("--out", help="also write the report to this file")
    args = parser.parse_args(arguments)
    torch.manual_seed(SEED)
    peaks = {name: peak(trace(build(name, CASES[args.size]))) for name in MODELS}
    show("What an update allocates", "allocations", arguments, torch.get_num_threads(), report(peaks), args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
