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
            lines += [*_pieces(entry["breakdown"]), ""]
    if "losses" in result:
        lines += ["## The numbers are the same", "", *_losses(result["losses"]), ""]
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
    share = f" ({mine['peak_bytes'] / plain['peak_bytes']:.2f})" if "peak_bytes" in plain else ""
    return f"{mine['peak_bytes'] / 1e9:.2f} GB{share}"


def _pieces(breakdown: Dict) -> List[str]:
    product = breakdown["product_ops_per_s"]
    total = sum(piece["seconds"] for piece in breakdown["pieces"].values())
    rows = []
    for name, piece in breakdown["pieces"].items():
        needed = piece["operations"]
        rows.append(
            [
                name,
                f"{piece['seconds'] * 1e3:.1f} ms",
                f"{piece['seconds'] / total:.0%}",
                f"{needed / 1e9:.1f}" if needed else "",
                f"{piece['share_of_product']:.0%}" if needed and piece["seconds"] > 0 else "",
            ]
        )
    return [
        f"One training update, its pieces alone. In the same run a plain matrix product reached {product / 1e9:,.0f} "
        f"GFLOP/s, a plain copy {breakdown['copy_bytes_per_s'] / 1e9:.1f} GB/s.",
        "",
        *table(["piece", "time", "share", "GFLOP needed", "of the plain product's rate"], rows),
    ]


def _losses(rows: Sequence[Dict]) -> List[str]:
    lines = table(
        ["type", "dropout", "updates", "first loss", "last loss", "plain.py's last", "largest difference", "allowed"],
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
            ]
            for row in rows
        ],
    )
    return ["Losses in nats, this package and plain.py from the same start on the same bytes:", "", *lines]
