"""The report of gpu_acceptance.py, as Markdown."""

from typing import Any, Dict, List

from experiments.harness.markdown import table


def as_markdown(result: Dict[str, Any]) -> str:
    """All stages so far: a table of rows each, and what failed."""
    lines = ["# GPU acceptance", "", f"    {result['command']}", ""]
    if not result["finished"]:
        lines += ["This report is not complete: the program is running, or it was stopped.", ""]
    for entry in result["stages"].values():
        lines += [f"## {entry['title']}", "", *_table(entry["rows"])]
        lines += [f"- failed: {reason}" for reason in entry["failed"]]
        lines += [""] * bool(entry["failed"])
    lines += [
        "Speed: medians; all float32 products may use TF32; `plain` is fairseq_sharnn/reference.py. Peak memory is the "
        "allocator's on a GPU, and that of the whole process on a CPU. The estimate is fairseq_sharnn/portable/gpu.py's. "
        "Golden tensors and losses are computed without TF32.",
        "",
    ]
    return "\n".join(lines)


def _table(rows: List[Dict[str, Any]]) -> List[str]:
    """A table with a column for every key."""
    if not rows:
        return []
    header = list(dict.fromkeys(key for row in rows for key in row))
    return table(header, [[str(row.get(key, "")).replace("|", "/") for key in header] for row in rows])
