"""The plots of a report, and what one should see in each."""

from pathlib import Path
from typing import Any, Dict, List, Sequence

from experiments.comparison.equal_time import method_curves
from experiments.comparison.presets import CPU_TIME
from experiments.comparison.records import ContextLengths, RunRecord
from experiments.comparison.results import Results
from experiments.comparison.summary import Summary
from experiments.harness.plots import (
    Series,
    legend_below,
    lines,
    panels,
    plain_number,
    plain_ticks,
    points,
    save,
    style_of,
)

CAPTIONS = {
    "valid-minutes": "Validation against training time, mean over seeds. The lower line is better at an equal time",
    "valid-bytes": "Validation against bytes read, mean over seeds. The lower line learns more from the same text; a line "
    "that ends further left reads more slowly",
    "long-valid-minutes": "The longer runs: validation against training time. Lower is better",
    "long-valid-bytes": "The longer runs: validation against bytes read. Lower is better",
    "quality-eval-speed": "Test against evaluation speed. Further down is better, further right is faster. Joined points "
    "are one model, evaluated without and with context in its windows",
    "methods": "Test against seconds of evaluation, a point for each method of a model. Further down is better, further "
    "left is faster",
    "quality-generation-speed": "Test against generation speed. Further down is better, further right is faster",
    "trust-ratios": "Trust ratio of every tensor over training. A minimum trust, if there is one (0.25 as published), shows "
    "as a flat line below which no tensor goes",
    "context-length": "One trained model with other context lengths. Bits per byte (black) belong to the left axis; time "
    "and memory, as multiples of the shortest context's, to the right axis",
}
VALIDATION = "bits per byte, validation"


def draw_all(out: Path, results: Results) -> List[str]:
    """Draw every plot that there is data for into `out`/plots. Returns their names, without endings."""
    titles = {item.name: item.title for item in results.summaries}
    folder = out / "plots"
    drawn = []
    clock = "minutes of training" + (", processor time" if results.setting.preset.charge == CPU_TIME else "")
    for attribute, label, scale in (("minutes", clock, 1.0), ("bytes", "million bytes read", 1e-6)):
        for name, runs in ((f"valid-{attribute}", results.runs), (f"long-valid-{attribute}", results.long)):
            series = curves(runs, titles, attribute, scale)
            if series:
                lines(folder / name, series, label, VALIDATION)
                drawn.append(name)
    written = f"generation after {results.setting.preset.prompts[0]:,} bytes, bytes/s"
    for name, series, label in (
        ("quality-eval-speed", evaluation_speeds(results.summaries), "evaluation, bytes/s"),
        ("quality-generation-speed", generation_speeds(results.summaries), written),
    ):
        if series:
            points(folder / name, series, label, "bits per byte, test")
            drawn.append(name)
    if results.methods:
        points(folder / "methods", method_curves(results), "seconds of evaluation", "bits per byte, test")
        drawn.append("methods")
    if results.trust:
        _draw_trust(folder / "trust-ratios", results.trust)
        drawn.append("trust-ratios")
    if results.context and any(item.reason is None for item in results.context.lengths):
        _draw_context(folder / "context-length", results.context, results.setting.idle_memory)
        drawn.append("context-length")
    return drawn


def curves(runs: Sequence[RunRecord], titles: Dict[str, str], attribute: str, scale: float) -> List[Series]:
    """Validation over an attribute of points, a line for each contestant: the mean over its seeds at each slice's end."""
    series = []
    for name, title in titles.items():
        points_of = [run.points for run in runs if run.contestant == name and run.points]
        if points_of:
            slices = list(zip(*points_of))  # as many as the run that has come least far
            across = [scale * sum(getattr(point, attribute) for point in ends) / len(ends) for ends in slices]
            up = [sum(point.valid_bpb for point in ends) / len(ends) for ends in slices]
            series.append(Series(title, across, up))
    return series


def evaluation_speeds(summaries: Sequence[Summary]) -> List[Series]:
    """Speed and test of each contestant: a point for each way in which it was evaluated."""
    series = []
    for item in summaries:
        scored = [way for way in (item.main, item.window, item.half) if way.bpb and way.bytes_per_second]
        if scored:
            speeds = [way.bytes_per_second.mean for way in scored]
            series.append(Series(item.title, speeds, [way.bpb.mean for way in scored]))
    return series


def generation_speeds(summaries: Sequence[Summary]) -> List[Series]:
    """Speed after the shorter prompt, and the test that counts, of each contestant."""
    return [
        Series(item.title, [next(iter(item.generation.values()))], [item.test_bpb.mean])
        for item in summaries
        if item.generation and item.test_bpb
    ]


def _draw_trust(path: Path, trust: Dict[str, List[Dict[str, Any]]]) -> None:
    """A panel for each run, a line for each tensor; one style for each kind of tensor."""
    figure, axes_of = panels(len(trust), 4.2 * len(trust), 4.6, share_up=True)
    kinds: Dict[str, int] = {}
    for axes, (title, log) in zip(axes_of, trust.items()):
        axes.set_title(title, fontsize=10)
        axes.set(xlabel="update", yscale="log")
        updates = [line["update"] for line in log]
        for name in log[0]["trust"]:
            kind = kind_of_tensor(name)
            label = kind if kind not in kinds else None
            style = style_of(kinds.setdefault(kind, len(kinds)))
            values = [line["trust"].get(name, float("nan")) for line in log]
            axes.plot(updates, values, linestyle=style.line, color=style.colour, linewidth=0.9, label=label)
    plain_ticks(axes_of[0].yaxis)
    axes_of[0].set_ylabel("trust ratio")
    legend_below(figure, *axes_of, columns=4)
    save(figure, path)


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


def _draw_context(path: Path, context: ContextLengths, idle_memory: int) -> None:
    measured = [item for item in context.lengths if item.reason is None]
    lengths = [item.context for item in measured]
    figure, (axes,) = panels()
    axes.set(xlabel="context length, bytes", ylabel="bits per byte, test")
    axes.set_xscale("log", base=2)
    axes.set_xticks(lengths, [plain_number(length) for length in lengths], rotation=30)
    axes.minorticks_off()
    own = [item.peak_memory - idle_memory for item in measured]  # without what Python with fairseq holds in any case
    ratios = [("time", [measured[0].bytes_per_second / item.bytes_per_second for item in measured])]
    if min(own) > 0:
        ratios.append(("peak memory above the program's", [item / own[0] for item in own]))
    quality = style_of(0)
    bits = [item.bpb for item in measured]
    axes.plot(lengths, bits, quality.marker, linestyle=quality.line, color=quality.colour, label="bits per byte (left)")
    axes.axvline(context.trained_with, color="#777777", linestyle=":", label="context in training")
    right = axes.twinx()
    right.set_ylabel("times that of the shortest context")
    for number, (title, values) in enumerate(ratios, start=1):
        style = style_of(number)
        right.plot(lengths, values, style.marker, linestyle=style.line, color=style.colour, label=f"{title} (right)")
    legend_below(figure, axes, right)
    save(figure, path)
