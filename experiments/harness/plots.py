"""The style of all plots: PNG and SVG, legends below the axes, plain numbers, and lines that differ also in grey."""

import io
from pathlib import Path
from typing import Any, List, NamedTuple, Sequence, Tuple

from fairseq_sharnn.errors import UsageError
from fairseq_sharnn.files import write_whole


class Style(NamedTuple):
    """Marker, line and colour of one series."""

    marker: str
    line: Any
    colour: str


STYLES = tuple(
    Style(*style)
    for style in (
        ("o", "-", "#000000"),
        ("s", "--", "#d55e00"),
        ("^", "-.", "#0072b2"),
        ("D", ":", "#009e73"),
        ("v", (0, (5, 1)), "#cc79a7"),
        ("P", (0, (3, 1, 1, 1)), "#e69f00"),
        ("X", (0, (1, 1)), "#56b4e9"),
        ("<", (0, (8, 2)), "#555555"),
        (">", (0, (4, 2, 1, 2, 1, 2)), "#999933"),
        ("*", (0, (2, 3)), "#882255"),
        ("h", (0, (6, 1, 1, 1)), "#44aa99"),
        ("p", (0, (3, 3)), "#ddcc77"),
        ("d", (0, (1, 3)), "#332288"),
        ("H", (0, (10, 3)), "#117733"),
    )
)


class Series(NamedTuple):
    """One line of a plot, or joined points: its title, and the values across and up."""

    title: str
    across: Sequence[float]
    up: Sequence[float]


def style_of(number: int) -> Style:
    """The style of the n-th series, from 0; they repeat after 14."""
    return STYLES[number % len(STYLES)]


def check_matplotlib() -> None:
    """Raises UsageError when plots cannot be made, so that a program can say so before hours of training."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UsageError("the report's plots need matplotlib: pip install 'matplotlib>=3.7,<4'") from None


def panels(count: int = 1, width: float = 8.0, height: float = 5.4, share_up: bool = False) -> Tuple[Any, List[Any]]:
    """A figure and its axes in one row; sizes in inches. share_up: one scale upwards for all."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes_of = list(figure.subplots(1, count, sharey=share_up, squeeze=False)[0])
    for axes in axes_of:
        axes.grid(True, color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
    return figure, axes_of


def lines(path: Path, series: Sequence[Series], across: str, up: str) -> None:
    """Draw a line for each series into `path`.png and `path`.svg. across, up: labels of the axes."""
    figure, (axes,) = panels()
    axes.set(xlabel=across, ylabel=up)
    for number, (title, xs, ys) in enumerate(series):
        style = style_of(number)
        axes.plot(
            *(xs, ys, style.marker), linestyle=style.line, color=style.colour, markersize=5, linewidth=1.4, label=title
        )
    legend_below(figure, axes)
    save(figure, path)


def points(path: Path, series: Sequence[Series], across: str, up: str) -> None:
    """Draw the points of each series, joined by a thin line, across a logarithmic axis."""
    figure, (axes,) = panels()
    axes.set(xlabel=across, ylabel=up, xscale="log")
    for number, (title, xs, ys) in enumerate(series):
        style = style_of(number)
        axes.plot(xs, ys, style.marker, linestyle=":", color=style.colour, markersize=8, label=title)
    plain_ticks(axes.xaxis)
    legend_below(figure, axes)
    save(figure, path)


def plain_ticks(axis) -> None:
    """Whole numbers such as 20,000 on a logarithmic axis, instead of powers of ten."""
    from matplotlib import ticker

    low, high = axis.get_view_interval()
    if high < 3 * low:  # 1, 2 and 5 times a power of ten would be too few
        axis.set_major_locator(ticker.MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    else:
        axis.set_major_locator(ticker.LogLocator(10, subs=(1.0, 2.0, 5.0) if high < 1000 * low else (1.0,)))
    axis.set_minor_locator(ticker.NullLocator())
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: plain_number(value)))


def plain_number(value: float) -> str:
    """A number as people write it: 20,000 or 0.05 or 0.000001."""
    return f"{value:,.0f}" if value >= 1000 or value == round(value) else f"{value:.10f}".rstrip("0")


def legend_below(figure, *axes_of, columns: int = 2) -> None:
    """One legend for all axes, below them, where it covers nothing."""
    handles, labels = [], []
    for axes in axes_of:
        for handle, label in zip(*axes.get_legend_handles_labels()):
            handles.append(handle)
            labels.append(label)
    figure.legend(handles, labels, loc="outside lower center", fontsize=8, ncols=columns, frameon=False)


def save(figure, path: Path) -> None:
    """Write `path`.svg and `path`.png, each whole; the same figure gives the same files."""
    from matplotlib import rc_context

    svg, png = io.StringIO(), io.BytesIO()
    with rc_context({"svg.hashsalt": path.name}):
        figure.savefig(svg, format="svg", metadata={"Date": None})
    figure.savefig(png, format="png", dpi=120)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path.with_name(f"{path.name}.svg"), svg.getvalue())
    write_whole(path.with_name(f"{path.name}.png"), png.getvalue())
