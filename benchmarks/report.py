"""The report of speed.py, as Markdown."""

from typing import Dict, List, Sequence

from benchmarks import machine
from benchmarks.generation import generation_report
from experiments.harness.markdown import table


def speed_report(result: Dict) -> str:
    """The report of speed.py."""
    lines = [
        "# Speed",
        "",
        machine.line(result["machine"]),
        "",
        f"    {result['command']}",
        "",
        "Each model runs in a process of its own. They take turns (on a GPU one comes after the other), and figures are "
        "medians: bytes/s, and in brackets the ratio to `plain` (fairseq_sharnn/reference.py). A measurement that reaches "
        "its limit of time has fewer turns; the JSON has each turn's seconds. `plain` and this package train with LAMB. "
        "transformer_lm trains with torch's Adam; it sees only its chunk, not a long memory. Peak memory is that of the "
        "whole process on CPU, and the allocator's on a GPU. On a GPU every float32 product may use TF32. Jittered chunks "
        "vary in length as in the published recipe; the others all have T bytes.",
        "",
    ]
    for label, entry in result["cases"].items():
        case, workloads = entry["case"], entry["workloads"]
        lines += [
            f"## {label}: D {case['width']}, H {case['boom_width']}, L {case['layers']}, T {case['length']}, "
            f"C {case['context']}, dropout {case['dropout']}",
            "",
            *_throughput(workloads),
        ]
        if entry["breakdown"]:
            lines += [*_pieces(entry["breakdown"]), *_ceiling(entry["breakdown"], workloads.get("evaluation", {}))]
    if "generation" in result:
        lines += generation_report(result["generation"])
    if "losses" in result:
        same = all(row["same"] for row in result["losses"])
        title = "The numbers are the same" if same else "THE NUMBERS DIFFER: no figure above counts"
        lines += [f"## {title}", "", *_losses(result["losses"])]
    return "\n".join(lines)


def _throughput(workloads: Dict[str, Dict]) -> List[str]:
    names = list(next(iter(workloads.values())))
    rows = []
    for name in names:
        row = [f"`{name}`"]
        known = [workloads[workload][name] for workload in workloads if "parameters" in workloads[workload][name]]
        row.append(f"{known[0]['parameters'] / 1e6:.2f} M" if known else "")
        for workload in workloads.values():
            row.append(_rate(workload[name], workload["plain"]))
        training = workloads.get("training", {})
        row.append(_peak(training.get(name, {}), training.get("plain", {})))
        rows.append(row)
    return table(["", "parameters", *workloads, "peak memory in training"], rows)


def _rate(mine: Dict, plain: Dict) -> str:
    if "failed" in mine:
        return f"failed: {mine['failed'][:80]}"
    times = f" ({mine['bytes_per_s'] / plain['bytes_per_s']:.2f})" if "bytes_per_s" in plain else ""
    return f"{mine['bytes_per_s']:,.0f}{times}"


def _peak(mine: Dict, plain: Dict) -> str:
    if "peak_bytes" not in mine:
        return ""
    text = f"{mine['peak_bytes'] / 1e9:.2f} GB"
    if "peak_bytes" in plain:
        above = (mine["peak_bytes"] - mine["start_bytes"]) / (plain["peak_bytes"] - plain["start_bytes"])
        text += f" ({mine['peak_bytes'] / plain['peak_bytes']:.3f}; {above:.2f} above the start)"
    return text


def _pieces(breakdown: Dict) -> List[str]:
    product, copy = breakdown["product_ops_per_s"], breakdown["copy_bytes_per_s"]
    rows = []
    for name, piece in breakdown["pieces"].items():
        needed, moved = piece["operations"], piece["bytes"]
        rows.append(
            [
                name,
                f"{piece['seconds'] * 1e3:.1f} ms",
                f"{piece['seconds'] / breakdown['update_seconds']:.0%}",
                f"{needed / 1e9:.1f}" if needed else "",
                f"{needed / piece['seconds'] / product:.0%}" if needed else "",
                f"{moved / 1e9:.2f}" if moved else "",
                f"{moved / piece['seconds'] / copy:.0%}" if moved and piece["seconds"] > 0 else "",
            ]
        )
    return [
        f"One training update ({breakdown['update_seconds'] * 1e3:.0f} ms) and each of its pieces, in turns. In the same "
        f"turns a plain matrix product reached {product / 1e9:,.0f} GFLOP/s and a plain copy {copy / 1e9:.1f} GB/s, read "
        "and written. `rest` is the update minus the pieces.",
        "",
        *table(
            ["piece", "time", "share", "GFLOP needed", "of the product's rate", "GB to move", "of the copy's rate"],
            rows,
        ),
    ]


def _ceiling(breakdown: Dict, evaluation: Dict[str, Dict]) -> List[str]:
    """The speed of evaluation if all of its arithmetic ran at the rate of the plain product."""
    ours, plain = (evaluation.get(name, {}).get("bytes_per_s") for name in ("fairseq_sharnn", "plain"))
    if ours is None or plain is None:
        return []
    needed = breakdown["evaluation_operations_per_byte"]
    most = breakdown["product_ops_per_s"] / needed
    return [
        f"Scoring a byte needs {needed / 1e6:.1f} MFLOP. All of it at the plain product's rate would be {most:,.0f} "
        f"bytes/s, {most / plain:.2f} times that of `plain`; this package reaches {ours / most:.0%} of that.",
        "",
    ]


def _losses(rows: Sequence[Dict]) -> List[str]:
    header = ["type", "dropout", "updates", "first loss", "last loss", "last loss of `plain`", "largest difference"]
    cells = [
        [
            row["type"],
            row["dropout"],
            row["updates"],
            f"{row['first']:.6f}",
            f"{row['last']:.6f}",
            f"{row['last_plain']:.6f}",
            f"{row['largest_difference']:.1e}",
            f"{row['allowed']:.0e}",
            "same" if row["same"] else "DIFFERS",
        ]
        for row in rows
    ]
    what = "Losses in nats of this package and of `plain`, from the same start on the same bytes:"
    return [what, "", *table([*header, "allowed", ""], cells)]
