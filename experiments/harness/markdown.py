"""Numbers and tables in Markdown."""

from typing import Any, Dict, List, Optional, Sequence


def number(value: Optional[Dict], digits: int = 0, scale: float = 1.0) -> str:
    """`mean ± deviation` of a spread over seeds."""
    if value is None:
        return "–"
    text = f"{value['mean'] * scale:,.{digits}f}"
    return text if value["count"] < 2 else f"{text} ± {value['deviation'] * scale:,.{digits}f}"


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> List[str]:
    """A table in Markdown, without columns that have nothing to say in any row."""
    kept = [column for column in range(len(header)) if any(row[column] not in ("–", "") for row in rows)]
    header, rows = [header[column] for column in kept], [[row[column] for column in kept] for row in rows]
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows] + [""]
