"""The plots of the report, PNG and SVG."""

import os
from typing import Dict, List

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib import ticker

from experiments.tokenization.plan import Run

Results = Dict[Run, Dict[str, Dict]]
MODELS = {"sha_rnn": "SHA-RNN", "transformer_lm": "Transformer"}
COLOURS = plt.get_cmap("viridis")


def draw(out: str, tokenizations: List[str], models: List[str], results: Results) -> List[str]:
    """Draw all plots into a folder; returns their names without endings."""
    plt.rcParams.update({"svg.hashsalt": "study", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figures = {
        "scale": _scale(tokenizations, models, results),
        "positions": _positions(tokenizations, models, results),
        "segmentations": _segmentations(tokenizations, models, results),
    }
    for name, figure in figures.items():
        figure.tight_layout(rect=(0, 0.1 if figure.legends else 0, 1, 1))
        for ending in ("png", "svg"):
            metadata = {"Date": None} if ending == "svg" else {}
            figure.savefig(os.path.join(out, f"{name}.{ending}"), dpi=130, metadata=metadata)
        plt.close(figure)
    return list(figures)


def _scale(tokenizations, models, results):
    """Left, what each would report of itself; right, the same models on one scale."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
    width = 0.8 / len(models)
    for number, model in enumerate(models):
        places = [place + (number - (len(models) - 1) / 2) * width for place in range(len(tokenizations))]
        scales = [results[Run(name, model)]["scale"] for name in tokenizations]
        colour = COLOURS(0.2 + 0.5 * number)
        left.bar(places, [scale["token_perplexity"] for scale in scales], width, label=MODELS[model], color=colour)
        right.bar(places, [scale["bits_per_byte"] for scale in scales], width, label=MODELS[model], color=colour)
    left.set(title="each on its own: perplexity per token", yscale="log")
    _plain(left.yaxis)
    right.set(title="on one scale: bits per byte of the text")
    for axes in (left, right):
        axes.set_xticks(range(len(tokenizations)), tokenizations, rotation=20)
    left.legend(frameon=False, loc="upper left")
    return figure


def _positions(tokenizations, models, results):
    """Bits by position inside a word."""
    figure, panels = plt.subplots(1, len(models), figsize=(9, 3.4), sharey=True, squeeze=False)
    for axes, model in zip(panels[0], models):
        for number, name in enumerate(tokenizations):
            rows = results[Run(name, model)]["words"]["by_position"]
            colour = COLOURS(number / max(1, len(tokenizations) - 1) * 0.9)
            axes.plot([row["position"] for row in rows], [row["bits"] for row in rows], "o-", label=name, color=colour)
        axes.set(title=MODELS[model], xlabel="token of the word (the last: and later ones)")
    panels[0][0].set_ylabel("bits, given the true tokens before")
    panels[0][-1].legend(frameon=False)
    return figure


def _segmentations(tokenizations, models, results):
    """Left, the sum over segmentations; right, where the search moves two figures of the same text."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.0))
    attacked = [name for name in tokenizations if name != "words"]
    for style, model in zip(("o-", "s--"), models):
        for number, name in enumerate(attacked):
            measured = results[Run(name, model)]["attack"]
            colour = COLOURS(number / max(1, len(attacked) - 1) * 0.9)
            label = f"{name}, {MODELS[model]}"
            bits = measured["summed"]["bits_per_word"]
            gained = [bits["1"] - bits[size] for size in bits]
            left.plot([int(size) for size in bits], gained, style, label=label, color=colour, markersize=4)
            rows = {row["segmentation"]: row for row in measured["searched"]}
            path = [rows[kind] for kind in ("canonical", "easiest looking")]
            right.plot(
                [row["token_perplexity"] for row in path],
                [row["bits_per_word"] for row in path],
                style,
                color=colour,
                markersize=4,
            )
            right.annotate(
                "", xy=_point(path[1]), xytext=_point(path[0]), arrowprops={"arrowstyle": "->", "color": colour}
            )
    left.set(title="probability on other segmentations", xlabel="summed over the n best", ylabel="bits per word gained")
    left.set_xscale("log", base=2)
    figure.legend(*left.get_legend_handles_labels(), loc="lower center", ncols=4, frameon=False, fontsize=7)
    right.set(title="canonical -> easiest looking", xlabel="reported perplexity per token", ylabel="bits per word")
    right.set_xscale("log")
    _plain(right.xaxis)
    return figure


def _plain(axis):
    """Numbers as they are read, on a logarithmic axis."""
    axis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axis.set_minor_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "235" else ""))


def _point(row):
    return row["token_perplexity"], row["bits_per_word"]
