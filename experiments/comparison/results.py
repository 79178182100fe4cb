"""What a comparison found, as plain data: results.json, results.csv, and the numbers behind the report's tables."""

import csv
import io
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Dict, List, Optional, Sequence

from experiments.comparison.evaluation import HALF
from experiments.comparison.experiment import Experiment
from experiments.comparison.training_run import Run
from experiments.harness.folder import read_json, write_json, write_text


def modes(family: str, context: Optional[int]) -> List[str]:
    """How a contestant's runs are evaluated on the test split; the last is the one that counts, whatever it says.

    context: of the windows that fit SHA-RNN's time, for stateless models; None or 0 where none does.
    """
    if family == "sha_rnn":
        return ["streaming"]
    return ["blocks", f"window-{context}"] if context else ["blocks"]


def run_result(run: Run, context: Optional[int]) -> Dict[str, Any]:
    """A run's record with what was measured on its checkpoint: its test in the mode that counts, and in all."""
    wanted = modes(run.job.contestant.family, context)
    *known, half = [read_json(run.folder / f"evaluation-{mode}.json") for mode in (*wanted, HALF)]
    record = dict(run.record)
    record["folder"] = f"{run.folder.parent.name}/{run.folder.name}"
    record["bytes_per_second"] = record["bytes"] / record["train_seconds"] if record["train_seconds"] else None
    record["cores"] = record["cpu_seconds"] / record["wall_seconds"] if record["wall_seconds"] else None
    record["valid_bpb"] = run.best_valid_bpb
    record["evaluations"] = [item for item in (*known, half) if item is not None]
    record["generation"] = read_json(run.folder / "generation.json")
    record["test_bpb"] = known[-1].get("bpb") if known[-1] else None
    return record


def spread(values: Sequence[Optional[float]]) -> Optional[Dict[str, float]]:
    """Mean and sample standard deviation (0 for one value) of those that exist; None for none."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {"mean": mean(known), "deviation": stdev(known) if len(known) > 1 else 0.0, "count": len(known)}


def summarise(name: str, title: str, family: str, results: List[Dict], context: Optional[int]) -> Dict[str, Any]:
    """A contestant's figures over its seeds. context: of the windows that fit SHA-RNN's time, for stateless models."""
    good = [result for result in results if result["status"] == "finished"]

    def evaluated(mode: str, value: str) -> Optional[Dict[str, float]]:
        found = [item for result in good for item in result["evaluations"] if item["mode"] == mode]
        return spread([item.get(value) for item in found])

    main, *windows = modes(family, context)
    window = windows[0] if windows else None
    generation = next((result["generation"] for result in good if result["generation"]), None) or {}
    tests = {main: evaluated(main, "bpb"), "window": None if window is None else evaluated(window, "bpb")}
    return {
        "name": name,
        "title": title,
        "family": family,
        "parameters": results[0]["parameters"] if results else None,
        "seeds": len(good),
        "failed": [f"seed {item['seed']}: {item['reason']}" for item in results if item["status"] == "failed"]
        + [f"{part['mode']}: {part['reason']}" for item in good for part in item["evaluations"] if part["reason"]]
        + [f"generation: {generation['reason']}" for _ in [0] if generation.get("reason")],
        "bytes": spread([item["bytes"] for item in good]),
        "updates": spread([item["updates"] for item in good]),
        "train_minutes": spread([item["train_seconds"] / 60 for item in good]),
        "train_bytes_per_second": spread([item["bytes_per_second"] for item in good]),
        "cores": spread([item["cores"] for item in good]),
        "peak_memory": spread([item["peak_memory"] for item in good]),
        "gpu_peak_memory": spread([item.get("gpu_peak_memory") for item in good]),
        "valid_bpb": spread([item["valid_bpb"] for item in good]),
        "test": tests,
        "test_bpb": evaluated(window or main, "bpb"),
        "context": context,
        "eval_bytes_per_second": evaluated(main, "bytes_per_second"),
        "eval_seconds": evaluated(main, "seconds"),
        "window_bytes_per_second": None if window is None else evaluated(window, "bytes_per_second"),
        "window_seconds": None if window is None else evaluated(window, "seconds"),
        "half_bpb": evaluated(HALF, "bpb"),
        "half_bytes_per_second": evaluated(HALF, "bytes_per_second"),
        "half_seconds": evaluated(HALF, "seconds"),
        "generation": generation.get("bytes_per_second", {}),
    }


def collect(experiment: Experiment, about: Dict[str, Any]) -> Dict[str, Any]:
    """Everything, from the records of runs as they are now. about: what the caller knows (preset, machine, command ...)."""
    trials = []
    for contestant, trial, run in experiment.trials:
        chosen = experiment.tuned.get(contestant.name) is run
        rates = [other.lr for other in contestant.trials]
        edge = len(set(rates)) > 1 and trial.lr in (min(rates), max(rates))
        trials.append({**run_result(run, None), "options": str(trial), "chosen": chosen, "edge": chosen and edge})
    windows = {contestant.name: experiment.windows(contestant) for contestant in experiment.contestants}

    def measured(run: Run) -> Dict[str, Any]:
        return run_result(run, windows[run.job.contestant.name]["context"])

    runs = [measured(run) for run in experiment.runs]
    summaries = []
    for contestant in experiment.contestants:
        own = [item for item in runs if item["contestant"] == contestant.name]
        window = windows[contestant.name]
        summary = summarise(contestant.name, contestant.title, contestant.family, own, window["context"])
        summary["failed"] += [window["reason"]] if window["reason"] else []
        summaries.append(summary)
    return {
        **about,
        "summaries": summaries,
        "trials": trials,
        "runs": runs,
        "long": [measured(run) for run in experiment.long_runs],
        "windows": windows,
        "context": read_json(experiment.out / "context.json"),
    }


COLUMNS = (
    *("kind", "contestant", "seed", "status", "reason", "trial", "parameters", "updates", "bytes", "train_seconds"),
    *("bytes_per_second", "cores", "peak_memory", "valid_bpb", "test_bpb"),
)


def to_csv(results: Dict[str, Any]) -> str:
    """A row for each run, trials included; evaluations of the test split as columns of their own."""
    rows = [*results["trials"], *results["runs"], *results["long"]]
    evaluated = sorted({item["mode"] for row in rows for item in row["evaluations"]})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [*COLUMNS, *(f"test_{mode}" for mode in evaluated), *(f"test_{mode}_bytes_per_second" for mode in evaluated)]
    )
    for row in rows:
        found = {item["mode"]: item for item in row["evaluations"]}
        values = [found.get(mode, {}).get("bpb") for mode in evaluated]
        speeds = [found.get(mode, {}).get("bytes_per_second") for mode in evaluated]
        writer.writerow(["" if item is None else item for item in [*(row[key] for key in COLUMNS), *values, *speeds]])
    return text.getvalue()


def write(out: Path, results: Dict[str, Any]) -> None:
    write_json(out / "results.json", results)
    write_text(out / "results.csv", to_csv(results))
