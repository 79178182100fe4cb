#!/usr/bin/env python3
"""Speed and peak memory of training, evaluation and generation, compared with reference.py and fairseq's transformer_lm.

    python -m benchmarks.speed                      # tiny and small on CPU; with a GPU, the paper's size too
    python -m benchmarks.speed --sizes small --repeats 7 --out benchmarks/reports/my-machine

Each model runs in a process of its own, and they take turns (A B C A B C ...). Figures are medians. Writes OUT.json and
OUT.md, with hardware, versions, the comparison of losses (loss_compare.py) and this command.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Dict, List, Optional

import torch
from tqdm import tqdm

from benchmarks import loss_compare, machine
from benchmarks.models import CASES, NAMES, PRECISIONS, Case
from benchmarks.pieces import breakdown
from benchmarks.report import speed_report
from benchmarks.worker import Worker, WorkerFailed
from experiments.harness.folder import write_text

WORKLOADS = ("training", "evaluation", "generation")


def measure(case: Case, workload: str, repeats: int, threads: int, progress: tqdm) -> Dict[str, Dict]:
    """All models at one workload, taking turns. A model that fails, such as for lack of memory, has a row that says so."""
    results: Dict[str, Dict] = {}
    workers: Dict[str, Worker] = {}
    for name in NAMES:
        try:
            workers[name] = Worker(name, case, workload, threads)
            results[name] = {**workers[name].ready, "seconds": [], "rates": []}
        except WorkerFailed as error:
            results[name] = {"failed": str(error)}
    for _ in range(repeats):
        for name, worker in list(workers.items()):
            try:
                done = worker.work()
            except WorkerFailed as error:
                results[name] = {"failed": str(error)}
                del workers[name]
                continue
            results[name]["seconds"].append(done["seconds"])
            results[name]["rates"].append(done["bytes"] / done["seconds"])
            results[name].update(bytes=done["bytes"], peak_bytes=done["peak_bytes"])
        progress.update()
    for worker in workers.values():
        worker.close()
    for result in results.values():
        if "seconds" in result:
            result["median_seconds"] = median(result["seconds"])
            result["bytes_per_s"] = median(result.pop("rates"))  # jittered chunks differ in bytes
    return results


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


def main(arguments: Optional[List[str]] = None) -> int:
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if cuda else "cpu")
    parser.add_argument("--sizes", default="tiny,small,paper" if cuda else "tiny,small", help="of " + ", ".join(CASES))
    parser.add_argument("--precisions", default="fp32,fp16,bf16" if cuda else "fp32", help="of fp32, fp16, bf16")
    parser.add_argument("--lanes", default="16,64,128", help="numbers of lanes at the size of the paper")
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    parser.add_argument("--repeats", type=int, default=7, help="turns of each model, at least 5")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--compare-updates", type=int, default=100, help="updates of loss_compare.py (0: do not compare)"
    )
    parser.add_argument("--out", help="path of the report, without .md (default: benchmarks/reports/DEVICE-DATE)")
    args = parser.parse_args(arguments)
    sizes, precisions, workloads = (text.split(",") for text in (args.sizes, args.precisions, args.workloads))
    for given, allowed, option in (
        (sizes, CASES, "--sizes"),
        (precisions, PRECISIONS, "--precisions"),
        (workloads, WORKLOADS, "--workloads"),
    ):
        wrong = next((value for value in given if value not in allowed), None)
        if wrong is not None:
            parser.error(f"{option} {wrong} is not one of {', '.join(allowed)}")
    if args.repeats < 5:
        parser.error(f"--repeats must be at least 5, but it is {args.repeats}")

    torch.set_num_threads(args.threads)
    machine.allow_tf32()
    chosen = cases(sizes, args.device, precisions, [int(count) for count in args.lanes.split(",")])
    result: Dict = {
        "command": "python -m benchmarks.speed " + " ".join(arguments if arguments is not None else sys.argv[1:]),
        "machine": machine.describe(args.device, args.threads),
        "cases": {},
    }
    place = (result["machine"]["gpu"] or "cpu").lower().replace(" ", "-")
    out = Path(args.out or f"benchmarks/reports/{place}-{result['machine']['date']}")
    with tqdm(total=len(chosen) * (len(workloads) * args.repeats + 1), unit="turn", smoothing=0) as progress:
        for label, case in chosen.items():
            measured = {}
            for workload in workloads:
                progress.set_description(f"{label}: {workload}")
                measured[workload] = measure(case, workload, args.repeats, args.threads, progress)
            progress.set_description(f"{label}: pieces")
            failed = "failed" in measured.get("training", {}).get("fairseq_sharnn", {"failed": ""})
            parts = None if failed else measured_pieces(case, args.repeats)
            result["cases"][label] = {"case": vars(case), "workloads": measured, "breakdown": parts}
            progress.update()
    if args.compare_updates > 0:
        result["losses"] = loss_compare.compare(args.compare_updates, args.device)
    write_text(out.with_name(out.name + ".json"), json.dumps(result, indent=1))
    write_text(out.with_name(out.name + ".md"), speed_report(result))
    print(f"{out}.md and {out}.json written")
    return 0 if all(row["same"] for row in result.get("losses", [])) else 1


if __name__ == "__main__":
    sys.exit(main())
