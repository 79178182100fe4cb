"""Tables, images and numbers in Markdown."""

from typing import Any, List, Optional, Sequence, Tuple

from experiments.harness.spread import Spread

NOTHING = "–"  # a cell without a value


def number(value: Optional[Spread], digits: int = 0, scale: float = 1.0) -> str:
    """`mean ± deviation`; the mean only, where there is a single value."""
    if value is None:
        return NOTHING
    text = f"{value.mean * scale:,.{digits}f}"
    return text if value.count < 2 else f"{text} ± {value.deviation * scale:,.{digits}f}"


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> List[str]:
    """The lines of a table, and an empty line at its end."""
    return [_row(header), "|" + " --- |" * len(header), *map(_row, rows), ""]


def without_empty_columns(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Tuple[List[str], List[List[Any]]]:
    """Header and rows without the columns that have no value in any row."""
    kept = [column for column in range(len(header)) if any(row[column] not in (NOTHING, "") for row in rows)]
    return [header[column] for column in kept], [[row[column] for column in kept] for row in rows]


def _row(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def image(name: str, caption: str) -> List[str]:
    """The image `name`.png with its caption, and a link to `name`.svg."""
    return [f"![{caption}]({name}.png)", "", f"*{caption}* ([SVG]({name}.svg))", ""]
