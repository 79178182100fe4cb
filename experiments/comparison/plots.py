"""The report's plots, PNG and SVG, told apart by marker and line style as well as by colour: they can be printed grey."""

import io
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from experiments.harness.folder import write_text
from fairseq_sharnn.errors import UsageError

_STYLES = (
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


def check_matplotlib() -> None:
    """Raises UsageError when plots cannot be made: better now than after hours of training."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UsageError("the report's plots need matplotlib: pip install 'matplotlib>=3.7,<4'") from None


def draw_all(out: Path, results: Dict[str, Any]) -> List[str]:
    """Draw every plot there is data for into `out`/plots. Returns their names, without the ending."""
    drawn = []
    titles = {item["name"]: item["title"] for item in results["summaries"]}
    for key, label, scale in (("minutes", "minutes of training", 1.0), ("bytes", "million bytes read", 1e-6)):
        lines = curves(results["runs"], titles, key, scale)
        drawn += _lines(out, f"valid-{key}", lines, label, "bits per byte, validation")
        lines = curves(results["long"], titles, key, scale)
        drawn += _lines(out, f"long-valid-{key}", lines, label, "bits per byte, validation")
    for key, label in (("eval", "bytes/s, evaluation"), ("generation", "bytes/s, generation after 1,000 bytes")):
        points = quality_and_speed(results["summaries"], key)
        drawn += _points(out, f"quality-{key}-speed", points, label, "bits per byte, test")
    if results.get("trust"):
        drawn += _trust(out, results["trust"])
    if results.get("context"):
        drawn += _context(out, results["context"], results["idle_memory"])
    return drawn


Lines = List[Tuple[str, List[float], List[float]]]


def curves(runs: Sequence[Dict], titles: Dict[str, str], key: str, scale: float) -> Lines:
    """Validation over a quantity, a line for each contestant: the mean over its seeds at each slice's end."""
    lines: Lines = []
    for name, title in titles.items():
        own = [run["points"] for run in runs if run["contestant"] == name and run["points"]]
        if not own:
            continue
        slices = range(min(len(points) for points in own))
        across = [scale * sum(points[number][key] for points in own) / len(own) for number in slices]
        up = [sum(points[number]["valid_bpb"] for points in own) / len(own) for number in slices]
        lines.append((title, across, up))
    return lines


def quality_and_speed(summaries: Sequence[Dict], kind: str) -> Lines:
    """Speed and test bits per byte of each contestant: for evaluation a point for each way it was evaluated (plain blocks,
    windows that fit SHA-RNN's time, windows half of which is context); one for generation, with the test that counts."""
    points: Lines = []
    for item in summaries:
        if kind == "generation":
            found = [(next(iter(item["generation"].values()), None), item["test_bpb"])]
        else:
            main = item["test"].get("streaming") or item["test"].get("blocks")
            found = [
                (item[f"{key}_bytes_per_second"], test)
                for key, test in (("eval", main), ("window", item["test"]["window"]), ("half", item["half_bpb"]))
            ]
            found = [(speed and speed["mean"], test) for speed, test in found]
        found = [(speed, test["mean"]) for speed, test in found if speed and test]
        if found:
            points.append((item["title"], [speed for speed, _ in found], [test for _, test in found]))
    return points


def _figure(across: str, up: str):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.8), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(True, color="#dddddd", linewidth=0.6)
    return figure, axes


def _lines(out: Path, name: str, lines: Lines, across: str, up: str) -> List[str]:
    if not lines:
        return []
    figure, axes = _figure(across, up)
    for number, (title, xs, ys) in enumerate(lines):
        marker, style, colour = _STYLES[number % len(_STYLES)]
        axes.plot(xs, ys, marker=marker, linestyle=style, color=colour, markersize=5, linewidth=1.4, label=title)
    axes.legend(fontsize=8)
    return _save(figure, out, name)


