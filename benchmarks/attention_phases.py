#!/usr/bin/env python3
"""Where the time of the CPU kernel of attention goes, phase by phase, compared with a plain product of the same shapes.

    python -m benchmarks.attention_phases           # D 128 and 256, 1,024 and 5,000 rows, one and two threads

Prints tables, and with --out also writes them. The kernel counts the seconds of its phases by itself
(ops/csrc/phases.h). All rates are those of one core: work divided by the seconds of all threads.
"""

import argparse
import math
import sys
import time
from dataclasses import dataclass
from statistics import median
from typing import Any, Callable, Dict, List, Optional

import torch

from benchmarks.page import show
from experiments.harness.markdown import table
from fairseq_sharnn.ops import kernels

PHASES = ("packing", "products", "masks", "softmax", "exponentials", "rest")  # as in phases.h
WAITING = "waiting"
SEED = 1
HELP = """\
- packing: rows are copied to where products read them in sequence.
- masks: dropout masks of weights and of values are drawn, and values are multiplied by theirs.
- softmax: the running maximum. exponentials: weights, their sum, and in the backward pass the gradients of scores.
- rest: queries are copied, results are written. waiting: threads that have no lane left, or the other core's turn.
- Operations are those that the kernel computes; bytes are read and written once a pass, from any cache."""


@dataclass(frozen=True)
class Shape:
    """Attention of `length` queries over `rows` rows, the last `length` of them the chunk's own, in every lane."""

    width: int
    rows: int
    lanes: int
    length: int

    def product(self) -> float:
        """Operations of one product of all queries with all rows."""
        return 2.0 * self.lanes * self.length * self.rows * self.width

    def operations(self, direction: str) -> float:
        """Operations that the kernel computes: the backward pass needs weights again, and two products of the chunk."""
        if direction == "forward":
            return 2 * self.product()
        return 3 * self.product() + 4.0 * self.lanes * self.length**2 * self.width

    def bytes(self, direction: str) -> Dict[str, float]:
        """Bytes that the phases without products read and write."""
        scores = 4.0 * self.lanes * self.length * self.rows
        values, chunk = 4.0 * self.lanes * self.rows * self.width, 4.0 * self.lanes * self.length * self.width
        if direction == "forward":
            return {"packing": 4 * values, "masks": scores + 2 * values, "softmax": scores, "exponentials": 3 * scores}
        turned = 4 * chunk + 16.0 * self.lanes * self.length**2
        return {"packing": 6 * values + turned, "masks": scores + 2 * values + 2 * chunk, "exponentials": 5 * scores}


def work(shape: Shape, rate: float) -> Dict[str, Callable[[], Any]]:
    """Attention forward and backward, with and without the clock, and plain products of the same shapes."""
    lanes, length, width = shape.lanes, shape.length, shape.width
    query = torch.randn(length, lanes, width) / math.sqrt(width)
    segments = [torch.randn(lanes, shape.rows - length, width), torch.randn(lanes, length, width)]
    grad, ops = torch.randn(length, lanes, width), kernels.ops
    forward = (query, segments, 1, rate, SEED)
    backward = (grad, query, segments, *ops.attend(*forward), 1, rate, SEED)
    rows, queries = torch.randn(lanes, shape.rows, width), torch.randn(lanes, length, width)
    scores, mixed = torch.empty(length, shape.rows), torch.empty(length, width)

    def products() -> None:
        for lane in range(lanes):
            torch.mm(queries[lane], rows[lane].t(), out=scores)
            torch.mm(scores, rows[lane], out=mixed)

    return {
        "forward": lambda: ops.attend(*forward),
        "forward by phases": lambda: ops.attend_phases(*forward),
        "backward": lambda: ops.attend_backward(*backward),
        "backward by phases": lambda: ops.attend_backward_phases(*backward),
        "plain products": products,
    }


