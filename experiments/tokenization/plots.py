"""The plots of the report, PNG and SVG, in the style of all experiments."""

from pathlib import Path
from typing import Dict

from experiments.harness.plots import legend_below, panels, plain_ticks, save, style_of
from experiments.tokenization.plan import MODELS, StudyRun
from experiments.tokenization.records import CANONICAL, EASIEST, RunResult, SegmentationFigures, StudyResult

HATCHES = ("", "///")  # bars of two models differ also in grey
LINES = ("-", "--")


def draw_all(out: Path, result: StudyResult) -> None:
    """Draw all plots into the output folder."""
    tokenizations = result.plan.tokenizations
    _scale(out, tokenizations, result.runs)
    _positions(out, tokenizations, result.runs)
    _segmentations(out, [name for name in tokenizations if name != "words"], result.runs)


def _scale(out: Path, tokenizations, runs: Dict[StudyRun, RunResult]) -> None:
    """Left: perplexity per token, which no two tokenizations share. Right: bits per byte."""
    figure, (left, right) = panels(2, width=9.0, height=4.0)
    width = 0.8 / len(MODELS)
    for number, (model, title) in enumerate(MODELS.items()):
        places = [place + (number - (len(MODELS) - 1) / 2) * width for place in range(len(tokenizations))]
        scales = [runs[StudyRun(name, model)].scale for name in tokenizations]
        style = {"color": style_of(number + 1).colour, "hatch": HATCHES[number], "edgecolor": "white"}
        left.bar(places, [scale.token_perplexity for scale in scales], width, label=title, **style)
        right.bar(places, [scale.bits_per_byte for scale in scales], width, **style)
    left.set(title="each on its own scale", ylabel="perplexity per token", yscale="log")
    left.set_ylim(bottom=1.0)  # the perplexity of a model that is always right
    plain_ticks(left.yaxis)
    right.set(title="all on one scale", ylabel="bits per byte of the text")
    for axes in (left, right):
        axes.set_xticks(range(len(tokenizations)), tokenizations, rotation=20)
    legend_below(figure, left)
    save(figure, out / "scale")


def _positions(out: Path, tokenizations, runs: Dict[StudyRun, RunResult]) -> None:
    """A panel for each model: bits by position inside the word."""
    figure, axes_of = panels(len(MODELS), width=9.0, height=4.0, share_up=True)
    for axes, (model, title) in zip(axes_of, MODELS.items()):
        for number, name in enumerate(tokenizations):
            rows = runs[StudyRun(name, model)].words.by_position
            style = style_of(number)
            axes.plot(
                [row.position for row in rows],
                [row.bits for row in rows],
                style.marker,
                linestyle=style.line,
                color=style.colour,
                label=name,
            )
        axes.set(title=title, xlabel="token of the word (last: and later ones)")
    axes_of[0].set_ylabel("bits, given the true tokens before")
    legend_below(figure, axes_of[0], columns=len(tokenizations))
    save(figure, out / "positions")


def _segmentations(out: Path, tokenizations, runs: Dict[StudyRun, RunResult]) -> None:
    """Left: the sum over segmentations. Right: how far the search moves two figures of the same text."""
    figure, (left, right) = panels(2, width=9.0, height=4.8)
    for line, (model, title) in zip(LINES, MODELS.items()):
        for number, name in enumerate(tokenizations):
            attack, style = runs[StudyRun(name, model)].attack, style_of(number)
            look = {"linestyle": line, "color": style.colour, "marker": style.marker, "markersize": 5}
            bits = attack.summed.bits_per_word
            left.plot(list(bits), [bits[1] - value for value in bits.values()], label=f"{name}, {title}", **look)
            rows = {row.segmentation: row for row in attack.searched}
            before, after = _point(rows[CANONICAL]), _point(rows[EASIEST])
            right.plot(*zip(before, after), **look)
            right.annotate("", xy=after, xytext=before, arrowprops={"arrowstyle": "->", "color": style.colour})
    left.set(title="probability on other segmentations", xlabel="summed over the n best", ylabel="bits per word gained")
    left.set_xscale("log", base=2)
    sizes = list(bits)
    left.set_xticks(sizes, [str(size) for size in sizes])
    right.set(title="arrow: canonical to easiest looking", xlabel="perplexity per token", ylabel="bits per word")
    right.set_xscale("log")
    plain_ticks(right.xaxis)
    legend_below(figure, left, columns=4)
    save(figure, out / "segmentations")


def _point(row: SegmentationFigures):
    return row.token_perplexity, row.bits_per_word
