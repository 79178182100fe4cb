"""Reports as Markdown, and files that are whole or not there."""

import os
from pathlib import Path
from typing import Dict, List, Sequence


def write_whole(path: Path, text: str) -> None:
    """Write a file under a temporary name and give it its own at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> List[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def machine_line(machine: Dict) -> str:
    place = machine["gpu"] or f"{machine['cpu']}, {machine['threads']} threads ({machine['capability']})"
    kernels = "with" if machine["cpu_kernels"] else "without"
    return (
        f"{place}; Python {machine['python']}, torch {machine['torch']}, fairseq {machine['fairseq']}, {kernels} the CPU "
        f"kernels; {machine['date']}"
    )


def speed_report(result: Dict) -> str:
    """The report of speed.py."""
    lines = [
        "# Speed",
        "",
        machine_line(result["machine"]),
        "",
        f"    {result['command']}",
        "",
        "Each contestant in a process of its own, taking turns; medians. Bytes/s, and how many times plain.py's in "
        "brackets. plain.py and this package train with LAMB, transformer_lm (which sees its chunk alone, not a long "
        "memory) with torch's Adam. Peak memory: the whole process on CPU, the allocator's on a GPU.",
        "",
    ]
    for label, entry in result["cases"].items():
        case, workloads = entry["case"], entry["workloads"]
        lines += [
            f"## {label}: D {case['width']}, H {case['boom_width']}, L {case['layers']}, T {case['length']}, "
            f"C {case['context']}, dropout {case['dropout']}",
            "",
            *_throughput(workloads),
            "",
        ]
        if entry["breakdown"]:
            lines += [*_pieces(entry["breakdown"]), "", *_ceiling(entry["breakdown"], workloads.get("evaluation", {}))]
    if "losses" in result:
        same = all(row["same"] for row in result["losses"])
        title = "The numbers are the same" if same else "THE NUMBERS DIFFER: no figure above counts"
        lines += [f"## {title}", "", *_losses(result["losses"]), ""]
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
        f"One training update ({breakdown['update_seconds'] * 1e3:.0f} ms) and its pieces alone, in turns. In the same "
        f"turns a plain matrix product reached {product / 1e9:,.0f} GFLOP/s and a plain copy {copy / 1e9:.1f} GB/s, read "
        "and written. `rest` is the update less the pieces.",
        "",
        *table(
            ["piece", "time", "share", "GFLOP needed", "of the product's rate", "GB to move", "of the copy's rate"],
            rows,
        ),
    ]


def _ceiling(breakdown: Dict, evaluation: Dict[str, Dict]) -> List[str]:
    """What the arithmetic leaves evaluation at the most, if all of it went at the plain product's rate."""
    ours, plain = (evaluation.get(name, {}).get("bytes_per_s") for name in ("fairseq_sharnn", "plain"))
    if ours is None or plain is None:
        return []
    needed = breakdown["evaluation_operations_per_byte"]
    most = breakdown["product_ops_per_s"] / needed
    return [
        f"Scoring a byte needs {needed / 1e6:.1f} MFLOP. All of it at the plain product's rate would be {most:,.0f} "
        f"bytes/s, {most / plain:.2f} times plain.py's; this package reaches {ours / most:.0%} of that.",
        "",
    ]


def _losses(rows: Sequence[Dict]) -> List[str]:
    lines = table(
        [
            "type",
            "dropout",
            "updates",
            "first loss",
            "last loss",
            "plain.py's last",
            "largest difference",
            "allowed",
            "",
        ],
        [
            [
                row["type"],
                str(row["dropout"]),
                str(row["updates"]),
                f"{row['first']:.6f}",
                f"{row['last']:.6f}",
                f"{row['last_plain']:.6f}",
                f"{row['largest_difference']:.1e}",
                f"{row['allowed']:.0e}",
                "same" if row["same"] else "DIFFERS",
            ]
            for row in rows
        ],
    )
    return ["Losses in nats, this package and plain.py from the same start on the same bytes:", "", *lines]
