#!/usr/bin/env python3
"""Speed and peak memory of training, evaluation and generation, compared with reference.py and fairseq's transformer_lm.

    python -m benchmarks.speed                      # tiny and small on CPU; with a GPU, the paper's size too
    python -m benchmarks.speed --sizes small --repeats 7 --out benchmarks/reports/my-machine
    python -m benchmarks.speed --tables generation  # on CPU: by width, threads, streams and kind of weights
    ATEN_CPU_CAPABILITY=avx2 python -m benchmarks.speed  # on a machine with AVX-512: the kernels for AVX2

Each model runs in a process of its own, and they take turns (A B C A B C ...); on a GPU, whose memory may not hold all of
them, one comes after the other. Figures are medians. Writes OUT.json and OUT.md, with hardware, versions, the comparison of
losses (loss_compare.py) and this command. It says at the start how long it may take.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Dict, List, Optional

import torch
from tqdm import tqdm

from benchmarks import loss_compare, machine
from benchmarks.generation import groups, measured_groups
from benchmarks.models import CASES, NAMES, PRECISIONS, Case
from benchmarks.pieces import breakdown
from benchmarks.report import speed_report
from benchmarks.turns import Contestant, TimeLimit, measure
from experiments.harness.folder import write_text

WORKLOADS = ("training", "evaluation", "generation")
TABLES = ("sizes", "generation")


def measured_pieces(case: Case, repeats: int) -> Optional[Dict]:
    """The breakdown; None where the pieces do not fit into memory together."""
    try:
        return breakdown(case, repeats)
    except torch.cuda.OutOfMemoryError:
        return None
    finally:
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # the next case's workers are other processes


def cases(names: List[str], device: str, precisions: List[str], lanes: List[int]) -> Dict[str, Case]:
    """Every size in every precision; the size of the paper also with more lanes, and on a GPU with jittered chunks."""
    chosen = {}
    for name in names:
        for precision in precisions:
            for count in lanes if name == "paper" else [CASES[name].lanes]:
                case = replace(CASES[name], device=device, precision=precision, lanes=count)
                chosen[f"{name}, {precision}, B {count}"] = case
                if name == "paper" and device.startswith("cuda"):
                    chosen[f"{name}, {precision}, B {count}, jittered chunks"] = replace(case, jittered=True)
    return chosen


def measured_cases(
    chosen: Dict[str, Case], workloads: List[str], repeats: int, threads: int, limit: TimeLimit, progress: tqdm
) -> Dict[str, Dict]:
    """The result of each case, for JSON."""
    results = {}
    for label, case in chosen.items():
        contestants, measured = {name: Contestant(name, case) for name in NAMES}, {}
        for workload in workloads:
            progress.set_description(f"{label}: {workload}")
            measured[workload] = measure(contestants, workload, repeats, threads, limit.next_part(), progress.update)
        progress.set_description(f"{label}: pieces")
        failed = "failed" in measured.get("training", {}).get("fairseq_sharnn", {"failed": ""})
        parts = None if failed else measured_pieces(case, repeats)
        limit.next_part()
        results[label] = {"case": vars(case), "workloads": measured, "breakdown": parts}
        progress.update()
    return results


def parse(arguments: Optional[List[str]]) -> argparse.Namespace:
    """The options, checked; lists as lists."""
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if cuda else "cpu")
    parser.add_argument("--tables", default="sizes" if cuda else ",".join(TABLES), help="of " + ", ".join(TABLES))
    parser.add_argument("--sizes", default="tiny,small,paper" if cuda else "tiny,small", help="of " + ", ".join(CASES))
    parser.add_argument("--precisions", default="fp32,fp16,bf16" if cuda else "fp32", help="of fp32, fp16, bf16")
    parser.add_argument("--lanes", default="16,64,128", help="numbers of lanes at the size of the paper")
    parser.add_argument("--workloads", default=",".join(WORKLOADS), help="of the sizes: of " + ", ".join(WORKLOADS))
    parser.add_argument("--repeats", type=int, default=7, help="turns of each model, at least 5")
    parser.add_argument(
        "--minutes", type=float, default=60 if cuda else 10, help="a model has fewer turns if all would take longer"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--compare-updates", type=int, default=100, help="updates of loss_compare.py (0: do not compare)"
    )
    parser.add_argument("--out", help="path of the report, without .md (default: benchmarks/reports/DEVICE-DATE)")
    args = parser.parse_args(arguments)
    for name, allowed in (("tables", TABLES), ("sizes", CASES), ("precisions", PRECISIONS), ("workloads", WORKLOADS)):
        given = getattr(args, name).split(",")
        wrong = next((value for value in given if value not in allowed), None)
        if wrong is not None:
            parser.error(f"--{name} {wrong} is not one of {', '.join(allowed)}")
        setattr(args, name, given)
    if args.repeats < 5:
        parser.error(f"--repeats must be at least 5, but it is {args.repeats}")
    if not args.minutes > 0:
        parser.error(f"--minutes must be above 0, but it is {args.minutes}")
    if "generation" in args.tables and args.device != "cpu":
        parser.error("--tables generation is for --device cpu: leave it out, or name --device cpu")
    return args


def main(arguments: Optional[List[str]] = None) -> int:
    args = parse(arguments)
    torch.set_num_threads(args.threads)
    machine.allow_tf32()
    lanes = [int(count) for count in args.lanes.split(",")]
    chosen = cases(args.sizes, args.device, args.precisions, lanes) if "sizes" in args.tables else {}
    generated = groups(args.threads) if "generation" in args.tables else []
    result: Dict = {
        "command": "python -m benchmarks.speed " + " ".join(arguments if arguments is not None else sys.argv[1:]),
        "machine": machine.describe(args.device, args.threads),
    }
    place = (result["machine"]["gpu"] or "cpu").lower().replace(" ", "-")
    out = Path(args.out or f"benchmarks/reports/{place}-{result['machine']['date']}")
    parts = len(chosen) * (len(args.workloads) + 1) + len(generated) + (args.compare_updates > 0)
    print(f"{parts} measurements: about {args.minutes:g} minutes at most; --minutes changes it", flush=True)
    limit = TimeLimit(args.minutes, parts)
    turns = len(chosen) * (len(args.workloads) * args.repeats + 1) + len(generated) * args.repeats
    with tqdm(total=turns, unit="turn", smoothing=0) as progress:
        if args.compare_updates > 0:  # first: it takes as long as it takes
            progress.set_description("losses")
            result["losses"] = loss_compare.compare(args.compare_updates, args.device)
            limit.next_part()
        result["cases"] = measured_cases(chosen, args.workloads, args.repeats, args.threads, limit, progress)
        if generated:
            progress.set_description("generation")
            result["generation"] = measured_groups(generated, args.repeats, limit, progress.update)
    write_text(out.with_name(out.name + ".json"), json.dumps(result, indent=1))
    write_text(out.with_name(out.name + ".md"), speed_report(result))
    print(f"{out}.md and {out}.json written")
    return 0 if all(row["same"] for row in result.get("losses", [])) else 1


if __name__ == "__main__":
    sys.exit(main())
