"""REPORT.md: what was compared, how, and what came out, from the data of results.json alone."""

from typing import Any, Dict, List, Sequence

from experiments.comparison.verdict import half_section, headline
from experiments.harness.markdown import number, table

PLOTS = {
    "valid-minutes": "Validation against training time, mean over seeds",
    "valid-bytes": "Validation against bytes read, mean over seeds",
    "long-valid-minutes": "The longer runs: validation against training time",
    "long-valid-bytes": "The longer runs: validation against bytes read",
    "quality-eval-speed": "Quality against evaluation speed",
    "quality-generation-speed": "Quality against generation speed",
    "trust-ratios": "Trust ratios of every tensor over training (the published floor is 0.25)",
    "context-length": "One trained model, evaluated with other context lengths",
}


def quality_rows(summaries: Sequence[Dict]) -> List[List[str]]:
    rows = []
    for item in summaries:
        main = item["test"].get("streaming") or item["test"].get("blocks")
        window = item["test"].get("window")
        shown = "–" if window is None else f"{number(window, 4)} (w {item['context']})"
        name = item["title"] + (f" **failed: {'; '.join(item['failed'])}**" if item["failed"] else "")
        rows.append(
            [
                *(name, f"{item['parameters']:,}", number(item["valid_bpb"], 4), number(main, 4), shown),
                *(number(item["bytes"], 2, 1e-6), number(item["updates"]), number(item["train_minutes"], 2)),
            ]
        )
    return rows


def speed_rows(summaries: Sequence[Dict]) -> List[List[str]]:
    rows = []
    for item in summaries:
        generation = [f"{item['generation'][key]:,.0f}" for key in item["generation"]] or ["–", "–"]
        rows.append(
            [
                *(item["title"], number(item["train_bytes_per_second"]), number(item["cores"], 2)),
                number(item["peak_memory"], 0, 2**-20),
                number(item["gpu_peak_memory"], 0, 2**-20),
                *(number(item["eval_bytes_per_second"]), number(item["eval_seconds"], 1)),
                *(number(item["window_seconds"], 1), *generation),
            ]
        )
    return rows


def trial_rows(results: Dict) -> List[List[str]]:
    titles = {item["name"]: item["title"] for item in results["summaries"]}
    return [
        [
            *(titles[trial["contestant"]], trial["options"]),
            f"failed: {trial['reason']}" if trial["status"] == "failed" else f"{trial['valid_bpb']:.4f}",
            *(f"{trial['updates']:,}", _choice(trial)),
        ]
        for trial in results["trials"]
        if trial["status"] != "running"
    ]


def _choice(trial: Dict) -> str:
    if not trial["chosen"]:
        return ""
    return "**chosen** (an end of its range of rates: another may be better)" if trial["edge"] else "**chosen**"


def long_rows(results: Dict) -> List[List[str]]:
    titles = {item["name"]: item["title"] for item in results["summaries"]}
    rows = []
    for run in results["long"]:
        tests = ", ".join(f"{part['mode']} {part['bpb']:.4f}" for part in run["evaluations"] if not part["reason"])
        outcome = f"failed: {run['reason']}" if run["status"] == "failed" else (tests or "–")
        valid = "–" if run["valid_bpb"] is None else f"{run['valid_bpb']:.4f}"
        millions, minutes = f"{run['bytes'] / 1e6:.2f}", f"{run['train_seconds'] / 60:.1f}"
        rows.append([titles[run["contestant"]], run["budget"], valid, outcome, millions, minutes])
    return rows