def measure(shape: Shape, rate: float, threads: int, repeats: int) -> Dict[str, Dict[str, float]]:
    """Median seconds in turns: `wall` of each work, and of those with the clock each phase, added up over threads."""
    torch.set_num_threads(threads)
    calls = work(shape, rate)
    taken: Dict[str, List[Dict[str, float]]] = {name: [] for name in calls}
    for round_number in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            result = call()
            wall = time.perf_counter() - start
            if round_number > 0:
                by_phase = result.sum(0).tolist() if name.endswith("phases") else []
                waiting = {WAITING: max(0.0, threads * wall - sum(by_phase))} if by_phase else {}
                taken[name].append({"wall": wall, **dict(zip(PHASES, by_phase)), **waiting})
    return {name: {key: median(turn[key] for turn in turns) for key in turns[0]} for name, turns in taken.items()}


def phase_table(shape: Shape, threads: int, seconds: Dict[str, Dict[str, float]]) -> List[str]:
    """A row for each phase, and one for all of attention."""
    plain = 2 * shape.product() / (threads * seconds["plain products"]["wall"])
    rows = [[phase] for phase in (*PHASES, WAITING, "attention, without the clock")]
    for direction in ("forward", "backward"):
        taken, needed, moved = seconds[f"{direction} by phases"], shape.operations(direction), shape.bytes(direction)
        together = sum(taken[phase] for phase in (*PHASES, WAITING))
        for row, phase in zip(rows, (*PHASES, WAITING)):
            row += [f"{taken[phase] / together:.1%}", f"{taken[phase] * 1e3:.1f} ms"]
            if phase == "products":
                row += _product_rate(needed / taken[phase], plain)
            else:
                known = phase in moved and taken[phase] > 0
                row += [f"{moved[phase] / taken[phase] / 1e9:.0f} GB/s" if known else "", ""]
        wall = threads * seconds[direction]["wall"]
        rows[-1] += ["", f"{wall * 1e3:.1f} ms", *_product_rate(needed / wall, plain)]
    cells = ["share", "time", "rate", "of plain"]
    header = ["phase", *(f"{direction}: {cell}" for direction in ("forward", "backward") for cell in cells)]
    cost = max(seconds[f"{name} by phases"]["wall"] / seconds[name]["wall"] - 1 for name in ("forward", "backward"))
    return [
        f"## D {shape.width}, {shape.rows:,} rows, threads: {threads}",
        "",
        f"A plain product (torch.mm, the same shapes): {plain / 1e9:.0f} GFLOP/s a core. The clock costs {cost:.1%}.",
        "",
        *table(header, rows),
    ]


def _product_rate(rate: float, plain: float) -> List[str]:
    return [f"{rate / 1e9:.0f} GFLOP/s", f"{rate / plain:.0%}"]


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", default="128,256", help="model widths D")
    parser.add_argument("--rows", default="1024,5000", help="rows of memory and chunk together")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--lanes", type=int, default=16)
    parser.add_argument("--length", type=int, default=256, help="queries of a lane, T")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", help="also write the report to this file")
    args = parser.parse_args(arguments)
    widths, counts, threads = ([int(n) for n in text.split(",")] for text in (args.widths, args.rows, args.threads))
    if kernels.ops is None:
        parser.error("the CPU kernels are not compiled here: install the package where there is a C++ compiler")
    if min(counts) <= args.length:
        parser.error(f"--rows {args.rows}: must be above --length {args.length}")
    torch.manual_seed(SEED)
    lines = [
        f"B {args.lanes}, T {args.length}, dropout {args.dropout}; medians of {args.repeats} turns. Times are added up over "
        "threads, rates are those of one core.",
        "",
        HELP,
        "",
    ]
    for count in threads:
        for width in widths:
            for rows in counts:
                shape = Shape(width, rows, args.lanes, args.length)
                lines += phase_table(shape, count, measure(shape, args.dropout, count, args.repeats))
    show("Attention by phases", "attention_phases", arguments, max(threads), lines, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