def _points(out: Path, name: str, points: Lines, across: str, up: str) -> List[str]:
    if not points:
        return []
    figure, axes = _figure(across, up)
    for number, (title, xs, ys) in enumerate(points):
        marker, _, colour = _STYLES[number % len(_STYLES)]
        axes.plot(xs, ys, marker=marker, linestyle=":", color=colour, markersize=8, label=title)
    axes.set_xscale("log")
    axes.legend(fontsize=8)
    return _save(figure, out, name)


def _trust(out: Path, trust: Dict[str, List[Dict]]) -> List[str]:
    """A panel for each run, a line for each tensor, grouped by kind through colour and style."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(trust), 4.6), layout="constrained")
    axes_of = figure.subplots(1, len(trust), sharey=True, squeeze=False)[0]
    kinds: Dict[str, int] = {}
    for axes, (title, lines) in zip(axes_of, trust.items()):
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("update")
        axes.set_yscale("log")
        axes.grid(True, color="#dddddd", linewidth=0.6)
        updates = [line["update"] for line in lines]
        for name in lines[0]["trust"] if lines else ():
            kind = kind_of_tensor(name)
            label = kind if kind not in kinds else None
            _, style, colour = _STYLES[kinds.setdefault(kind, len(kinds)) % len(_STYLES)]
            values = [line["trust"].get(name, float("nan")) for line in lines]
            axes.plot(updates, values, linestyle=style, color=colour, linewidth=0.9, label=label)
    axes_of[0].set_ylabel("trust ratio")
    figure.legend(loc="outside lower center", fontsize=8, ncols=4)
    return _save(figure, out, "trust-ratios")


def kind_of_tensor(name: str) -> str:
    """What sort of tensor a parameter is, by its name."""
    for part, kind in (
        ("embed", "embedding"),
        ("output_bias", "output bias"),
        ("lstm.weight", "LSTM weights"),
        ("lstm.bias", "LSTM biases"),
        ("ln_", "LayerNorms"),
        ("gate", "static vectors"),
        (".value.expand", "static vectors' networks"),
        ("attention.query", "attention query"),
        ("boom", "Boom"),
    ):
        if part in name:
            return kind
    return "other"


def _context(out: Path, context: Dict, idle: int) -> List[str]:
    good = [item for item in context["lengths"] if item["reason"] is None]
    if not good:
        return []
    lengths = [item["context"] for item in good]
    figure, axes = _figure("context length, bytes", "bits per byte, test")
    axes.plot(
        lengths, [item["bpb"] for item in good], marker="o", linestyle="-", color="#000000", label="bits per byte"
    )
    axes.set_xscale("log", base=2)
    axes.axvline(context["trained_with"], color="#777777", linestyle=":", label="context in training")
    other = axes.twinx()
    slowest = good[0]["bytes_per_second"]
    ratio = [slowest / item["bytes_per_second"] for item in good]
    other.plot(lengths, ratio, marker="s", linestyle="--", color="#d55e00", label="time, of the shortest's")
    own = [item["peak_memory"] - idle for item in good]  # without what Python with fairseq holds in any case
    if min(own) > 0:
        memory = [item / own[0] for item in own]
        label = "peak memory above the program's, of the shortest's"
        other.plot(lengths, memory, marker="^", linestyle="-.", color="#0072b2", label=label)
    other.set_ylabel("times that of the shortest context")
    handles = [*axes.get_legend_handles_labels()[0], *other.get_legend_handles_labels()[0]]
    labels = [*axes.get_legend_handles_labels()[1], *other.get_legend_handles_labels()[1]]
    figure.legend(handles, labels, loc="outside lower center", fontsize=8, ncols=2)
    return _save(figure, out, "context-length")


def _save(figure, out: Path, name: str) -> List[str]:
    folder = out / "plots"
    folder.mkdir(parents=True, exist_ok=True)
    svg = io.StringIO()
    figure.savefig(svg, format="svg", metadata={"Date": None})
    write_text(folder / f"{name}.svg", svg.getvalue())
    temporary = folder / f"{name}.png.tmp"
    figure.savefig(temporary, format="png", dpi=120)
    temporary.replace(folder / f"{name}.png")
    return [name]