def render(results: Dict[str, Any], plots: Sequence[str]) -> str:
    """The report as Markdown. plots: names of those that were drawn."""
    summaries, data = results["summaries"], results["data"]
    bytes_of = ", ".join(f"{split} {values['bytes']:,}" for split, values in data.items())
    lines = [
        f"# {results['title']}",
        "",
        *results["complete"],
        *headline(summaries, results["budget"], results["device"], results["long"]),
    ]
    lines += ["    " + results["command"], ""]
    lines += [f"Data, bytes: {bytes_of} (sha256 of train {data['train']['sha256'][:16]}...).", ""]
    lines += ["## Quality at an equal budget", "", results["budget_line"], ""]
    header = [
        "",
        "parameters",
        "valid",
        "test",
        "test, overlapping windows",
        "million bytes read",
        "updates",
        "minutes",
    ]
    lines += table(header, quality_rows(summaries))
    lines += ["Bits per byte; mean ± standard deviation over seeds. " + results["evaluation_line"], ""]
    for name in ("valid-minutes", "valid-bytes"):
        lines += _plot(name, plots)
    lines += half_section(summaries)
    if results["long"]:
        lines += ["## One longer run of the best of each kind", ""]
        header = ["", "budget", "valid", "test", "million bytes read", "minutes"]
        lines += table(header, long_rows(results))
        lines += [
            f"Learning rates, shares of warm-up and schedules are those of the short trials ({results['trial']}), not tuned "
            "for this length.",
            "",
        ]
        lines += [*_plot("long-valid-minutes", plots), *_plot("long-valid-bytes", plots)]
    lines += ["## Speed and memory", ""]
    prompts = [f"generation after {prompt:,} bytes, bytes/s" for prompt in results["prompts"]]
    header = [
        "",
        "training, bytes/s",
        "CPU/wall",
        "peak memory in training, MiB",
        "of the GPU (logged updates), MiB",
        "evaluation, bytes/s",
        "evaluation, s",
    ]
    lines += table([*header, "with windows, s", *prompts], speed_rows(summaries))
    lines += [results["speed_line"], ""]
    for name in ("quality-eval-speed", "quality-generation-speed"):
        lines += _plot(name, plots)
    if results.get("context"):
        lines += context_section(results["context"], results["idle_memory"], plots)
    if results.get("trust"):
        lines += ["## Trust ratios", "", *_plot("trust-ratios", plots)]
    lines += ["## Tuning", "", results["tuning_line"], ""]
    lines += table(["", "trial", "valid, bits per byte", "updates", ""], trial_rows(results))
    lines += ["## Fairness, and what is missing", ""] + [f"- {line}" for line in results["notes"]] + [""]
    lines += ["## Machine", ""] + [f"- {key}: {value}" for key, value in results["machine"].items()]
    lines += [f"- trained at: {trained_at(results)}", ""]
    return "\n".join([*lines, *commands(results)])


def trained_at(results: Dict) -> str:
    """The commits and machines of all trainings: a comparison may go on under another than it began with."""
    made_by = [made for run in (*results["trials"], *results["runs"], *results["long"]) for made in run["made_by"]]
    found = dict.fromkeys(f"commit {made['commit']} (machine {made['host']})" for made in made_by)
    return ", ".join(found) or "–"


def context_section(context: Dict, idle: int, plots: Sequence[str]) -> List[str]:
    rows = []
    for item in context["lengths"]:
        if item["reason"] is not None:
            rows.append([f"{item['context']:,}", f"failed: {item['reason']}", "", "", "", ""])
            continue
        memory = f"{item['peak_memory'] / 2**20:,.0f}"
        speed, seconds = f"{item['bytes_per_second']:,.0f}", f"{item['seconds']:,.1f}"
        rows.append([f"{item['context']:,}", f"{item['bpb']:.4f}", seconds, speed, memory, item["chunk"]])
    lines = ["## Context length, without retraining", ""]
    lines += [
        f"{context['title']}, trained with a context of {context['trained_with']:,}; one lane, whose first bytes have less "
        f"before them than the context would hold. Of the memory, Python with fairseq holds {idle / 2**20:,.0f} MiB.",
        "",
    ]
    header = ["context length", "test, bits per byte", "seconds", "bytes/s", "peak memory, MiB", "chunk"]
    return [*lines, *table(header, rows), *_plot("context-length", plots)]


def commands(results: Dict) -> List[str]:
    """The exact commands of the first seed; results.json holds those of all runs."""
    lines = ["## Commands", "", "Of the first slice and the evaluations of each first run; `results.json` has all.", ""]
    seen = set()
    for run in [*results["runs"], *results["long"]]:
        key = (run["kind"], run["contestant"])
        if key in seen or not run["commands"]:
            continue
        seen.add(key)
        lines += [f"    {command}" for command in [run["commands"][0], *(e["command"] for e in run["evaluations"])]]
        lines += [""]
    return lines


def _plot(name: str, plots: Sequence[str]) -> List[str]:
    if name not in plots:
        return []
    return [f"![{PLOTS[name]}](plots/{name}.png)", "", f"*{PLOTS[name]}* ([SVG](plots/{name}.svg))", ""]
